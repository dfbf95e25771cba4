"""A refiner that takes over: equal to diffusers' two pipelines, the first with its end, the second with its start."""

from __future__ import annotations

from typing import Any

import diffusers
import pytest
import torch
from PIL import Image, ImageChops

from services.diffusion.checkpoint import Checkpoint
from services.diffusion.decode import decode, pixels
from services.diffusion.encode import encode
from services.diffusion.recipe import Recipe, Refinement
from services.diffusion.refine import hand_over
from tests.diffusion.tiny import (
    TOLERANCE,
    apart,
    as_pipeline,
    checkpoint_of,
    finished,
    hole,
    picture,
    pipeline,
    recipe,
    started,
    with_scheduler,
)


def refined(base: Checkpoint, refiner: Checkpoint, asked: Recipe) -> Any:
    return finished(hand_over(finished(started(base, asked)), refiner, encode(refiner, asked)))


@pytest.mark.parametrize("sampler", ["euler", "dpm++-2m-karras", "heun", "euler-a"])
@pytest.mark.parametrize("kind", ["text", "image"])
def test_the_refiner_goes_on_where_the_first_model_ended(sdxl: Checkpoint, sampler: str, kind: str) -> None:
    more: dict[str, Any] = {} if kind == "text" else {"kind": "image", "image": picture(), "strength": 0.8}
    asked = recipe(steps=10, sampler=sampler, refinement=Refinement("refiner", 0.7), **more)
    second = pipeline("sdxl-refiner")
    scheduler = {
        "euler": diffusers.EulerDiscreteScheduler,
        "dpm++-2m-karras": diffusers.DPMSolverMultistepScheduler,
        "heun": diffusers.HeunDiscreteScheduler,
        "euler-a": diffusers.EulerAncestralDiscreteScheduler,
    }[sampler]
    options = {"use_karras_sigmas": True} if sampler.endswith("karras") else {}
    schedule = scheduler.from_config(second.scheduler.config, **options)
    same: dict[str, Any] = {
        "prompt": asked.prompt,
        "negative_prompt": asked.negative_prompt,
        "num_inference_steps": 10,
        "guidance_scale": asked.guidance,
        "generator": torch.Generator("cpu").manual_seed(asked.seed),
    }
    if kind == "text":
        first = with_scheduler(pipeline("sdxl"), schedule)
        latents = first(**same, width=64, height=64, denoising_end=0.7, output_type="latent").images
    else:
        first = as_pipeline(diffusers.StableDiffusionXLImg2ImgPipeline, pipeline("sdxl"), scheduler=schedule)
        latents = first(
            **same, image=asked.image, strength=0.8, denoising_end=0.7, output_type="latent"
        ).images
    second = with_scheduler(second, schedule)
    their = second(**same, image=latents, denoising_start=0.7, output_type="pt").images[0]

    lane = refined(sdxl, checkpoint_of(pipeline("sdxl-refiner"), "sdxl-refiner"), asked)
    assert apart(pixels(lane), their) < TOLERANCE
    assert lane.timesteps, "the refiner had nothing to do"


def test_a_refined_hole_keeps_its_surroundings(sdxl: Checkpoint) -> None:
    asked = recipe(
        kind="inpaint", image=picture(), mask=hole(), steps=6, refinement=Refinement("refiner", 0.6)
    )
    assert asked.image is not None and asked.mask is not None
    lane = refined(sdxl, checkpoint_of(pipeline("sdxl-refiner"), "sdxl-refiner"), asked)
    made = decode([lane])[0]
    outside = Image.composite(asked.image, made, asked.mask)
    assert not ImageChops.difference(outside, asked.image).getbbox()


def test_a_picture_with_less_noise_than_the_refiner_expects_is_not_overdone(sdxl: Checkpoint) -> None:
    """At strength 0.1 only the last tenth of the schedule is walked, whoever walks it."""
    asked = recipe(
        kind="image", image=picture(), strength=0.1, steps=20, refinement=Refinement("refiner", 0.6)
    )
    first = started(sdxl, asked)
    assert first.done
    refiner = checkpoint_of(pipeline("sdxl-refiner"), "sdxl-refiner")
    lane = hand_over(first, refiner, encode(refiner, asked))
    assert len(lane.timesteps) == 2
