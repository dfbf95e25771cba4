"""The proof of the four stages: a picture made alone is diffusers' own picture of the same seed."""

from __future__ import annotations

from typing import Any

import diffusers
import pytest
import torch

from services.diffusion.checkpoint import Checkpoint
from services.samplers import SAMPLERS
from tests.diffusion.tiny import TOLERANCE, alone, apart, pipeline, recipe, theirs, with_scheduler

SCHEDULERS: dict[str, tuple[str, dict[str, Any]]] = {
    "ddim": ("DDIMScheduler", {"clip_sample": False}),
    "dpm++-2m": ("DPMSolverMultistepScheduler", {}),
    "dpm++-2m-karras": ("DPMSolverMultistepScheduler", {"use_karras_sigmas": True}),
    "dpm++-2m-sde": ("DPMSolverMultistepScheduler", {"algorithm_type": "sde-dpmsolver++"}),
    "dpm++-2m-sde-karras": (
        "DPMSolverMultistepScheduler",
        {"algorithm_type": "sde-dpmsolver++", "use_karras_sigmas": True},
    ),
    "dpm++-sde": ("DPMSolverSinglestepScheduler", {"algorithm_type": "sde-dpmsolver++"}),
    "dpm++-sde-karras": (
        "DPMSolverSinglestepScheduler",
        {"algorithm_type": "sde-dpmsolver++", "use_karras_sigmas": True},
    ),
    "euler": ("EulerDiscreteScheduler", {}),
    "euler-a": ("EulerAncestralDiscreteScheduler", {}),
    "heun": ("HeunDiscreteScheduler", {}),
    "lcm": ("LCMScheduler", {}),
    "unipc": ("UniPCMultistepScheduler", {}),
}


def scheduler(sampler: str) -> Any:
    name, options = SCHEDULERS[sampler]
    return getattr(diffusers, name).from_config(pipeline("sdxl").scheduler.config, **options)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_every_sampler_gives_the_picture_that_diffusers_gives(sdxl: Checkpoint, sampler: str) -> None:
    asked = recipe(sampler=sampler, steps=6)
    their = theirs(with_scheduler(pipeline("sdxl"), scheduler(sampler)), asked)
    assert apart(alone(sdxl, asked), their[0]) < TOLERANCE


def test_the_words_the_seed_and_the_guidance_all_matter(sdxl: Checkpoint) -> None:
    plain = alone(sdxl, recipe())
    for other in (
        recipe(prompt="two blue cats"),
        recipe(negative_prompt="red"),
        recipe(seed=8),
        recipe(guidance=3.0),
    ):
        assert float((alone(sdxl, other) - plain).abs().max()) > 0.01


def test_without_guidance_there_is_no_negative_side_and_the_picture_is_the_same(sdxl: Checkpoint) -> None:
    asked = recipe(guidance=1.0)
    assert apart(alone(sdxl, asked), theirs(pipeline("sdxl"), asked)[0]) < TOLERANCE


def test_an_empty_negative_prompt_is_zeros_where_the_model_was_trained_so(sdxl: Checkpoint) -> None:
    asked = recipe(negative_prompt="")
    assert sdxl.zero_negative
    assert apart(alone(sdxl, asked), theirs(pipeline("sdxl"), asked)[0]) < TOLERANCE


def test_another_size_than_square(sdxl: Checkpoint) -> None:
    asked = recipe(width=96, height=48)
    assert apart(alone(sdxl, asked), theirs(pipeline("sdxl"), asked)[0]) < TOLERANCE


def test_the_nth_picture_of_a_request_has_the_seed_plus_n(sdxl: Checkpoint) -> None:
    asked = recipe(count=3, sampler="euler-a")
    their = theirs(with_scheduler(pipeline("sdxl"), scheduler("euler-a")), asked)
    for index in range(3):
        assert apart(alone(sdxl, asked, index), their[index]) < TOLERANCE
    assert torch.equal(alone(sdxl, asked, 2), alone(sdxl, recipe(sampler="euler-a", seed=9)))


def test_clip_skip_leaves_out_the_layers_that_diffusers_leaves_out(sdxl: Checkpoint) -> None:
    asked = recipe(clip_skip=2)
    their = theirs(pipeline("sdxl"), asked, clip_skip=1)  # theirs counts what is left out, from 0
    assert apart(alone(sdxl, asked), their[0]) < TOLERANCE
    assert float((alone(sdxl, asked) - alone(sdxl, recipe())).abs().max()) > 0.001
