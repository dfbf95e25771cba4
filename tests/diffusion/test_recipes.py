"""From an operation to a recipe: sizes, defaults, and how the answer is laid out."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from services.diffusion import geometry
from services.diffusion.recipes import Settled, settle
from services.errors import BadInput, DarkroomError
from services.models import ModelEntry
from services.operations import Control, ControlInput, Diffusion, ImageToImage, Inpaint, TextToImage
from services.pictures import Mask, Picture
from tests.diffusion.tiny import picture

ENTRY = ModelEntry(
    name="small",
    service="sdxl",
    engine="diffusers",
    licence="none",
    family="sdxl",
    parts={"controlnet-canny": "nets"},
    defaults={"width": 256, "height": 192, "steps": 12, "guidance": 4.5, "sampler": "euler", "max_side": 512},
)


def make_map(_control: ControlInput, size: tuple[int, int], _at: str) -> Image.Image:
    return Image.new("RGB", size)


def settled(ask: Diffusion, entry: ModelEntry = ENTRY) -> Settled:
    return settle(ask, 5, entry, None, make_map, lambda lora, _: str(lora.name))


def given_picture(width: int, height: int, mode: str = "RGB") -> Picture:
    return Picture("part:image", picture(0, width, height).convert(mode))


def test_what_is_left_out_is_the_models_own() -> None:
    recipe = settled(TextToImage(prompt="a cat")).recipe
    assert (recipe.width, recipe.height, recipe.steps) == (256, 192, 12)
    assert (recipe.guidance, recipe.sampler, recipe.kind) == (4.5, "euler", "text")
    asked = settled(
        TextToImage(prompt="a cat", steps=3, guidance=0, sampler="DPM++ 2M Karras", width=128)
    ).recipe
    assert (asked.width, asked.height, asked.steps) == (128, 96, 3)
    assert (asked.guidance, asked.sampler) == (0, "dpm++-2m-karras")
    plain = ModelEntry(name="sd", service="sdxl", engine="diffusers", licence="none", family="sd")
    assert settled(TextToImage(prompt="a cat"), plain).recipe.width == 512


@given(st.integers(1, 5000), st.integers(1, 5000), st.booleans())
def test_any_shape_becomes_a_size_that_a_model_can_make(width: int, height: int, enlarge: bool) -> None:
    size = geometry.like((width, height), 1024 * 1024, enlarge=enlarge)
    assert all(side % 8 == 0 and 64 <= side <= 2048 for side in size)
    if max(width, height) <= 16 * min(width, height):  # else the least side has its way
        assert size[0] * size[1] <= 1024 * 1024
    if not enlarge and min(width, height) >= 64:
        assert size[0] <= width and size[1] <= height
    shape = width / height
    if 0.3 < shape < 3 and min(width, height) >= 300:
        assert shape * 0.94 < size[0] / size[1] < shape * 1.06


@pytest.mark.parametrize(
    ("own", "asked", "wanted"),
    [
        ((200, 150), {}, (200, 144)),
        ((256, 192), {}, (256, 192)),
        ((1000, 1000), {}, (216, 216)),
        ((40, 30), {}, (80, 64)),
        ((200, 100), {"width": 400}, (400, 200)),
        ((200, 100), {"width": 64, "height": 320}, (64, 320)),
    ],
)
def test_a_picture_keeps_its_shape_and_where_it_can_its_size(
    own: tuple[int, int], asked: dict[str, int], wanted: tuple[int, int]
) -> None:
    recipe = settled(ImageToImage(prompt="", image=given_picture(*own), **asked)).recipe
    assert (recipe.width, recipe.height) == wanted
    assert recipe.image is not None and recipe.image.size == wanted and recipe.image.mode == "RGB"
    assert recipe.strength == 0.6


def test_the_middle_of_a_picture_is_what_stays() -> None:
    wide = Image.new("RGB", (300, 100), "black")
    wide.paste("white", (100, 0, 200, 100))
    assert geometry.cover(wide, (100, 100)).getextrema() == ((255, 255),) * 3


def test_the_first_control_gives_its_shape() -> None:
    control = {"image": given_picture(100, 400), "kind": "canny"}
    recipe = settled(Control(prompt="", controls=[ControlInput(**control)])).recipe
    assert (recipe.width, recipe.height) == (104, 440)
    assert recipe.controls[0].map.size == (104, 440)
    assert recipe.controls[0].net == "canny"
    ready = ControlInput(**control | {"kind": "canny-map"})
    assert settled(TextToImage(prompt="", controls=[ready], width=256, height=256)).recipe.width == 256


@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
@pytest.mark.parametrize("asked", [{}, {"width": 128, "height": 128}])
def test_outside_of_the_mask_the_answer_is_the_picture_bit_for_bit(mode: str, asked: dict[str, int]) -> None:
    before = given_picture(333, 250, mode)
    mask = Mask("part:mask", Image.new("L", (333, 250)))
    mask.pixels.paste(255, (130, 60, 210, 190))
    laid = settled(Inpaint(prompt="", image=before, mask=mask, **asked))
    size = (laid.recipe.width, laid.recipe.height)
    assert laid.recipe.mask is not None and laid.recipe.mask.size == size
    assert size == ((128, 128) if asked else (248, 192))
    made = laid.answer(Image.new("RGB", size, (1, 2, 3)))
    expected = geometry.cover(before.pixels, size) if asked else before.pixels
    assert made.size == (size if asked else (333, 250))
    assert made.mode == mode
    inside = np.asarray(made)[..., 0] != np.asarray(expected)[..., 0]
    assert inside.any()
    covered = np.asarray(geometry.cover(mask.pixels, made.size, Image.Resampling.BILINEAR)) >= 128
    assert not inside[~covered].any()
    assert (np.asarray(made)[covered][:, :3] == (1, 2, 3)).all()


@pytest.mark.parametrize(
    ("ask", "field"),
    [
        (TextToImage(prompt="", width=1024, height=64), "width"),
        (TextToImage(prompt="", width=64, height=520), "height"),
        (
            Control(prompt="", controls=[ControlInput(image=given_picture(64, 64), kind="openpose")]),
            "controls.0.kind",
        ),
    ],
)
def test_what_the_model_cannot_do_is_refused_with_its_field(ask: Diffusion, field: str) -> None:
    with pytest.raises(BadInput) as refused:
        settled(ask)
    assert refused.value.field == field


def test_a_model_that_names_no_bound_makes_four_times_its_own_pixels() -> None:
    plain: dict[str, Any] = {"width": 1024, "height": 1024}
    geometry.check((2048, 2048), plain, "large")
    with pytest.raises(DarkroomError):
        geometry.check((2048, 1032), {"width": 512, "height": 512}, "small")
