"""Poses as pictures: in come people's points, out comes the map that OpenPose's ControlNets were trained on.

The limbs are ellipses in the rainbow's colours, dimmed, with the joints over them in full colour; hands are thin lines
with blue joints, faces white dots. Those nets know lines of a certain width on a picture of 512 pixels, so the pen
grows and shrinks with the picture. A point of confidence 0 was not seen, and nothing that needs it is drawn.
"""

from __future__ import annotations

import colorsys
import math
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from services.poses import BODY_POINTS, Person, Point, Poses

Canvas = NDArray[Any]  # of uint8, RGB
Colour = tuple[int, int, int]

LIMBS = (  # pairs of body points, in the order of their colours
    *((1, 2), (1, 5), (2, 3), (3, 4), (5, 6), (6, 7), (1, 8), (8, 9), (9, 10)),
    *((1, 11), (11, 12), (12, 13), (1, 0), (0, 14), (14, 16), (0, 15), (15, 17)),
)
FINGERS = tuple(
    (0 if joint == 0 else base + joint - 1, base + joint) for base in range(1, 21, 4) for joint in range(4)
)
DIM = 0.6
FULL_SIZE = 512  # where the pen has the widths below
STICK, JOINT, FINGER, DOT = 4, 4, 2, 3
THINNEST = 1.5  # half a limb, on a small picture: a thinner one is lost on the way into the net
_SHIFT = 4  # sixteenths of a pixel


def draw(poses: Poses, size: tuple[int, int]) -> Image.Image:
    """Everyone on black; the points are pixels of a canvas of that size."""
    canvas = np.zeros((size[1], size[0], 3), np.uint8)
    pen = min(size) / FULL_SIZE
    for person in poses.people:
        _draw_body(canvas, person, pen)
        for hand in (person.left_hand, person.right_hand):
            if hand is not None:
                _draw_hand(canvas, hand, pen)
        if person.face is not None:
            for point in filter(_seen, person.face):
                _dot(canvas, point, DOT * pen, (255, 255, 255))
    return Image.fromarray(canvas)


def rainbow(at: int, colours: int) -> Colour:
    red, green, blue = colorsys.hsv_to_rgb(at / colours, 1, 1)
    return round(red * 255), round(green * 255), round(blue * 255)


def _draw_body(canvas: Canvas, person: Person, pen: float) -> None:
    for number, (start, end) in enumerate(LIMBS):
        one, other = person.body[start], person.body[end]
        if _seen(one) and _seen(other):
            red, green, blue = rainbow(number, BODY_POINTS)
            _limb(canvas, one, other, STICK * pen, (int(red * DIM), int(green * DIM), int(blue * DIM)))
    for number, point in enumerate(person.body):
        if _seen(point):
            _dot(canvas, point, max(THINNEST, JOINT * pen), rainbow(number, BODY_POINTS))


def _draw_hand(canvas: Canvas, hand: list[Point], pen: float) -> None:
    for number, (start, end) in enumerate(FINGERS):
        if _seen(hand[start]) and _seen(hand[end]):
            one, other = ((round(x), round(y)) for x, y, _ in (hand[start], hand[end]))
            cv2.line(canvas, one, other, rainbow(number, len(FINGERS)), thickness=max(1, round(FINGER * pen)))
    for point in filter(_seen, hand):
        _dot(canvas, point, max(THINNEST, JOINT * pen), (0, 0, 255))


def _limb(canvas: Canvas, one: Point, other: Point, half: float, colour: Colour) -> None:
    """An ellipse from joint to joint."""
    middle = ((one[0] + other[0]) / 2, (one[1] + other[1]) / 2)
    length = math.hypot(one[0] - other[0], one[1] - other[1])
    angle = math.degrees(math.atan2(one[1] - other[1], one[0] - other[0]))
    corners = _ellipse(middle, (length / 2, max(THINNEST, half)), angle)
    cv2.fillConvexPoly(canvas, corners, colour, shift=_SHIFT)


def _ellipse(middle: tuple[float, float], axes: tuple[float, float], angle: float) -> NDArray[Any]:
    turn = np.linspace(0, 2 * math.pi, 90, endpoint=False)
    along, across = axes[0] * np.cos(turn), axes[1] * np.sin(turn)
    sine, cosine = math.sin(math.radians(angle)), math.cos(math.radians(angle))
    x = middle[0] + along * cosine - across * sine
    y = middle[1] + along * sine + across * cosine
    return np.asarray(np.round(np.stack([x, y], axis=1) * 2**_SHIFT), dtype=np.int32)


def _dot(canvas: Canvas, point: Point, radius: float, colour: Colour) -> None:
    at = round(point[0] * 2**_SHIFT), round(point[1] * 2**_SHIFT)
    cv2.circle(canvas, at, round(max(0.75, radius) * 2**_SHIFT), colour, thickness=-1, shift=_SHIFT)


def _seen(point: Point) -> bool:
    return point[2] > 0
