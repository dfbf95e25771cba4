"""ControlNets: a map of edges or of poses in, and out what the UNet must hear to follow it.

Canny's maps are OpenCV's; poses are drawn in OpenPose's colours, as thick or as thin as tools draw them.
"""

# diffusers and transformers are typed only in part
# mypy: disable-error-code="no-untyped-call,attr-defined,no-any-return"

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL, ControlNetModel, DDPMScheduler, UNet2DConditionModel
from PIL import Image, ImageDraw
from torch import Tensor

from services.micro import unet, world
from services.micro.loop import Loop, keep

PICTURES, BATCH, STEPS = 4000, 24, 800
LIMBS = (
    (1, 2), (1, 5), (2, 3), (3, 4), (5, 6), (6, 7), (1, 8), (8, 9), (9, 10), (1, 11), (11, 12), (12, 13),
    (1, 0), (0, 14), (14, 16), (0, 15), (15, 17),
)  # fmt: skip
Pose = list[tuple[float, float]]


def canny(picture: Image.Image, low: int = 100, high: int = 200) -> Image.Image:
    """White edges on black, as an RGB picture."""
    edges = cv2.Canny(np.asarray(picture.convert("RGB")), low, high)
    return Image.fromarray(np.repeat(edges[..., None], 3, axis=2))


def pose_map(people: list[Pose], width: int, height: int, stick: float | None = None) -> Image.Image:
    """People as OpenPose shows them: eighteen colours once around the wheel; `stick` is half a limb's width."""
    stick = stick or max(1.5, min(width, height) / 85)
    scale = 2
    picture = Image.new("RGB", (width * scale, height * scale))
    pen = ImageDraw.Draw(picture)
    for person in people:
        points = [(x * scale, y * scale) for x, y in person]
        for index, (start, end) in enumerate(LIMBS):
            colour = tuple(int(value * 0.6) for value in _colour(index))
            pen.line((*points[start], *points[end]), fill=colour, width=max(1, round(stick * 2 * scale)))
        for index, (x, y) in enumerate(points):
            reach = stick * scale
            pen.ellipse((x - reach, y - reach, x + reach, y + reach), fill=_colour(index))
    return picture.resize((width, height), Image.Resampling.BOX)


def _colour(index: int) -> world.Colour:
    """The wheel in eighteen steps of 20 degrees, in OpenPose's roundings: 0, 85, 170, 255."""
    steps = (0, 85, 170, 255)
    sector, place = divmod(index, 3)
    up, down = steps[place], steps[3 - place]
    return [(255, up, 0), (down, 255, 0), (0, 255, up), (0, down, 255), (up, 0, 255), (255, 0, down)][sector]


def build(model: Any) -> Any:
    """A ControlNet that starts as a copy of the UNet's way down."""
    return ControlNetModel.from_unet(model, conditioning_embedding_out_channels=(16, 24, 48, 96))


def canny_hint(scene: world.Scene, rng: random.Random) -> Image.Image:
    return canny(world.draw(scene))


def pose_hint(scene: world.Scene, rng: random.Random) -> Image.Image:
    people = [world.keypoints(thing) for thing in scene.things if thing.kind == "person"]
    return pose_map(people, world.SIDE, world.SIDE, rng.uniform(1.2, 3.5))


def posed_scene(rng: random.Random) -> world.Scene:
    """Mostly people, half of them in poses that no caption names."""
    if rng.random() < 0.12:
        return world.sample(rng, person=0.3)
    background, colour = rng.sample(list(world.COLOURS), 2)
    return world.Scene(
        background, (world.sample_person(rng, colour, pose=None if rng.random() < 0.65 else "any"),)
    )


# What is drawn (None: what the UNet was trained on), and its map
KINDS: dict[str, tuple[Callable[[random.Random], world.Scene] | None, Callable[..., Image.Image]]] = {
    "canny": (None, canny_hint),
    "openpose": (posed_scene, pose_hint),
}


def train(
    work: Path,
    kind: str,
    steps: int = STEPS,
    pictures: int = PICTURES,
    lr: float = 1e-3,
    begin: Path | None = None,
) -> Any:
    """Teaches the net of a kind; it begins as the UNet's copy, or where the net in the folder `begin` left off."""
    torch.manual_seed(5)
    make, hint = KINDS[kind]
    vae = AutoencoderKL.from_pretrained(str(work / "vae")).eval()
    reader = unet.Reader(work)
    empty = reader([""])
    base = UNet2DConditionModel.from_pretrained(str(work / "unet")).eval().requires_grad_(False)
    if make is None:
        bank = unet.banks(work)[0].plain(pictures)
    else:
        bank = unet.kept(
            work / f"bank-{kind}.pt",
            lambda: [unet.fill(vae, reader, pictures, 31, world.SIDE, world.SIDE, make, plain=True)],
        )[0]
    drawing = random.Random(32)
    hints = torch.from_numpy(np.stack([np.asarray(hint(scene, drawing)) for scene in bank.scenes]))
    hints = hints.permute(0, 3, 1, 2).contiguous()
    net = ControlNetModel.from_pretrained(str(begin)) if begin else build(base)
    loop = Loop(f"controlnet-{kind}", {"net": net}, steps, lr=lr, work=work, average=0.99)
    schedule = DDPMScheduler(**unet.SCHEDULE)

    def loss(step: int) -> tuple[Tensor, dict[str, float]]:
        rng, noises = random.Random(step), torch.Generator().manual_seed(step)
        chosen, latents, numbers, states, wholes = bank.pick(rng, BATCH)
        if rng.random() < 0.3:  # the map alone must say it
            states, wholes = empty[0].expand_as(states), empty[1].expand_as(wholes)
        noise = torch.randn(latents.shape, generator=noises)
        when = unet.times(noises, BATCH)
        noisy = schedule.add_noise(latents, noise, when)
        added = {"text_embeds": wholes, "time_ids": numbers}
        with torch.autocast("cpu", torch.bfloat16):
            down, middle = net(
                noisy,
                when,
                states,
                controlnet_cond=hints[chosen].float() / 255,
                added_cond_kwargs=added,
                return_dict=False,
            )
            said = base(
                noisy,
                when,
                states,
                added_cond_kwargs=added,
                down_block_additional_residuals=down,
                mid_block_additional_residual=middle,
            ).sample
        return F.mse_loss(said.float(), noise), {}

    loop.run(loss)
    loop.averaged()
    keep(net, work / f"controlnet-{kind}")
    return net
