"""Controls: equal to diffusers' pipelines with one ControlNet and with several."""

from __future__ import annotations

from typing import Any

import pytest
from diffusers import (
    MultiControlNetModel,
    StableDiffusionXLControlNetImg2ImgPipeline,
    StableDiffusionXLControlNetInpaintPipeline,
    StableDiffusionXLControlNetPipeline,
)

from services.diffusion.checkpoint import Checkpoint
from services.diffusion.recipe import Refinement
from services.errors import BadInput
from tests.diffusion.tiny import (
    TOLERANCE,
    alone,
    apart,
    as_pipeline,
    control,
    edges,
    finished,
    hole,
    picture,
    pipeline,
    recipe,
    started,
    theirs,
)


def controlled(sdxl: Checkpoint, *nets: str, kind: type = StableDiffusionXLControlNetPipeline) -> Any:
    found = [sdxl.controlnets[net] for net in nets]
    return as_pipeline(
        kind, pipeline("sdxl"), controlnet=found[0] if len(found) == 1 else MultiControlNetModel(found)
    )


def test_one_control_is_followed_as_diffusers_follows_it(sdxl: Checkpoint) -> None:
    asked = recipe(controls=(control("canny", weight=0.8),))
    their = theirs(controlled(sdxl, "canny"), asked, image=edges(), controlnet_conditioning_scale=0.8)
    assert apart(alone(sdxl, asked), their[0]) < TOLERANCE
    assert float((alone(sdxl, asked) - alone(sdxl, recipe())).abs().max()) > 0.05


def test_without_guidance_too(sdxl: Checkpoint) -> None:
    asked = recipe(guidance=1.0, controls=(control("canny"),))
    their = theirs(controlled(sdxl, "canny"), asked, image=edges(), controlnet_conditioning_scale=1.0)
    assert apart(alone(sdxl, asked), their[0]) < TOLERANCE


def test_a_control_begins_and_ends_when_it_is_told(sdxl: Checkpoint) -> None:
    asked = recipe(steps=8, controls=(control("canny", start=0.2, end=0.7),))
    their = theirs(
        controlled(sdxl, "canny"),
        asked,
        image=edges(),
        controlnet_conditioning_scale=1.0,
        control_guidance_start=0.2,
        control_guidance_end=0.7,
    )
    assert apart(alone(sdxl, asked), their[0]) < TOLERANCE
    scales = started(sdxl, asked).controls[0].scales
    assert scales == [0, 0, 1, 1, 1, 0, 0, 0]


@pytest.mark.parametrize("nets", [("canny", "openpose"), ("canny", "openpose", "canny")])
def test_several_controls_add_up_as_in_diffusers(sdxl: Checkpoint, nets: tuple[str, ...]) -> None:
    weights, starts, ends = [0.7, 0.4, 0.3], [0.0, 0.3, 0.5], [0.8, 1.0, 1.0]
    uses = [
        control(net, at, weight=weights[at], start=starts[at], end=ends[at]) for at, net in enumerate(nets)
    ]
    asked = recipe(steps=6, controls=tuple(uses))
    count = len(nets)
    their = theirs(
        controlled(sdxl, *nets),
        asked,
        image=[edges(at) for at in range(count)],
        controlnet_conditioning_scale=weights[:count],
        control_guidance_start=starts[:count],
        control_guidance_end=ends[:count],
    )
    assert apart(alone(sdxl, asked), their[0]) < TOLERANCE


@pytest.mark.parametrize("guidance", [1.0, 5.0])
def test_guess_mode_is_that_of_diffusers(sdxl: Checkpoint, guidance: float) -> None:
    asked = recipe(guidance=guidance, guess_mode=True, controls=(control("canny", weight=0.9),))
    their = theirs(
        controlled(sdxl, "canny"), asked, image=edges(), controlnet_conditioning_scale=0.9, guess_mode=True
    )
    assert apart(alone(sdxl, asked), their[0]) < TOLERANCE
    plain = recipe(guidance=guidance, controls=asked.controls)
    assert float((alone(sdxl, asked) - alone(sdxl, plain)).abs().max()) > 0.01


def test_a_control_leads_a_picture_made_anew(sdxl: Checkpoint) -> None:
    asked = recipe(kind="image", image=picture(), strength=0.7, steps=6, controls=(control("canny"),))
    their = theirs(
        controlled(sdxl, "canny", kind=StableDiffusionXLControlNetImg2ImgPipeline),
        asked,
        image=asked.image,
        control_image=edges(),
        strength=0.7,
        controlnet_conditioning_scale=1.0,
    )
    assert apart(alone(sdxl, asked), their[0]) < TOLERANCE


def test_a_control_leads_inpainting(sdxl: Checkpoint) -> None:
    asked = recipe(
        kind="inpaint", image=picture(), mask=hole(), strength=1.0, steps=5, controls=(control("canny"),)
    )
    their = theirs(
        controlled(sdxl, "canny", kind=StableDiffusionXLControlNetInpaintPipeline),
        asked,
        image=asked.image,
        mask_image=asked.mask,
        control_image=edges(),
        strength=1.0,
        controlnet_conditioning_scale=1.0,
        width=asked.width,
        height=asked.height,
    )
    assert apart(alone(sdxl, asked), their[0]) < TOLERANCE


def test_a_control_that_the_model_does_not_have_is_named(sdxl: Checkpoint) -> None:
    with pytest.raises(BadInput, match="it has: canny, openpose") as told:
        started(sdxl, recipe(controls=(control("canny"), control("depth"))))
    assert told.value.field == "controls.1.kind"


def test_a_refiner_that_takes_over_does_not_stretch_a_control(sdxl: Checkpoint) -> None:
    asked = recipe(
        steps=10, controls=(control("canny", start=0.2, end=0.5),), refinement=Refinement("refiner", 0.6)
    )
    pipe = controlled(sdxl, "canny")
    latents = theirs(
        pipe,
        asked,
        image=edges(),
        controlnet_conditioning_scale=1.0,
        control_guidance_start=0.2,
        control_guidance_end=0.5,
        denoising_end=0.6,
        output_type="latent",
    )
    lane = finished(started(sdxl, asked))
    assert float((lane.latents - latents).abs().max()) < TOLERANCE
