"""The judge: a picture in, and out what it shows: colours, kind, position, size, texture, pose.

A small convolutional net, trained on drawings alone (blurred, noisy, tinted), never on a generated picture: so it
may say whether a prompt was obeyed.
"""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from services.micro import world
from services.micro.loop import Loop

SIDE, WIDTHS = 64, (24, 48, 96, 128)
PICTURES, BATCH, STEPS = 16_000, 48, 1050
FOLDER = Path(__file__).parent / "weights" / "judge"


class Judge(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        before = 3
        for width in WIDTHS:
            layers += [
                nn.Conv2d(before, width, 3, padding=1),
                nn.GroupNorm(8, width),
                nn.SiLU(),
                nn.Conv2d(width, width, 3, stride=2, padding=1),
                nn.GroupNorm(8, width),
                nn.SiLU(),
            ]
            before = width
        self.body = nn.Sequential(*layers)
        self.out = nn.Sequential(
            nn.Flatten(),
            nn.Linear(WIDTHS[-1] * (SIDE // 16) ** 2, 192),
            nn.SiLU(),
            nn.Linear(192, sum(world.QUESTIONS.values())),
        )

    def forward(self, pixels: Tensor) -> list[Tensor]:
        said: Tensor = self.out(self.body(pixels))
        return list(torch.split(said, list(world.QUESTIONS.values()), -1))


def load(folder: Path = FOLDER) -> Judge:
    model = Judge()
    model.load_state_dict(
        {key: value.float() for key, value in load_file(folder / "model.safetensors").items()}
    )
    return model.eval()


@torch.no_grad()
def answers(model: Judge, pictures: list[Image.Image]) -> list[list[int]]:
    """For each picture the index of the answer to each of the world's questions."""
    out: list[list[int]] = []
    for start in range(0, len(pictures), 64):
        batch = torch.stack([_pixels(picture) for picture in pictures[start : start + 64]])
        said = model(batch.float() / 127.5 - 1)
        out += torch.stack([part.argmax(-1) for part in said], -1).tolist()
    return out


def _pixels(picture: Image.Image) -> Tensor:
    small = picture.convert("RGB").resize((SIDE, SIDE), Image.Resampling.BOX)
    return torch.from_numpy(np.asarray(small).copy()).permute(2, 0, 1)


def worn(pixels: Tensor, rng: torch.Generator) -> Tensor:
    """Pictures in -1..1 as a generator might give them: tinted, softened, noisy."""
    count = len(pixels)
    pixels = pixels + 0.06 * torch.randn(count, 3, 1, 1, generator=rng)
    pixels = pixels * (1 + 0.06 * torch.randn(count, 1, 1, 1, generator=rng))
    soft = F.avg_pool2d(F.pad(pixels, (1, 1, 1, 1), mode="replicate"), 3, 1)
    share = torch.rand(count, 1, 1, 1, generator=rng)
    pixels = pixels + (soft - pixels) * share
    grain = torch.rand(count, 1, 1, 1, generator=rng) * 0.15
    return (pixels + grain * torch.randn(pixels.shape, generator=rng)).clamp(-1.1, 1.1)


def train(work: Path, steps: int = STEPS) -> Judge:
    torch.manual_seed(8)
    rng = random.Random(81)
    scenes = [world.sample(rng, person=0.25) for _ in range(PICTURES)]
    images = torch.stack([_pixels(world.draw(scene)) for scene in scenes])
    truth = torch.tensor([world.answers(scene) for scene in scenes])
    model = Judge()
    loop = Loop("judge", {"judge": model}, steps, lr=2e-3, work=work, average=0.99)
    held = 1000

    def loss(step: int) -> tuple[Tensor, dict[str, float]]:
        chance = torch.Generator().manual_seed(step)
        chosen = torch.randint(held, len(images), (BATCH,), generator=chance)
        with torch.autocast("cpu", torch.bfloat16):
            said = model(worn(images[chosen].float() / 127.5 - 1, chance))
        parts = [F.cross_entropy(part.float(), truth[chosen, i]) for i, part in enumerate(said)]
        return torch.stack(parts).sum(), {}

    @torch.no_grad()
    def look(done: int) -> str:
        said = torch.tensor(
            answers(model, [Image.fromarray(p.permute(1, 2, 0).numpy()) for p in images[:held]])
        )
        shares = (said == truth[:held]).float().mean(0).tolist()
        return ", ".join(f"{name} {share:.3f}" for name, share in zip(world.QUESTIONS, shares, strict=True))

    loop.run(loss, look=look, looks=400)
    loop.averaged()
    folder = work / "judge"
    folder.mkdir(exist_ok=True)
    half = {key: value.to(torch.float16).contiguous() for key, value in model.state_dict().items()}
    save_file(half, folder / "model.safetensors")
    config: dict[str, Any] = {"side": SIDE, "widths": WIDTHS, "questions": world.QUESTIONS}
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    return model
