"""Lanes that share the calls of the UNet: each ends with the picture that it would have made alone."""

from __future__ import annotations

import copy
import dataclasses
from collections import defaultdict
from collections.abc import Hashable

import pytest
import torch

from services.diffusion.checkpoint import Checkpoint
from services.diffusion.decode import pixels
from services.diffusion.lane import Lane
from services.diffusion.recipe import Recipe
from services.diffusion.step import step
from tests.diffusion.tiny import TOLERANCE, alone, apart, control, hole, picture, recipe, started


def crowd() -> list[Recipe]:
    """Eight requests as unlike each other as lanes of one call can be; they share a key."""
    return [
        recipe(seed=1, steps=3, sampler="euler", guidance=7.5),
        recipe(seed=2, steps=6, sampler="dpm++-2m-karras", guidance=3.0, prompt="two blue cats"),
        recipe(seed=3, steps=4, sampler="euler-a", controls=(control("canny", weight=0.8),)),
        recipe(
            seed=4,
            steps=4,
            sampler="dpm++-sde",
            controls=(
                control("canny", 1),
                control("openpose", 2, weight=0.5, start=0.3),
                control("canny", 4),
            ),
        ),
        recipe(seed=5, steps=5, sampler="ddim", kind="image", image=picture(2), strength=0.7),
        recipe(seed=6, steps=3, sampler="heun", kind="inpaint", image=picture(3), mask=hole()),
        recipe(seed=7, steps=4, sampler="lcm", controls=(control("openpose", 5),), guess_mode=True),
        recipe(seed=8, steps=4, sampler="unipc", guidance=1.5, clip_skip=2, negative_prompt=""),
    ]


def together(lanes: list[Lane]) -> None:
    """All that have steps left and share a key go at once."""
    while any(not lane.done for lane in lanes):
        groups: dict[Hashable, list[Lane]] = defaultdict(list)
        for lane in lanes:
            if not lane.done:
                groups[lane.key()].append(lane)
        for group in groups.values():
            step(group)


@pytest.mark.parametrize("family", ["sdxl", pytest.param("sd", marks=pytest.mark.slow)])
def test_eight_unlike_requests_in_one_batch_each_give_their_own_picture(
    family: str, request: pytest.FixtureRequest
) -> None:
    checkpoint: Checkpoint = request.getfixturevalue(family)
    lanes = [started(checkpoint, asked) for asked in crowd()]
    assert len({lane.key() for lane in lanes}) == 1
    together(lanes)
    for lane, asked in zip(lanes, crowd(), strict=True):
        assert apart(pixels(lane), alone(checkpoint, asked)) < TOLERANCE


def test_a_lane_that_joins_late_is_not_disturbed_and_does_not_disturb(sdxl: Checkpoint) -> None:
    early, late = recipe(seed=1, steps=6), recipe(seed=2, steps=3, sampler="euler-a", guidance=2.0)
    lanes = [started(sdxl, early)]
    step(lanes)
    step(lanes)
    lanes.append(started(sdxl, late))
    together(lanes)
    assert apart(pixels(lanes[0]), alone(sdxl, early)) < TOLERANCE
    assert apart(pixels(lanes[1]), alone(sdxl, late)) < TOLERANCE


def test_a_lane_that_leaves_takes_nothing_with_it(sdxl: Checkpoint) -> None:
    stays, leaves = started(sdxl, recipe(seed=1)), started(sdxl, recipe(seed=2, controls=(control("canny"),)))
    step([leaves, stays])
    together([stays])
    assert apart(pixels(stays), alone(sdxl, recipe(seed=1))) < TOLERANCE


def test_lanes_without_guidance_share_a_call_of_one_side(sdxl: Checkpoint) -> None:
    asked = [recipe(seed=at, guidance=1.0, controls=(control("canny"),) * (at % 2)) for at in range(3)]
    lanes = [started(sdxl, one) for one in asked]
    rows: list[int] = []
    watch = sdxl.unet.register_forward_pre_hook(lambda _, given: rows.append(given[0].shape[0]))
    together(lanes)
    watch.remove()
    assert set(rows) == {3}
    for lane, one in zip(lanes, asked, strict=True):
        assert apart(pixels(lane), alone(sdxl, one)) < TOLERANCE


def test_what_the_unet_is_told_is_laid_together_only_when_the_company_changes(sdxl: Checkpoint) -> None:
    lanes = [started(sdxl, recipe(seed=at, steps=4)) for at in range(2)]
    step(lanes)
    first = lanes[0].company
    step(lanes)
    assert lanes[0].company is first
    step(lanes[:1])
    assert lanes[0].company is not first
    assert torch.equal(lanes[0].company.text[1:], lanes[0].encoded.positive.text)


def test_steps_are_counted_as_they_were_asked_for(sdxl: Checkpoint) -> None:
    lane = started(sdxl, recipe(sampler="heun", steps=3))
    seen = [lane.progress]
    while not lane.done:
        step([lane])
        seen.append(lane.progress)
    assert seen == [(0, 3), (0, 3), (1, 3), (1, 3), (2, 3), (3, 3)]


def test_half_precision_goes_through_every_stage_and_stays_near(sdxl: Checkpoint) -> None:
    """As on a GPU: networks and latents in bfloat16, the VAE in float32."""
    half = dataclasses.replace(
        sdxl,
        dtype=torch.bfloat16,
        unet=copy.deepcopy(sdxl.unet).to(torch.bfloat16),
        text_encoders=[copy.deepcopy(encoder).to(torch.bfloat16) for encoder in sdxl.text_encoders],
        controlnets={name: copy.deepcopy(net).to(torch.bfloat16) for name, net in sdxl.controlnets.items()},
    )
    asked = [dataclasses.replace(one, steps=3) for one in crowd()]
    lanes = [started(half, one) for one in asked]
    together(lanes)
    for lane, one in zip(lanes, asked, strict=True):
        assert lane.latents.dtype == torch.bfloat16
        assert float((pixels(lane) - alone(sdxl, one)).abs().mean()) < 0.05
