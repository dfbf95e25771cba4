"""Stable Diffusion 1.x and 2: one text encoder, and the same loop. Equal to diffusers' pipelines."""

from __future__ import annotations

from typing import Any

import diffusers
import pytest

from services.diffusion.checkpoint import Checkpoint
from services.errors import BadInput
from tests.diffusion.tiny import (
    TOLERANCE,
    alone,
    apart,
    as_pipeline,
    checkpoint_of,
    control,
    edges,
    hole,
    picture,
    pipeline,
    recipe,
    theirs,
    with_scheduler,
)


@pytest.mark.parametrize("guidance", [1.0, 7.5])
def test_words_to_picture(sd: Checkpoint, guidance: float) -> None:
    asked = recipe(guidance=guidance)
    assert apart(alone(sd, asked), theirs(pipeline("sd"), asked)[0]) < TOLERANCE


def test_an_empty_negative_prompt_is_read_like_any_other(sd: Checkpoint) -> None:
    asked = recipe(negative_prompt="")
    assert apart(alone(sd, asked), theirs(pipeline("sd"), asked)[0]) < TOLERANCE


def test_a_model_that_predicts_velocity_works_by_its_configuration() -> None:
    base = pipeline("sd")
    velocity = diffusers.EulerDiscreteScheduler.from_config(
        base.scheduler.config, prediction_type="v_prediction", timestep_spacing="trailing"
    )
    pipe = with_scheduler(base, velocity)
    asked = recipe()
    made = alone(checkpoint_of(pipe, "sd"), asked)
    assert apart(made, theirs(pipe, asked)[0]) < TOLERANCE
    assert float((made - alone(checkpoint_of(base, "sd"), asked)).abs().max()) > 0.05


def test_clip_skip(sd: Checkpoint) -> None:
    pipe = pipeline("sd")
    encoder = pipe.text_encoder
    if not hasattr(encoder, "text_model"):  # diffusers 0.42 looks for the norm where transformers 4 had it
        object.__setattr__(encoder, "text_model", encoder)
    try:
        asked = recipe(clip_skip=2)
        made = alone(sd, asked)
        assert apart(made, theirs(pipe, asked, clip_skip=1)[0]) < TOLERANCE
        assert float((made - alone(sd, recipe())).abs().max()) > 0.001
    finally:
        if encoder.__dict__.get("text_model") is encoder:
            object.__delattr__(encoder, "text_model")


def test_more_layers_than_there_are_cannot_be_skipped(sd: Checkpoint) -> None:
    with pytest.raises(BadInput, match="at most 4") as told:
        alone(sd, recipe(clip_skip=5))
    assert told.value.field == "clip_skip"


def test_a_picture_made_anew(sd: Checkpoint) -> None:
    asked = recipe(kind="image", image=picture(), strength=0.6, steps=6)
    pipe = as_pipeline(diffusers.StableDiffusionImg2ImgPipeline, pipeline("sd"))
    their = theirs(pipe, asked, image=asked.image, strength=0.6)
    assert apart(alone(sd, asked), their[0]) < TOLERANCE


@pytest.mark.parametrize("channels", [4, 9])
@pytest.mark.parametrize("strength", [0.7, 1.0])
def test_inpainting(channels: int, strength: float) -> None:
    base = pipeline("sd", channels)
    pipe = as_pipeline(diffusers.StableDiffusionInpaintPipeline, base)
    asked = recipe(kind="inpaint", image=picture(), mask=hole(), strength=strength, steps=6)
    their = theirs(
        pipe, asked, image=asked.image, mask_image=asked.mask, strength=strength, width=64, height=64
    )
    assert apart(alone(checkpoint_of(base, "sd"), asked), their[0]) < TOLERANCE


@pytest.mark.parametrize("guess_mode", [False, True])
def test_a_control(sd: Checkpoint, guess_mode: bool) -> None:
    asked = recipe(controls=(control("canny", weight=0.8),), guess_mode=guess_mode)
    more: dict[str, Any] = {"controlnet": sd.controlnets["canny"]}
    pipe = as_pipeline(diffusers.StableDiffusionControlNetPipeline, pipeline("sd"), **more)
    their = theirs(pipe, asked, image=edges(), controlnet_conditioning_scale=0.8, guess_mode=guess_mode)
    assert apart(alone(sd, asked), their[0]) < TOLERANCE


def test_a_model_that_is_told_its_guidance_is_called_with_one_side() -> None:
    base = pipeline("sd", time_cond_proj_dim=33)
    asked = recipe(guidance=8.0)
    made = alone(checkpoint_of(base, "sd"), asked)
    assert apart(made, theirs(base, asked)[0]) < TOLERANCE
    assert float((made - alone(checkpoint_of(base, "sd"), recipe(guidance=2.0))).abs().max()) > 0.001
