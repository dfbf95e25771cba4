"""Smoothing, backdrops, sheets and cut-outs, one by one."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from services.errors import BadInput, Cancelled, UnknownModel
from services.operations import Portrait
from services.pictures import Picture
from services.portrait import studio
from services.portrait.backdrop import backdrop
from services.portrait.cutters import Cutters
from services.portrait.haar import HaarFinder
from services.portrait.light import linear
from services.portrait.sheet import laid_out, sheet
from services.portrait.skin import Features
from services.portrait.smooth import smoothed

FACE = Features((202.5, 100.0), (246.5, 102.5))
CHIN, EYE, MOUTH, WALL = (214, 158, 20, 12), (192, 92, 24, 16), (205, 136, 44, 16), (300, 20, 60, 60)


def part(pixels: Any, box: tuple[int, int, int, int]) -> Any:
    x, y, wide, high = box
    return pixels[y : y + high, x : x + wide].astype(float)


def texture(pixels: Any) -> float:
    """What is left of a surface when its shading is taken away."""
    return float((pixels - cv2.GaussianBlur(pixels, (0, 0), 3)).std())


@pytest.fixture(scope="module")
def spotted(astronaut: Image.Image) -> Any:
    """Her, with noise on everything, as of a high sensitivity."""
    noise = np.random.default_rng(2).normal(0, 4, (512, 512, 1))
    return np.clip(np.asarray(astronaut) + noise, 0, 255).astype(np.uint8)


# ── smoothing ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_skin_gets_smoother_the_more_is_asked_for(spotted: Any, astronaut: Image.Image) -> None:
    def noise(amount: float) -> float:
        made = (part(smoothed(pixels, amount, FACE), CHIN) for pixels in (spotted, np.asarray(astronaut)))
        return float((next(made) - next(made)).std())

    left = [noise(amount) for amount in (0.0, 0.3, 0.6, 1.0)]
    assert left == sorted(left, reverse=True)
    assert 0.2 * left[0] < left[-1] < 0.7 * left[0], "it goes, and yet skin is not wax"


@pytest.mark.parametrize("box", [EYE, MOUTH])
def test_eyes_and_mouth_are_kept(spotted: Any, box: tuple[int, int, int, int]) -> None:
    changed = np.abs(part(smoothed(spotted, 1.0, FACE), box) - part(spotted, box))
    assert changed.mean() < 1
    before, after = texture(part(spotted, box)), texture(part(smoothed(spotted, 1.0, FACE), box))
    assert after > 0.9 * before


def test_what_is_no_skin_comes_back_bit_for_bit(spotted: Any) -> None:
    after = smoothed(spotted, 1.0, FACE)
    assert (part(after, WALL) == part(spotted, WALL)).all()
    assert (after[300:] == spotted[300:]).all()


def test_skin_keeps_its_colour(spotted: Any) -> None:
    before, after = part(spotted, CHIN), part(smoothed(spotted, 1.0, FACE), CHIN)
    assert np.abs(before.mean(axis=(0, 1)) - after.mean(axis=(0, 1))).max() < 5


def test_no_smoothing_is_the_very_same(spotted: Any) -> None:
    assert smoothed(spotted, 0.0, FACE) is spotted


# ── backdrops ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_one_colour_is_exactly_that() -> None:
    assert backdrop((9, 7), "#123456", None, "radial").getcolors() == [(63, (0x12, 0x34, 0x56, 255))]


@pytest.mark.parametrize("gradient", ["linear", "radial"])
def test_a_gradient_begins_and_ends_with_its_colours(gradient: Any) -> None:
    made = np.asarray(backdrop((200, 200), "#f0e0d0", "#203040", gradient)).astype(int)
    begin, end = ((0, 100), (199, 100)) if gradient == "linear" else ((84, 100), (199, 0))
    assert np.abs(made[begin][:3] - (0xF0, 0xE0, 0xD0)).max() <= 2
    assert np.abs(made[end][:3] - (0x20, 0x30, 0x40)).max() <= 2
    assert (made[..., 3] == 255).all()


def test_half_way_is_half_the_light() -> None:
    middle = np.asarray(backdrop((50, 201), "white", "black", "linear"))[100, :, :3].astype(np.uint8)
    assert float(linear(middle).mean()) == pytest.approx(0.5, abs=0.02)


def test_a_gentle_gradient_has_no_bands() -> None:
    made = np.asarray(backdrop((300, 600), "#d8d8d8", "#d0d0d0", "linear"))[..., 0].astype(int)
    rows = made.mean(axis=1)
    assert (np.abs(np.diff(rows)) < 0.3).all(), "a band would be a step of a whole level"


def test_a_gradient_may_end_see_through() -> None:
    made = backdrop((20, 100), "#ff0000", "transparent", "linear").getchannel("A")
    assert (made.getpixel((5, 0)), made.getpixel((5, 99))) == (255, 0)


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (9, 1)])
@pytest.mark.parametrize("gradient", ["linear", "radial"])
def test_a_backdrop_can_be_of_any_size(size: tuple[int, int], gradient: Any) -> None:
    assert backdrop(size, "white", "black", gradient).size == size


# ── sheets ────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("dpi", [72, 150, 300, 600])
@pytest.mark.parametrize(
    ("paper", "millimetres", "count"),
    [("10x15", (35, 45), 8), ("10x15", (30, 40), 9), ("10x15", (25, 30), 15), ("a4", (35, 45), 30)],
)
def test_as_many_lie_on_paper_as_a_photo_shop_prints(
    paper: Any, millimetres: tuple[int, int], count: int, dpi: int
) -> None:
    size = round(millimetres[0] / 25.4 * dpi), round(millimetres[1] / 25.4 * dpi)
    assert laid_out(paper, size, dpi).count >= count


def test_marks_lie_along_the_cuts_and_outside_of_the_pictures() -> None:
    one = Image.new("RGB", (413, 531), (10, 200, 30))
    paper = np.asarray(sheet(one, "10x15", None, 300)).astype(int)
    green = (paper == (10, 200, 30)).all(axis=2)
    ink = (paper.sum(axis=2) < 700) & ~green
    assert green.sum() == 8 * 413 * 531, "no mark is on a picture"
    columns = np.flatnonzero(np.diff(green.any(axis=0).astype(int)))
    for cut in columns:
        assert ink[:, cut : cut + 2].any(), f"a mark along the cut at {cut}"


def test_a_see_through_portrait_is_printed_on_white() -> None:
    paper = sheet(Image.new("RGBA", (300, 300), (0, 0, 0, 0)), "10x15", 1, 300)
    assert (paper.mode, paper.getpixel((200, 200))) == ("RGB", (255, 255, 255))


def test_what_does_not_fit_says_how_large_it_would_be() -> None:
    with pytest.raises(BadInput, match=r"347 x 347 mm does not fit on 10x15") as caught:
        sheet(Image.new("RGB", (4096, 4096)), "10x15", None, 300)
    assert caught.value.field == "side"


def test_a_sheet_of_more_pixels_than_the_installation_allows_is_refused() -> None:
    ask = Portrait(image=Picture("part:a"), sheet="a4", dpi=600)
    with pytest.raises(BadInput, match="4961 x 7016") as caught:
        studio.refuse_too_large(ask, 30_000_000)
    assert caught.value.field == "dpi"
    studio.refuse_too_large(ask, 50_000_000)


# ── cutting out ───────────────────────────────────────────────────────────────────────────────────────────────


def test_a_cutter_is_known_by_its_aliases_and_an_unknown_one_is_told_at_its_field(tmp_path: Any) -> None:
    cutters = Cutters(tmp_path)
    assert cutters.engine("none") is None
    assert cutters.engine("auto") is not None
    with pytest.raises(UnknownModel, match="grabcut") as caught:
        cutters.engine("nobody")
    assert caught.value.field == "cutter"


class Everything:
    """An engine that takes the whole picture for the person."""

    def __init__(self) -> None:
        self.shown: list[tuple[int, int]] = []

    def mask(self, image: Image.Image, step: Any) -> Image.Image:
        self.shown.append(image.size)
        step(0, 1)
        return Image.new("L", image.size, 255)


def made(photo: Image.Image, finder: HaarFinder, engine: Any, **fields: Any) -> Image.Image:
    ask = Portrait(image=Picture("part:image", photo), **fields)
    return studio.portrait(ask, finder, engine, lambda _done, _total: None).image


def test_who_is_cut_off_at_the_side_fades_into_the_backdrop(
    astronaut: Image.Image, finder: HaarFinder
) -> None:
    tight = astronaut.crop((165, 0, 512, 400))
    image = np.asarray(made(tight, finder, Everything(), backdrop="#0000ff")).astype(int)
    assert (image[100:400, :8] == (0, 0, 255)).all()
    assert (image[100:400, 250:260] != (0, 0, 255)).any()


def test_a_cutter_is_not_shown_more_pixels_than_it_needs(astronaut: Image.Image, finder: HaarFinder) -> None:
    engine = Everything()
    made(astronaut.resize((3000, 3000)), finder, engine, side=4096)
    made(astronaut, finder, engine, side=4096)
    assert max(engine.shown[0]) <= studio.CUTTER_SIDE
    assert max(engine.shown[1]) <= 512


def test_nothing_is_painted_for_nobody(astronaut: Image.Image, finder: HaarFinder) -> None:
    def gone(done: int, _total: int) -> None:
        if done:
            raise Cancelled("The caller went away.")

    ask = Portrait(image=Picture("part:image", astronaut))
    engine = Everything()
    with pytest.raises(Cancelled):
        studio.portrait(ask, finder, engine, gone)
    assert engine.shown == []


@pytest.mark.slow
def test_matting_keeps_hair_that_a_plain_cut_loses(astronaut: Image.Image, make: Any) -> None:
    """Half-transparent pixels around the head: strands, not a line."""

    def soft(matting: bool) -> float:
        image = make(astronaut, cutter="grabcut", backdrop="transparent", matting=matting).image
        alpha = np.asarray(image.getchannel("A"))[:250]
        return float(((alpha > 20) & (alpha < 235)).mean())

    assert soft(True) > 1.2 * soft(False)
