"""Edges, and the thresholds that are found for pictures of many kinds."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image, ImageDraw

from services.controlnet.canny import edges, thresholds


def drawn(ground: int, ink: int, side: int = 256) -> Image.Image:
    """A disc on a ground."""
    image = Image.new("RGB", (side, side), (ground,) * 3)
    ImageDraw.Draw(image).ellipse((side // 4, side // 4, side * 3 // 4, side * 3 // 4), fill=(ink,) * 3)
    return image


def noisy(image: Image.Image, deviation: float) -> Image.Image:
    values = np.asarray(image) + np.random.default_rng(5).normal(0, deviation, (*image.size[::-1], 3))
    return Image.fromarray(np.clip(values, 0, 255).astype(np.uint8))


def share(image: Image.Image) -> float:
    """Of pixels that are edges."""
    return float((np.asarray(edges(image)) > 0).mean())


def test_given_thresholds_give_opencvs_own_map(samples: Path) -> None:
    photo = Image.open(samples / "astronaut.jpg").convert("RGB")
    expected = cv2.Canny(np.asarray(photo), 100, 200)
    for channel in edges(photo, 100, 200).split():
        assert np.array_equal(np.asarray(channel), expected)


@pytest.mark.parametrize("name", ["astronaut.jpg", "coffee.jpg"])
def test_a_photograph_gets_outlines_and_not_every_texture(samples: Path, name: str) -> None:
    photo = Image.open(samples / name).convert("RGB").resize((512, 512))
    assert 0.04 < share(photo) < 0.14


def test_a_dark_picture_is_treated_as_its_bright_twin(samples: Path) -> None:
    photo = Image.open(samples / "astronaut.jpg").convert("RGB").resize((512, 512))
    dark = photo.point([round(level * 0.15) for level in range(256)] * 3)
    assert (np.asarray(edges(dark, 100, 200)) > 0).mean() < 0.001, "the usual thresholds see nothing in it"
    assert share(dark) > 0.04
    low, high = thresholds(photo)
    dark_low, dark_high = thresholds(dark)
    assert dark_low < low / 2
    assert dark_high < high / 2


@pytest.mark.parametrize(("ground", "ink"), [(255, 0), (0, 255), (20, 34), (200, 190)])
def test_a_things_outline_is_all_that_a_drawing_gives(ground: int, ink: int) -> None:
    found = np.asarray(edges(drawn(ground, ink)).convert("L")) > 0
    outline = np.zeros((256, 256), np.uint8)
    cv2.circle(outline, (128, 128), 64, 255, 5)
    assert found.sum() > 2 * np.pi * 64 * 0.8
    assert not (found & (outline == 0)).any()


def test_noise_is_no_edge_but_what_stands_out_of_it_is() -> None:
    assert share(noisy(Image.new("RGB", (256, 256), (128, 128, 128)), 25)) < 0.002
    found = np.asarray(edges(noisy(drawn(60, 220), 12)).convert("L")) > 0
    near = np.zeros((256, 256), np.uint8)
    cv2.circle(near, (128, 128), 64, 255, 9)
    assert (found & (near > 0)).sum() > 2 * np.pi * 64 * 0.7
    assert (found & (near == 0)).mean() < 0.002


@pytest.mark.parametrize("level", [0, 7, 128, 255])
def test_a_flat_picture_has_no_edges(level: int) -> None:
    assert share(Image.new("RGB", (200, 120), (level,) * 3)) == 0


def test_a_slope_is_no_edge() -> None:
    slope = Image.fromarray(np.linspace(0, 255, 512).astype(np.uint8)[None].repeat(64, 0)).convert("RGB")
    assert share(slope) == 0


@pytest.mark.parametrize("size", [(1, 1), (1, 40), (2, 2), (3, 3), (700, 2)])
def test_a_tiny_picture_is_read_too(size: tuple[int, int]) -> None:
    rng = np.random.default_rng(1)
    image = Image.fromarray(rng.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8))
    low, high = thresholds(image)
    assert 0 < low <= high
    assert edges(image).size == size


def test_one_threshold_that_is_given_is_kept(samples: Path) -> None:
    photo = Image.open(samples / "coffee.jpg").convert("RGB").resize((256, 256))
    low, high = thresholds(photo)
    assert thresholds(photo, low=low + 1) == (low + 1, high)
    assert thresholds(photo, high=high + 5) == (low, high + 5)
    assert thresholds(photo, low=900) == (900, 900)
    assert thresholds(photo, high=3) == (3, 3)


def test_a_tall_picture_is_measured_as_a_whole() -> None:
    """It is read strip by strip; where one strip meets the next there must be neither a gap nor an edge."""
    rng = np.random.default_rng(2)
    pixels = cv2.GaussianBlur(rng.integers(0, 256, (1300, 90, 3), dtype=np.uint8), (0, 0), 1.5)
    beside = np.ascontiguousarray(np.rot90(pixels))
    assert thresholds(Image.fromarray(pixels)) == thresholds(Image.fromarray(beside))
