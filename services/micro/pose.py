"""The pose detector: a picture in, and out its people, each as OpenPose's 18 points (x, y, confidence).

A small net gives a heat map for each point and, where a neck is, where that person's other points must be; a point
is the heat's peak near there. It knows the plain figures of the micro family's world, not photographs.
"""

from __future__ import annotations

import json
import random
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from services.micro import world
from services.micro.loop import Loop

POINTS, NECK, NOSE = 18, 1, 0
SIDE, CELL = 128, 4  # pixels of the shorter side (the longer: up to twice as many), and of a heat map's cell
SPREAD = 1.0  # cells
NEAR = 2.5  # cells around the place where a point must be, within which its peak is looked for
PICTURES, BATCH, STEPS = 5000, 16, 700
FOLDER = Path(__file__).parent / "weights" / "pose"
Person = list[tuple[float, float, float]]


def _block(before: int, after: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(before, after, 3, stride=stride, padding=1), nn.GroupNorm(8, after), nn.SiLU()
    )


class PoseNet(nn.Module):
    """Down to an eighth and a sixteenth to see the whole figure, and up again to a quarter to be exact."""

    def __init__(self) -> None:
        super().__init__()
        self.quarter = nn.Sequential(_block(3, 16, 2), _block(16, 32, 2), _block(32, 48), _block(48, 48))
        self.eighth = nn.Sequential(_block(48, 64, 2), _block(64, 64))
        self.sixteenth = nn.Sequential(_block(64, 96, 2), _block(96, 96), _block(96, 96), _block(96, 64))
        self.join = _block(64, 48)
        self.out = nn.Sequential(_block(48, 64), _block(64, 64), nn.Conv2d(64, POINTS * 3, 1))

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Heat (before the sigmoid) and, for each cell, the way in cells to the points of whose neck is there."""
        quarter = self.quarter(pixels)
        eighth = self.eighth(quarter)
        eighth = eighth + F.interpolate(self.sixteenth(eighth), scale_factor=2, mode="nearest")
        joined = quarter + F.interpolate(self.join(eighth), scale_factor=2, mode="nearest")
        said = self.out(joined)
        return said[:, :POINTS], said[:, POINTS:]


@lru_cache(maxsize=2)
def load(folder: Path = FOLDER) -> PoseNet:
    model = PoseNet()
    model.load_state_dict(
        {key: value.float() for key, value in load_file(folder / "model.safetensors").items()}
    )
    return model.eval()


@torch.no_grad()
def detect(picture: Image.Image, model: PoseNet | None = None, *, threshold: float = 0.35) -> list[Person]:
    """The people of a picture from left to right, in its own pixels; a point not seen has confidence 0."""
    model = model or load()
    scale = min(SIDE / min(picture.size), 2 * SIDE / max(picture.size))
    size = (max(8, round(picture.width * scale)), max(8, round(picture.height * scale)))
    pixels = np.asarray(picture.convert("RGB").resize(size, Image.Resampling.BOX))
    wide, high = (-(-side // 16) * 16 for side in size)
    pixels = np.pad(pixels, ((0, high - size[1]), (0, wide - size[0]), (0, 0)), mode="edge")
    batch = torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None].float() / 127.5 - 1
    heat, ways = model(batch)
    people = _people(heat[0].sigmoid(), ways[0], threshold)
    across, down = picture.width / size[0], picture.height / size[1]
    return [[(x * across, y * down, sure) for x, y, sure in person] for person in people]


def _people(heat: Tensor, ways: Tensor, threshold: float) -> list[Person]:
    neck = heat[NECK]
    peaks = (neck == F.max_pool2d(neck[None, None], 7, 1, 3)[0, 0]) & (neck > threshold)
    people = []
    for row, column in peaks.nonzero().tolist():
        person: Person = []
        for point in range(POINTS):
            x = column + float(ways[2 * point, row, column])
            y = row + float(ways[2 * point + 1, row, column])
            person.append(_peak(heat[point], x, y))
        people.append(person)
    return sorted(people, key=lambda person: person[NECK][0])


def _peak(heat: Tensor, x: float, y: float) -> tuple[float, float, float]:
    """The heat's peak near (x, y), and between the cells by its neighbours; pixels out."""
    rows, columns = torch.meshgrid(
        torch.arange(heat.shape[0]).float(), torch.arange(heat.shape[1]).float(), indexing="ij"
    )
    near = heat * (((rows - y) ** 2 + (columns - x) ** 2) < NEAR**2)
    place = int(near.argmax())
    sure = float(near.flatten()[place])
    if sure < 0.08:
        return (x + 0.5) * CELL, (y + 0.5) * CELL, 0.0
    row, column = divmod(place, heat.shape[1])
    window = heat * (((rows - row).abs() <= 1) & ((columns - column).abs() <= 1))
    total = window.sum()
    return (
        (float((window * columns).sum() / total) + 0.5) * CELL,
        (float((window * rows).sum() / total) + 0.5) * CELL,
        min(sure, 1.0),
    )


# Training


