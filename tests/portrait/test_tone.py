"""Tone and exposure, measured in CIELAB: what a white patch does, and how little the hue of skin turns."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from PIL import Image

from services.portrait.light import coded, exposed, linear
from services.portrait.skin import Features
from services.portrait.tone import daylight, graded, white_point

FACE = Features((202.5, 100.0), (246.5, 102.5))
NOBODY = Features((40.0, 40.0), (60.0, 40.0))
# places on the astronaut's face, by hand: cheeks, chin, nose and brow
SKIN = ((190, 130), (258, 132), (226, 165), (224, 118), (222, 88))
# skin of six kinds, sRGB, from the fairest to the darkest of the Fitzpatrick scale's swatches
COMPLEXIONS = ((244, 208, 177), (231, 180, 143), (210, 158, 124), (186, 119, 80), (165, 94, 43), (60, 32, 29))


def lab(pixels: Any) -> Any:
    """CIELAB of sRGB for D65, by the formulas of CIE 15, apart from the code that is tested."""
    value = np.asarray(pixels, np.float64) / 255
    light = np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)
    to_xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    xyz = light @ to_xyz.T / (to_xyz @ np.ones(3))
    f = np.where(xyz > (6 / 29) ** 3, np.cbrt(xyz), xyz / (3 * (6 / 29) ** 2) + 4 / 29)
    return np.stack([116 * f[..., 1] - 16, 500 * (f[..., 0] - f[..., 1]), 200 * (f[..., 1] - f[..., 2])], -1)


def hue(colours: Any) -> Any:
    return np.degrees(np.arctan2(colours[..., 2], colours[..., 1]))


def plain(colour: tuple[int, int, int]) -> Any:
    return np.full((100, 100, 3), colour, np.uint8)


def patch(pixels: Any, at: tuple[int, int]) -> Any:
    x, y = at
    return pixels[y - 3 : y + 4, x - 3 : x + 4].reshape(-1, 3).mean(axis=0)


@pytest.mark.parametrize("grey", [64, 128, 200, 255])
@pytest.mark.parametrize(
    ("tone", "least", "most"), [(1.0, 6, 20), (0.6, 4, 13), (-0.6, -13, -4), (-1.0, -20, -6)]
)
def test_grey_moves_along_b_towards_the_light_that_was_asked_for(
    grey: int, tone: float, least: float, most: float
) -> None:
    before, after = lab(plain((grey,) * 3))[50, 50], lab(graded(plain((grey,) * 3), tone, 0, NOBODY))[50, 50]
    if grey < 100:
        least, most = (least * 0.5, most) if tone > 0 else (least, most * 0.5)
    assert least <= after[2] - before[2] <= most
    assert abs(after[1]) < 0.75 * abs(after[2]), "it gets yellower or bluer, not redder or greener"
    # white in another light is darker than white: nothing in sRGB is both coloured and as light
    assert abs(after[0] - before[0]) < (11 if grey == 255 else 2), "and stays as light"


def test_a_stronger_tone_moves_further() -> None:
    moves = [lab(graded(plain((180, 180, 180)), tone / 4, 0, NOBODY))[50, 50, 2] for tone in range(-4, 5)]
    assert moves == sorted(moves)
    assert len(set(moves)) == len(moves)


@pytest.mark.parametrize("tone", [-1.0, -0.6, 0.6, 1.0])
@pytest.mark.parametrize("place", SKIN)
def test_skin_in_a_photograph_turns_its_hue_by_a_few_degrees_only(
    astronaut: Image.Image, tone: float, place: tuple[int, int]
) -> None:
    pixels = np.asarray(astronaut)
    before, after = (lab(patch(p, place)) for p in (pixels, graded(pixels, tone, 0, FACE)))
    assert abs(hue(after) - hue(before)) < 5
    assert np.hypot(*(after - before)[1:]) < 4
    assert abs(after[0] - before[0]) < 4.5


@pytest.mark.parametrize("tone", [-1.0, 1.0])
@pytest.mark.parametrize("colour", COMPLEXIONS)
def test_skin_of_every_complexion_is_kept(tone: float, colour: tuple[int, int, int]) -> None:
    before, after = lab(plain(colour))[50, 50], lab(graded(plain(colour), tone, 0, NOBODY))[50, 50]
    assert abs(hue(after) - hue(before)) < 5


@pytest.mark.parametrize("tone", [-1.0, 1.0])
def test_without_that_care_skin_would_move_much_further(astronaut: Image.Image, tone: float) -> None:
    """What the white point's move alone does to a cheek: the bounds above are no matter of course."""
    light = exposed(linear(np.asarray(astronaut)), 1.0) @ white_point(tone * 45).T
    bare = np.clip(coded(np.asarray(light, np.float32)) * 255 + 0.5, 0, 255).astype(np.uint8)
    before, after = (lab(patch(p, SKIN[0])) for p in (np.asarray(astronaut), bare))
    assert np.hypot(*(after - before)[1:]) > 10


