"""Pictures that begin from a picture, with a mask and without: equal to diffusers' pipelines."""

from __future__ import annotations

from typing import Any

import diffusers
import pytest
from PIL import Image, ImageChops

from services.diffusion.checkpoint import Checkpoint
from services.diffusion.decode import decode, pixels
from services.diffusion.encode import encode
from services.diffusion.lane import Adapters
from services.diffusion.prepare import prepare
from services.diffusion.recipe import Recipe
from tests.diffusion.tiny import (
    TOLERANCE,
    alone,
    apart,
    as_pipeline,
    checkpoint_of,
    finished,
    hole,
    picture,
    pipeline,
    recipe,
    started,
    theirs,
)

SAMPLERS = {
    "euler": ("EulerDiscreteScheduler", {}),
    "dpm++-2m-karras": ("DPMSolverMultistepScheduler", {"use_karras_sigmas": True}),
    "dpm++-2m-sde": ("DPMSolverMultistepScheduler", {"algorithm_type": "sde-dpmsolver++"}),
    "dpm++-sde": ("DPMSolverSinglestepScheduler", {"algorithm_type": "sde-dpmsolver++"}),
    "euler-a": ("EulerAncestralDiscreteScheduler", {}),
    "ddim": ("DDIMScheduler", {"clip_sample": False}),
    "heun": ("HeunDiscreteScheduler", {}),
    "unipc": ("UniPCMultistepScheduler", {}),
    "lcm": ("LCMScheduler", {}),
}


def like(kind: str, pipe: Any, sampler: str) -> Any:
    name, options = SAMPLERS[sampler]
    scheduler = getattr(diffusers, name).from_config(pipe.scheduler.config, **options)
    return as_pipeline(getattr(diffusers, kind), pipe, scheduler=scheduler)


def from_picture(**more: Any) -> Recipe:
    return recipe(**{"kind": "image", "image": picture(), "strength": 0.6, "steps": 6, **more})


def with_hole(**more: Any) -> Recipe:
    return recipe(**{"kind": "inpaint", "image": picture(), "mask": hole(), "steps": 6, **more})


def their_inpainting(pipe: Any, asked: Recipe) -> Any:
    return theirs(
        pipe,
        asked,
        image=asked.image,
        mask_image=asked.mask,
        strength=asked.strength,
        width=asked.width,
        height=asked.height,
    )[0]


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_picture_made_anew_is_the_one_of_diffusers(sdxl: Checkpoint, sampler: str) -> None:
    asked = from_picture(sampler=sampler)
    pipe = like("StableDiffusionXLImg2ImgPipeline", pipeline("sdxl"), sampler)
    their = theirs(pipe, asked, image=asked.image, strength=asked.strength)
    assert apart(alone(sdxl, asked), their[0]) < TOLERANCE


@pytest.mark.parametrize("strength", [0.2, 1.0])
def test_the_strength_means_what_it_means_in_diffusers(sdxl: Checkpoint, strength: float) -> None:
    asked = from_picture(strength=strength, count=2)
    pipe = like("StableDiffusionXLImg2ImgPipeline", pipeline("sdxl"), "euler")
    their = theirs(pipe, asked, image=asked.image, strength=strength)
    assert apart(alone(sdxl, asked), their[0]) < TOLERANCE
    assert apart(alone(sdxl, asked, 1), their[1]) < TOLERANCE


def test_strength_0_gives_the_picture_back(sdxl: Checkpoint) -> None:
    asked = from_picture(strength=0.0)
    lane = started(sdxl, asked)
    assert lane.done
    assert asked.image is not None
    assert not ImageChops.difference(decode([lane])[0], asked.image).getbbox()


@pytest.mark.parametrize("sampler", ["euler", "euler-a", "dpm++-2m-karras", "heun", "ddim"])
@pytest.mark.parametrize("strength", [0.7, 1.0])
def test_inpainting_is_that_of_diffusers(sdxl: Checkpoint, sampler: str, strength: float) -> None:
    asked = with_hole(sampler=sampler, strength=strength)
    pipe = like("StableDiffusionXLInpaintPipeline", pipeline("sdxl"), sampler)
    assert apart(alone(sdxl, asked), their_inpainting(pipe, asked)) < TOLERANCE


@pytest.mark.parametrize("strength", [0.7, 1.0])
def test_inpainting_by_a_model_that_sees_the_mask_is_that_of_diffusers(strength: float) -> None:
    base = pipeline("sdxl", 9)
    pipe = like("StableDiffusionXLInpaintPipeline", base, "euler-a")
    asked = with_hole(sampler="euler-a", strength=strength)
    assert apart(alone(checkpoint_of(base, "sdxl"), asked), their_inpainting(pipe, asked)) < TOLERANCE


def test_a_model_that_sees_the_mask_makes_pictures_from_words_too() -> None:
    """It is shown a picture that is all hole: what diffusers does with a mask that covers everything."""
    base = pipeline("sdxl", 9)
    words = recipe(steps=4)
    covered = with_hole(mask=Image.new("L", (64, 64), 255), image=Image.new("RGB", (64, 64)), steps=4)
    pipe = like("StableDiffusionXLInpaintPipeline", base, "euler")
    assert apart(alone(checkpoint_of(base, "sdxl"), words), their_inpainting(pipe, covered)) < TOLERANCE


def test_outside_of_the_mask_every_pixel_stays_as_it_was(sdxl: Checkpoint) -> None:
    asked = with_hole(steps=3)
    assert asked.image is not None and asked.mask is not None
    made = decode([finished(started(sdxl, asked))])[0]
    outside = Image.composite(asked.image, made, asked.mask)
    assert not ImageChops.difference(outside, asked.image).getbbox()
    assert ImageChops.difference(made, asked.image).getbbox() == asked.mask.getbbox()


@pytest.mark.parametrize("channels", [4, 9])
def test_the_pictures_of_one_request_are_read_by_the_vae_once(channels: int) -> None:
    base = pipeline("sdxl", channels)
    checkpoint, asked = checkpoint_of(base, "sdxl"), with_hole(strength=0.7, count=2, steps=3)
    told = encode(checkpoint, asked)
    calls: list[int] = []
    encoder = checkpoint.vae.encoder.register_forward_pre_hook(lambda *_: calls.append(1))
    lanes = [prepare(checkpoint, asked, told, at, Adapters()) for at in range(2)]
    encoder.remove()
    assert len(calls) == (1 if channels == 4 else 2)
    pipe = like("StableDiffusionXLInpaintPipeline", base, "euler")
    for at, lane in enumerate(
        lanes
    ):  # each as if asked for alone: given several, diffusers draws the first one's only
        one = with_hole(strength=0.7, steps=3, seed=asked.seed + at)
        assert apart(pixels(finished(lane)), their_inpainting(pipe, one)) < TOLERANCE