def scene(rng: random.Random) -> world.Scene:
    """Mostly people, in any pose; two side by side at times, or none."""
    fate = rng.random()
    if fate < 0.2:
        return world.sample(rng, person=0.0)
    background, colour = rng.sample(list(world.COLOURS), 2)
    person = world.sample_person(rng, colour, pose=None if rng.random() < 0.65 else "any")
    if fate < 0.4:
        other = world.sample_person(rng, colour, pose=None if rng.random() < 0.65 else "any")
        person = replace(person, x=rng.uniform(0.2, 0.32), radius=rng.uniform(0.25, 0.36))
        other = replace(other, x=rng.uniform(0.68, 0.8), radius=rng.uniform(0.25, 0.36))
        return world.Scene(background, (person, other))
    return world.Scene(background, (replace(person, x=rng.uniform(0.25, 0.75), y=rng.uniform(0.44, 0.56)),))


def targets(drawn: world.Scene, side: int = SIDE) -> tuple[Tensor, Tensor, Tensor]:
    """Heat, ways, and where ways count: around each neck."""
    cells = side // CELL
    heat = torch.zeros(POINTS, cells, cells)
    ways, count = torch.zeros(POINTS * 2, cells, cells), torch.zeros(cells, cells)
    rows, columns = torch.meshgrid(torch.arange(cells).float(), torch.arange(cells).float(), indexing="ij")
    for thing in drawn.things:
        if thing.kind != "person":
            continue
        points = [(x / CELL - 0.5, y / CELL - 0.5) for x, y in world.keypoints(thing, side, side)]
        neck = points[NECK]
        around = ((columns - neck[0]) ** 2 + (rows - neck[1]) ** 2) < 2.3**2
        count[around] = 1
        for index, (x, y) in enumerate(points):
            blob = torch.exp(-((columns - x) ** 2 + (rows - y) ** 2) / (2 * SPREAD**2))
            heat[index] = torch.maximum(heat[index], blob)
            ways[2 * index][around] = (x - columns)[around]
            ways[2 * index + 1][around] = (y - rows)[around]
    return heat, ways, count


def train(work: Path, steps: int = STEPS, pictures: int = PICTURES) -> PoseNet:
    from services.micro.judge import worn

    torch.manual_seed(9)
    rng = random.Random(91)
    scenes = [scene(rng) for _ in range(pictures)]
    images = torch.from_numpy(np.stack([np.asarray(world.draw(drawn)) for drawn in scenes])).permute(
        0, 3, 1, 2
    )
    wanted = [targets(drawn) for drawn in scenes]
    heats, ways, counts = (torch.stack(part).to(torch.float16) for part in zip(*wanted, strict=True))
    model = PoseNet()
    loop = Loop("pose", {"pose": model}, steps, lr=2e-3, work=work, average=0.99)

    def loss(step: int) -> tuple[Tensor, dict[str, float]]:
        chance = torch.Generator().manual_seed(step)
        chosen = torch.randint(200, len(images), (BATCH,), generator=chance)
        pixels = images[chosen].float() / 127.5 - 1
        if step % 2:  # colours of no name: the channels mixed
            pixels = pixels * (torch.rand(BATCH, 3, 1, 1, generator=chance) * 1.6 - 0.8)
            pixels = pixels[:, torch.randperm(3, generator=chance)]
        with torch.autocast("cpu", torch.bfloat16):
            heat, way = model(worn(pixels, chance))
        wished = heats[chosen].float()
        weight = 1 + 20 * wished
        first = (F.binary_cross_entropy_with_logits(heat.float(), wished, reduction="none") * weight).mean()
        count = counts[chosen].float()[:, None]
        second = ((way.float() - ways[chosen].float()).abs() * count).sum() / (count.sum() * POINTS * 2 + 1)
        return first + 0.05 * second, {"heat": float(first.detach()), "way": float(second.detach())}

    def look(done: int) -> str:
        model.eval()
        found, offs = 0, []
        for drawn, image in zip(scenes[:100], images[:100], strict=True):
            people = detect(Image.fromarray(image.permute(1, 2, 0).numpy()), model)
            truth = [world.keypoints(thing) for thing in drawn.things if thing.kind == "person"]
            found += len(people) == len(truth)
            for person, true in zip(people, sorted(truth, key=lambda p: p[NECK][0]), strict=False):
                offs += [max(abs(x - a), abs(y - b)) for (x, y, _), (a, b) in zip(person, true, strict=True)]
        model.train()
        share = np.mean(np.array(offs or [99]) < SIDE / 32)
        return f"people counted right {found / 100:.2f}, points within a 32nd of the side {share:.3f}"

    loop.run(loss, look=look, looks=300)
    loop.averaged()
    folder = work / "pose"
    folder.mkdir(exist_ok=True)
    half = {key: value.to(torch.float16).contiguous() for key, value in model.state_dict().items()}
    save_file(half, folder / "model.safetensors")
    (folder / "config.json").write_text(
        json.dumps({"side": SIDE, "cell": CELL, "points": POINTS}, indent=2) + "\n"
    )
    return model