def test_what_surrounds_the_face_still_moves(astronaut: Image.Image) -> None:
    pixels = np.asarray(astronaut)
    wall = (330, 60)
    for tone, sign in ((1.0, 1), (-1.0, -1)):
        before, after = (lab(patch(p, wall)) for p in (pixels, graded(pixels, tone, 0, FACE)))
        assert sign * (after[2] - before[2]) > 6


def test_neutral_is_the_very_same(astronaut: Image.Image) -> None:
    pixels = np.asarray(astronaut)
    assert graded(pixels, 0.0, 0.0, FACE) is pixels


@pytest.mark.parametrize("tone", [-1.0, 1.0])
def test_black_stays_black(tone: float) -> None:
    assert graded(plain((0, 0, 0)), tone, 0, NOBODY).max() <= 1


@pytest.mark.parametrize(
    ("kelvin", "x", "y"), [(5003, 0.34567, 0.35850), (6504, 0.31272, 0.32903), (7504, 0.29902, 0.31485)]
)
def test_daylight_is_the_standards(kelvin: float, x: float, y: float) -> None:
    """D50, D65 and D75 of CIE 15."""
    xyz = daylight(kelvin)
    assert xyz[0] / xyz.sum() == pytest.approx(x, abs=2e-4)
    assert xyz[1] / xyz.sum() == pytest.approx(y, abs=2e-4)


def test_no_move_is_no_change() -> None:
    assert np.allclose(white_point(0.0), np.eye(3), atol=1e-9)


# ── exposure ──────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("stops", [-2.0, -1.0, 0.5, 1.0])
def test_a_stop_is_a_factor_of_two_in_linear_light(stops: float) -> None:
    dark = plain((90, 60, 40))  # far below the shoulder
    before, after = linear(dark)[0, 0], linear(graded(dark, 0, stops, NOBODY))[0, 0]
    assert after / before == pytest.approx(np.full(3, 2.0**stops), rel=0.04)


def test_the_shoulder_keeps_order_and_hue_and_never_clips() -> None:
    ramp = np.repeat(np.arange(256, dtype=np.uint8)[None, :, None], 3, axis=2)
    bright = graded(np.repeat(ramp, 4, axis=0), 0, 2.0, NOBODY)[0, :, 0].astype(int)
    assert (np.diff(bright) >= 0).all()
    assert bright[255] == 255
    assert bright[240] < 255, "what was not white does not become white"
    colour = graded(plain((200, 120, 90)), 0, 1.5, NOBODY)[0, 0]
    before, after = linear(np.array([200, 120, 90], np.uint8)), linear(colour)
    assert after / after.max() == pytest.approx(before / before.max(), abs=0.02)


def test_there_and_back_is_the_same() -> None:
    codes = np.arange(256, dtype=np.uint8)
    assert (np.round(coded(linear(codes)) * 255) == codes).all()


def test_it_is_worked_on_in_strips_that_do_not_show(
    astronaut: Image.Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    pixels = np.asarray(astronaut)
    whole = []
    for strip in (512 * 7, 10**9):
        monkeypatch.setattr("services.portrait.tone.STRIP", strip)
        whole.append(graded(pixels, -0.7, 0.4, FACE))
    assert (whole[0] == whole[1]).all()
