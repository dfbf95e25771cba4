"""Poses as OpenPose's ControlNets know them."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from services.controlnet.drawing import draw
from services.controlnet.geometry import fit_poses
from services.poses import Person, Point, Poses

# a person who stands in a picture of 512 pixels, arms a little out
STANDING: list[Point] = [
    (x, y, 1.0)
    for x, y in [
        *((256, 90), (256, 150), (210, 150), (180, 220), (160, 290), (302, 150), (332, 220), (352, 290)),
        *((228, 290), (222, 380), (218, 470), (284, 290), (290, 380), (294, 470)),
        *((244, 78), (268, 78), (230, 86), (282, 86)),
    ]
]
LIMB_COLOURS = {  # what a limb's middle shows: from, to, colour
    "right upper arm": (2, 3, (153, 102, 0)),
    "left forearm": (6, 7, (51, 153, 0)),
    "right thigh": (8, 9, (0, 153, 51)),
    "left shin": (12, 13, (0, 51, 153)),
    "neck": (1, 0, (0, 0, 153)),
}


def one(body: list[Point] = STANDING, **more: list[Point]) -> Poses:
    return Poses(people=[Person(body=body, **more)])


@pytest.mark.parametrize("limb", LIMB_COLOURS)
def test_a_limb_has_its_own_dimmed_colour(limb: str) -> None:
    start, end, colour = LIMB_COLOURS[limb]
    middle = tuple((STANDING[start][axis] + STANDING[end][axis]) // 2 for axis in (0, 1))
    assert draw(one(), (512, 512)).getpixel(middle) == colour


@pytest.mark.parametrize(
    ("point", "colour"), [(0, (255, 0, 0)), (4, (170, 255, 0)), (7, (0, 255, 85)), (17, (255, 0, 85))]
)
def test_a_joint_has_its_own_full_colour(point: int, colour: tuple[int, int, int]) -> None:
    x, y, _ = STANDING[point]
    assert draw(one(), (512, 512)).getpixel((int(x), int(y))) == colour


def test_a_point_that_was_not_seen_takes_its_limbs_with_it() -> None:
    body = list(STANDING)
    body[3] = (*body[3][:2], 0.0)
    map_ = draw(one(body), (512, 512))
    assert map_.getpixel((180, 220)) == (0, 0, 0)
    assert map_.getpixel((195, 185)) == (0, 0, 0), "the upper arm"
    assert map_.getpixel((170, 255)) == (0, 0, 0), "the forearm"
    assert map_.getpixel((160, 290)) != (0, 0, 0), "the wrist was seen"


def test_hands_are_lines_with_blue_joints_and_faces_white_dots() -> None:
    hand: list[Point] = [(100 + 9 * (joint % 4), 100 + 20 * (joint // 4), 1.0) for joint in range(21)]
    face: list[Point] = [(20 + 12 * (dot % 10), 400 + 12 * (dot // 10), 1.0) for dot in range(70)]
    bare = np.asarray(draw(one(), (512, 512)))
    map_ = draw(one(left_hand=hand, face=face), (512, 512))
    assert map_.getpixel((100, 100)) == (0, 0, 255)
    assert map_.getpixel((20, 400)) == (255, 255, 255)
    assert (np.asarray(map_) != bare).any(axis=2).sum() > 2000


def test_the_pen_grows_with_the_picture() -> None:
    def ink(side: int) -> float:
        body = [(x * side / 512, y * side / 512, seen) for x, y, seen in STANDING]
        return float((np.asarray(draw(one(body), (side, side))) > 0).any(axis=2).mean())

    assert ink(1024) == pytest.approx(ink(512), rel=0.1)
    assert ink(256) == pytest.approx(ink(512), rel=0.25)


def test_points_outside_the_picture_are_no_harm() -> None:
    far: list[Point] = [(16_384 if x % 4 else -16_384, -y, seen) for x, y, seen in STANDING]
    hand: list[Point] = [(-16_384 + 1_500 * joint, 16_384, 1.0) for joint in range(21)]
    poses = one([*far[:9], *STANDING[9:]], left_hand=hand)
    for size in [(64, 48), (2048, 2048)]:
        assert draw(fit_poses(poses, (1, 1), size), size).size == size


def test_everyone_is_drawn() -> None:
    smaller = [(x / 4, y / 4, seen) for x, y, seen in STANDING]
    beside = [(x + 60, y, seen) for x, y, seen in smaller]
    both = draw(Poses(people=[Person(body=smaller), Person(body=beside)]), (200, 128))
    left, right = (np.asarray(draw(one(body), (200, 128))) for body in (smaller, beside))
    assert isinstance(both, Image.Image)
    assert np.array_equal(np.asarray(both) > 0, (left > 0) | (right > 0))
