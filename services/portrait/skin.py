"""Where the skin is: in come a picture and where its eyes are, out comes for each pixel how surely it is skin.

The cheeks say what this person's skin looks like in this light, whatever its colour; what has their chromaticity
is skin.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from services.portrait.faces import Point

Map = NDArray[Any]  # of float32

WHOLE = (0.0, 0.5, 1.05, 1.35)  # the face: across, down, half its width, half its height
WIDER = 2.5  # how much further inside the face a colour may stray and still be of it
CHEEK, BELOW, RADIUS = 0.45, 0.66, 0.16  # in distances between the eyes
SPREAD, DEPTH = 10.0, 26.0  # in Lab: how far chromaticity and lightness of skin stray from the cheeks'
# a face in coloured light, or a drawn one, has cheeks that no skin has: then a common skin stands in
COMMON = (65.0, 17.0, 19.0)
LEAST_HUE, MOST_HUE = 5.0, 95.0  # degrees


@dataclass(frozen=True, slots=True)
class Features:
    """Where a face's eyes are in a picture."""

    left: Point
    right: Point

    @property
    def between(self) -> float:
        return max(1.0, math.dist(self.left, self.right))

    def at(self, across: float, down: float) -> Point:
        """A point of the face, from the middle between the eyes, in distances between them."""
        (ax, ay), (bx, by) = self.left, self.right
        x, y = (bx - ax), (by - ay)
        return (ax + bx) / 2 + across * x - down * y, (ay + by) / 2 + across * y + down * x


def cheeks(lab: Map, face: Features) -> tuple[float, float, float]:
    """The colour of the cheeks."""
    height, width = lab.shape[:2]
    marks = np.zeros((height, width), np.uint8)
    for side in (-CHEEK, CHEEK):
        x, y = face.at(side, BELOW)
        cv2.circle(marks, (round(x), round(y)), max(1, round(RADIUS * face.between)), 1, -1)
    if not marks.any():
        return COMMON
    light, a, b = (float(value) for value in np.median(lab[marks > 0], axis=0))
    hue = math.degrees(math.atan2(b, a))
    return (light, a, b) if LEAST_HUE <= hue <= MOST_HUE and math.hypot(a, b) > 4 else COMMON


def likely(lab: Map, face: Features, *, lips: bool = False) -> Map:
    """From 0 to 1, for a picture in CIELAB; with `lips` they and the lights on the skin are of it, inside the face."""
    light, a, b = cheeks(lab, face)
    away = (lab[..., 1] - a) ** 2 + (lab[..., 2] - b) ** 2
    if lips:
        inside = np.zeros(lab.shape[:2], np.float32)
        ellipse(inside, face, WHOLE, 1.0)
        away /= 1 + (WIDER**2 - 1) * cv2.GaussianBlur(inside, (0, 0), max(0.6, 0.1 * face.between))
    depth = (lab[..., 0] - light) ** 2
    return np.asarray(np.exp(-away / (2 * SPREAD**2) - depth / (2 * DEPTH**2)), dtype=np.float32)


def ellipse(marks: Map, face: Features, part: tuple[float, float, float, float], value: float) -> None:
    """Draws a part of the face: where its middle is (across, down) and how far it reaches."""
    across, down, wide, high = part
    angle = math.degrees(math.atan2(face.right[1] - face.left[1], face.right[0] - face.left[0]))
    axes = (2 * wide * face.between, 2 * high * face.between)
    cv2.ellipse(marks, (face.at(across, down), axes, angle), value, -1)
