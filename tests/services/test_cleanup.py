"""The cleanup service, as a process, on a real photograph; and its engines beside it."""

from __future__ import annotations

import io
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw

from services.cleanup.engines import engines, merged, regions

MODELS = ["telea", "navier-stokes"]


def saved(image: Image.Image) -> bytes:
    out = io.BytesIO()
    image.save(out, "PNG")
    return out.getvalue()


def quiet(_done: int, _total: int) -> None:
    """No progress."""


@pytest.mark.parametrize("model", [*MODELS, "auto", "opencv", "ns"])
def test_what_lies_outside_the_mask_comes_back_bit_for_bit(cleanup: Any, samples: Path, model: str) -> None:
    photo = Image.open(samples / "astronaut.jpg").convert("RGB")
    mask = Image.open(samples / "astronaut-mask.png")
    answer = cleanup.run("cleanup", {"model": model}, {"image": saved(photo), "mask": saved(mask)})
    before, after = np.asarray(photo), np.asarray(answer.picture())
    hole = np.asarray(mask) > 127
    assert (before[~hole] == after[~hole]).all()
    assert (before[hole] != after[hole]).any(axis=-1).mean() > 0.5
    assert answer.done["model"] in MODELS


def test_the_badge_on_the_suit_becomes_suit(cleanup: Any, samples: Path) -> None:
    photo = Image.open(samples / "astronaut.jpg").convert("RGB")
    mask = Image.open(samples / "astronaut-mask.png")
    after = cleanup.run("cleanup", {}, {"image": saved(photo), "mask": saved(mask)}).picture()
    red, _, blue = np.asarray(after)[360:410, 147:197].reshape(-1, 3).mean(axis=0)
    assert red > blue + 100, "the blue badge is still there"


def test_transparency_stays(cleanup: Any) -> None:
    image = Image.new("RGBA", (40, 30), (200, 100, 50, 90))
    mask = Image.new("L", image.size)
    mask.paste(255, (10, 10, 20, 20))
    after = cleanup.run("cleanup", {}, {"image": saved(image), "mask": saved(mask)}).picture()
    assert after.mode == "RGBA"
    assert after.getchannel("A").getextrema() == (90, 90)
    assert np.abs(np.asarray(after).astype(int) - np.asarray(image)).max() <= 2


@pytest.mark.parametrize("model", MODELS)
def test_a_wire_over_a_gradient_is_gone(model: str) -> None:
    ramp = np.linspace(20, 230, 400, dtype=np.uint8)
    clean = np.repeat(np.repeat(ramp[None, :, None], 300, axis=0), 3, axis=2)
    spoiled = Image.fromarray(clean)
    mask = Image.new("L", spoiled.size)
    for picture, colour in ((spoiled, (0, 0, 0)), (mask, 255)):
        ImageDraw.Draw(picture).line((0, 20, 399, 280), fill=colour, width=7)
    after = np.asarray(engines()[model].erase(spoiled, mask, quiet)).astype(int)
    assert np.abs(after - clean).max() < 20


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("size", [(1, 1), (1, 40), (3, 3), (64, 48)])
@pytest.mark.parametrize("level", [0, 255])
def test_a_mask_all_black_or_all_white_changes_nothing(model: str, size: tuple[int, int], level: int) -> None:
    image = Image.effect_noise(size, 60).convert("RGB")
    after = engines()[model].erase(image, Image.new("L", size, level), quiet)
    assert after.tobytes() == image.tobytes()


def test_each_piece_is_a_step() -> None:
    mask = Image.new("L", (600, 200))
    for left in (50, 250, 450):
        mask.paste(255, (left, 90, left + 5, 95))
    steps: list[tuple[int, int]] = []
    engines()["telea"].erase(
        Image.new("RGB", mask.size), mask, lambda done, total: steps.append((done, total))
    )
    assert steps[0] == (0, 3)
    assert steps[-1] == (3, 3)
    assert steps == sorted(steps)


def test_dust_of_a_million_specks_does_not_take_minutes() -> None:
    chance = np.random.default_rng(0)
    image = Image.fromarray(chance.integers(0, 256, (1200, 1200, 3), dtype=np.uint8))
    mask = Image.fromarray(np.where(chance.random((1200, 1200)) < 0.2, 255, 0).astype(np.uint8))
    started = time.process_time()
    after = engines()["telea"].erase(image, mask, quiet)
    assert time.process_time() - started < 8
    outside = np.asarray(mask) == 0
    assert (np.asarray(after)[outside] == np.asarray(image)[outside]).all()


def test_boxes_that_touch_are_one() -> None:
    assert merged([(0, 0, 10, 10), (5, 5, 20, 20), (30, 0, 40, 10), (18, 0, 31, 4)]) == [(0, 0, 40, 20)]
    assert regions(np.zeros((5, 5), bool)) == []


def test_a_wide_hole_takes_its_surroundings_colour() -> None:
    image = Image.new("RGB", (900, 700), (90, 140, 60))
    mask = Image.new("L", image.size)
    mask.paste(255, (200, 100, 700, 600))
    image.paste((255, 0, 0), (200, 100, 700, 600))
    after = np.asarray(engines()["telea"].erase(image, mask, quiet)).astype(int)
    inside = after[110:590, 210:690]
    assert np.abs(inside - (90, 140, 60)).max() < 40


@pytest.mark.parametrize("model", MODELS)
def test_a_scratch_across_twelve_megapixels_is_quick(model: str) -> None:
    image = Image.effect_noise((4000, 3000), 20).convert("RGB")
    mask = Image.new("L", image.size)
    ImageDraw.Draw(mask).line((100, 100, 3900, 2900), fill=255, width=8)
    started = time.process_time()
    engines()[model].erase(image, mask, quiet)
    assert time.process_time() - started < 4
