"""Level eyes, the right part of the photograph, and the right size of the head, on a photograph turned by hand."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from PIL import Image

from services.errors import BadInput
from services.portrait.crop import RULES, Axes, Frame, Head, frame, pixels, with_hair
from services.portrait.faces import Face
from services.portrait.haar import HaarFinder
from services.portrait.level import sampled

EYES = ((202.5, 100.0), (246.5, 102.5))
TILT = math.degrees(math.atan2(2.5, 44))


def turned(photo: Image.Image, degrees: float) -> Image.Image:
    """Anticlockwise about its middle, its own colours going on around it."""
    wide = Image.new("RGB", (768, 768), (190, 180, 180))
    wide.paste(photo, (128, 128))
    return wide.rotate(degrees, Image.Resampling.BICUBIC, fillcolor=(190, 180, 180))


@pytest.mark.parametrize("degrees", [0, 6, 12, -12, 20, 30, -30])
def test_eyes_are_level_afterwards(
    astronaut: Image.Image, make: Any, finder: HaarFinder, degrees: float
) -> None:
    made = make(turned(astronaut, degrees))
    assert made.turned == pytest.approx(degrees - TILT, abs=2), "against the angle that was measured by hand"
    (again,) = finder.find(made.image)
    assert abs(again.angle) < 2


def test_a_turned_photograph_gives_nearly_the_same_portrait(astronaut: Image.Image, make: Any) -> None:
    straight, tilted = (
        np.asarray(make(turned(astronaut, degrees)).image).astype(int)[60:460, 130:380] for degrees in (0, 12)
    )
    assert np.abs(straight - tilted).mean() < 9


def test_without_levelling_the_tilt_stays(astronaut: Image.Image, make: Any, finder: HaarFinder) -> None:
    made = make(turned(astronaut, -10), level=False)
    assert made.turned == 0
    (again,) = finder.find(made.image)
    assert again.angle == pytest.approx(10 + TILT, abs=2)


@pytest.mark.parametrize("scale", [0.6, 1.0, 3.0])
def test_the_eyes_lie_where_the_rule_puts_them(
    astronaut: Image.Image, make: Any, finder: HaarFinder, scale: float
) -> None:
    size = (round(512 * scale),) * 2
    made = make(astronaut.resize(size, Image.Resampling.LANCZOS), size="passport")
    (again,) = finder.find(made.image)
    (ax, ay), (bx, by) = again.eyes
    assert (ax + bx) / 2 == pytest.approx(413 / 2, abs=6)
    assert (ay + by) / 2 == pytest.approx((0.11 + 0.74 * 1.78 / 3.53) * 531, abs=9)
    # 63 mm between the eyes of a head of 222 mm, which is 74 % of 45 mm
    assert bx - ax == pytest.approx(531 * 0.74 / 3.53, rel=0.05)


@pytest.mark.parametrize("size", RULES)
def test_every_rule_keeps_its_own_bounds(size: str) -> None:
    rule = RULES[size]
    face = Face(0, 0, 100, 100, ((30, 40), (75, 40)))
    found = frame(rule, Head.of(face), pixels(rule, None, 300), ends=1e6)
    assert Head.of(face).height / found.height == pytest.approx(rule.head)
    assert found.top == pytest.approx(Head.of(face).crown - rule.above * found.height)
    assert found.width / found.height == pytest.approx(rule.width / rule.height, rel=0.01)


@pytest.mark.parametrize("hair", [-150.0, -110.0, -90.0])
def test_a_passport_keeps_its_head_within_icaos_bounds_whatever_the_hair(hair: float) -> None:
    rule, head = RULES["passport"], Head(-80.0, 80.0)
    found = with_hair(rule, head, frame(rule, head, (413, 531), 1e6), hair, cut=False)
    assert 0.7 - 1e-6 <= head.height / found.height <= 0.8
    assert found.bottom >= head.chin + 0.04 * found.height, "the chin is in the picture"
    assert found.top <= max(hair, -120), "hair has its room"


def test_where_the_photograph_ends_below_the_frame_is_closer() -> None:
    rule, head = RULES["avatar"], Head(-80.0, 80.0)
    free = frame(rule, head, (512, 512), 1e6)
    short = frame(rule, head, (512, 512), free.bottom - 20)
    assert short.height < free.height
    assert short.bottom == pytest.approx(free.bottom - 20)
    least = frame(rule, head, (512, 512), 1.0)
    assert head.height / least.height == pytest.approx(rule.most), "but no closer than the rule lets it"


def test_a_frame_is_sampled_to_the_pixel() -> None:
    chance = np.random.default_rng(1)
    photo = Image.fromarray(chance.integers(0, 256, (60, 80, 3), dtype=np.uint8))
    same = sampled(photo, Axes(20.0, 10.0, 0.0), Frame(-10, -5, 40, 30, (40, 30)))
    assert (np.asarray(same) == np.asarray(photo)[5:35, 10:50]).all()


def test_a_frame_of_a_large_photograph_is_averaged_and_not_skipped_through() -> None:
    stripes = np.zeros((1000, 1000, 3), np.uint8)
    stripes[:, ::2] = 255
    small = np.asarray(
        sampled(Image.fromarray(stripes), Axes(500, 500, 0), Frame(-400, -400, 800, 800, (100, 100)))
    )
    assert small.std() < 3
    assert abs(float(small.mean()) - 127.5) < 2


def test_a_large_photograph_gives_the_same_portrait_as_a_small_one(astronaut: Image.Image, make: Any) -> None:
    large = astronaut.resize((3000, 3000), Image.Resampling.BICUBIC)
    small, reduced = (np.asarray(make(photo).image.reduce(16)).astype(int) for photo in (astronaut, large))
    assert np.abs(small - reduced).mean() < 6


def test_the_ground_goes_on_past_the_border_without_streaks(astronaut: Image.Image, make: Any) -> None:
    """Cut close to the hair: above it the frame has no pixels of the photograph."""
    tight = astronaut.crop((120, 14, 330, 260))
    made = np.asarray(make(tight).image).astype(int)
    above = made[4:40, 100:400]
    assert np.abs(np.diff(above, axis=1)).max() < 30


def test_a_blank_picture_has_no_face(make: Any) -> None:
    for size in ((1, 1), (2000, 3), (300, 300)):
        with pytest.raises(BadInput, match="No face"):
            make(Image.new("RGB", size, (128, 128, 128)))
