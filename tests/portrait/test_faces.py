"""Which face is meant, and YuNet's loader on a net that the test makes, with the inputs and outputs of the real one."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from services.errors import BadInput, Unavailable
from services.portrait.crop import Head
from services.portrait.faces import Face, chosen
from services.portrait.haar import HaarFinder
from services.portrait.yunet import FILE, YunetFinder

SIZE = (800, 600)


def face(left: float, width: float = 100) -> Face:
    eyes = ((left + 0.28 * width, 140.0), (left + 0.72 * width, 140.0))
    return Face(left, 100, width, width, eyes)


def test_the_only_face_is_meant() -> None:
    assert chosen([face(50)], "only", SIZE) == face(50)


def test_somebody_small_in_the_background_does_not_count() -> None:
    assert chosen([face(50), face(400, 35)], "only", SIZE) == face(50)


def test_several_are_listed_from_the_left_with_their_places() -> None:
    with pytest.raises(BadInput, match="There are 3 faces") as caught:
        chosen([face(500), face(50), face(300, 80)], "only", SIZE)
    assert caught.value.field == "image"
    assert [told["left"] for told in caught.value.extra["faces"]] == [50, 300, 500]
    assert "0: 100 x 100 pixels at (50, 100)" in caught.value.detail


@pytest.mark.parametrize(("which", "left"), [(0, 50), (1, 300), ("largest", 300)])
def test_one_of_several_can_be_chosen(which: Any, left: float) -> None:
    assert chosen([face(300, 150), face(50)], which, SIZE).left == left


def test_a_number_that_no_face_has_is_refused_at_its_own_field() -> None:
    with pytest.raises(BadInput, match="there is one in the picture") as caught:
        chosen([face(50)], 1, SIZE)
    assert caught.value.field == "face"


def test_a_crowd_is_told_in_short() -> None:
    with pytest.raises(BadInput, match="and 30 more") as caught:
        chosen([face(10.0 * at) for at in range(40)], "only", SIZE)
    assert len(caught.value.detail) < 1000


def test_one_that_is_too_small_is_refused_with_its_size() -> None:
    with pytest.raises(BadInput, match=r"too small.*24 x 24 pixels.*11 pixels between") as caught:
        chosen([face(50, 24)], "only", SIZE)
    assert caught.value.field == "image"


def test_eyes_that_were_not_seen_are_guessed_from_the_box() -> None:
    blind = Face(50, 100, 100, 100)
    assert blind.angle == 0
    assert blind.between == pytest.approx(face(50).between, rel=0.15)


# ── the cascades ──────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("scale", [0.4, 1.0, 2.0, 6.0])
def test_the_eyes_are_found_within_a_fiftieth_of_the_face(
    astronaut: Image.Image, finder: HaarFinder, scale: float
) -> None:
    size = (round(512 * scale),) * 2
    (found,) = finder.find(astronaut.resize(size, Image.Resampling.LANCZOS))
    assert found.eyes is not None
    for (x, y), (true_x, true_y) in zip(found.eyes, ((202.5, 100.0), (246.5, 102.5)), strict=True):
        assert math.dist((x / scale, y / scale), (true_x, true_y)) < 2


@pytest.mark.parametrize("light", [0.35, 1.6])
def test_dark_and_bright_photographs_show_their_face(
    astronaut: Image.Image, finder: HaarFinder, light: float
) -> None:
    (found,) = finder.find(astronaut.point(lambda value: min(255, round(value * light))))
    assert abs(found.middle[0] - 224) < 10


@pytest.mark.parametrize("seed", range(6))
def test_noise_and_shapes_are_no_faces(finder: HaarFinder, seed: int) -> None:
    chance = np.random.default_rng(seed)
    noise = chance.integers(0, 256, (300, 400, 3), dtype=np.uint8)
    blocks = np.kron(chance.integers(0, 256, (12, 16, 3), dtype=np.uint8), np.ones((25, 25, 1), np.uint8))
    assert finder.find(Image.fromarray(noise)) == []
    assert finder.find(Image.fromarray(blocks)) == []


# ── YuNet ─────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("scale", [1, 2])
def test_yunets_rows_are_read_in_the_photographs_pixels(yunet: Path, scale: int) -> None:
    photo = Image.new("RGB", (640 * scale, 480 * scale))
    photo.paste((255, 255, 255), (320 * scale, 240 * scale, 328 * scale, 248 * scale))
    (found,) = YunetFinder(yunet).find(photo)
    assert found.left == pytest.approx((324 - 32) * scale, abs=1)
    assert found.top == pytest.approx((244 - 40) * scale, abs=1)
    assert (found.width, found.height) == pytest.approx((64 * scale, 80 * scale), abs=1)
    assert found.eyes is not None
    assert found.eyes[0] == pytest.approx((308 * scale, 240 * scale), abs=1), (
        "the left one in the picture goes first"
    )
    assert found.eyes[1] == pytest.approx((340 * scale, 232 * scale), abs=1)
    assert found.angle == pytest.approx(math.degrees(math.atan2(-8, 32)), abs=1)


def test_a_mouth_says_where_the_chin_is_within_reason(yunet: Path) -> None:
    photo = Image.new("RGB", (640, 480))
    photo.paste((255, 255, 255), (320, 240, 328, 248))
    (found,) = YunetFinder(yunet).find(photo)
    head = Head.of(found)
    assert 1.5 * found.between <= head.chin <= 2.0 * found.between


def test_yunet_finds_nothing_in_the_dark(yunet: Path) -> None:
    assert YunetFinder(yunet).find(Image.new("RGB", (333, 77))) == []
    assert YunetFinder(yunet).find(Image.new("RGB", (1, 1))) == []


def test_a_damaged_file_is_refused_with_the_command(tmp_path: Path) -> None:
    path = tmp_path / FILE
    path.write_bytes(b"this is no net")
    with pytest.raises(Unavailable, match=FILE) as caught:
        YunetFinder(path)
    assert "darkroom models pull yunet" in caught.value.what_to_do
