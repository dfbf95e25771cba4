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
Colour = tuple[float, float, float]  # in CIELAB
# a part of the face in distances between its eyes: where its middle is (across, down), how far it reaches
Part = tuple[float, float, float, float]

SMALL = 400  # pixels a side, in which places are drawn and colours are looked up
WHOLE: Part = (0.0, 0.5, 1.05, 1.35)
SURE = 1.6  # skin is not less sure for straying a little
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

    def scaled(self, by: float) -> Features:
        return Features(*((x * by, y * by) for x, y in (self.left, self.right)))

    def moved(self, x: float, y: float) -> Features:
        return Features(*((px + x, py + y) for px, py in (self.left, self.right)))

    def at(self, across: float, down: float) -> Point:
        """A point of the face, from the middle between the eyes, in distances between them."""
        (ax, ay), (bx, by) = self.left, self.right
        x, y = (bx - ax), (by - ay)
        return (ax + bx) / 2 + across * x - down * y, (ay + by) / 2 + across * y + down * x


def cheeks(pixels: NDArray[Any], face: Features) -> Colour:
    """The colour of the cheeks, in CIELAB, of an RGB picture (0 to 255, or 0 to 1 as float32)."""
    shrink = min(1.0, SMALL / max(pixels.shape[:2]))
    if shrink < 1:
        size = max(1, round(pixels.shape[1] * shrink)), max(1, round(pixels.shape[0] * shrink))
        pixels = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
    lab, face = to_lab(pixels), face.scaled(shrink)
    marks = np.zeros(lab.shape[:2], np.uint8)
    for side in (-CHEEK, CHEEK):
        x, y = face.at(side, BELOW)
        cv2.circle(marks, (round(x), round(y)), max(1, round(RADIUS * face.between)), 1, -1)
    if not marks.any():
        return COMMON
    light, a, b = (float(value) for value in np.median(lab[marks > 0], axis=0))
    hue = math.degrees(math.atan2(b, a))
    return (light, a, b) if LEAST_HUE <= hue <= MOST_HUE and math.hypot(a, b) > 4 else COMMON


def likely(lab: Map, cheek: Colour, inside: Map | None = None) -> Map:
    """From 0 to 1, for a picture in CIELAB; `inside` the face lips, and the lights on the skin, are of it."""
    light, a, b = cheek
    away = (lab[..., 1] - a) ** 2 + (lab[..., 2] - b) ** 2
    if inside is not None:
        away /= 1 + (WIDER**2 - 1) * inside
    depth = (lab[..., 0] - light) ** 2
    sure = np.exp(-away / (2 * SPREAD**2) - depth / (2 * DEPTH**2))
    return np.asarray(np.clip(SURE * sure, 0, 1), dtype=np.float32)


def region(shape: tuple[int, ...], face: Features, parts: tuple[tuple[Part, float], ...], soft: float) -> Map:
    """A map of parts of the face, each drawn over those before it, with soft edges; drawn small and enlarged."""
    shrink = min(1.0, SMALL / max(shape[:2]))
    size = max(1, round(shape[1] * shrink)), max(1, round(shape[0] * shrink))
    face, marks = face.scaled(shrink), np.zeros(size[::-1], np.float32)
    angle = math.degrees(math.atan2(face.right[1] - face.left[1], face.right[0] - face.left[0]))
    for (across, down, wide, high), value in parts:
        axes = (2 * wide * face.between, 2 * high * face.between)
        cv2.ellipse(marks, (face.at(across, down), axes, angle), value, -1)
    marks = cv2.GaussianBlur(marks, (0, 0), max(0.6, soft * face.between))
    return np.asarray(cv2.resize(marks, (shape[1], shape[0]), interpolation=cv2.INTER_LINEAR))


def to_lab(pixels: NDArray[Any]) -> Map:
    """CIELAB of sRGB, from 0 to 255, or from 0 to 1 as float32."""
    rgb = pixels.astype(np.float32) / 255 if pixels.dtype == np.uint8 else pixels
    return np.asarray(cv2.cvtColor(rgb, cv2.COLOR_RGB2LAB))


def to_rgb(lab: Map) -> NDArray[Any]:
    """sRGB in eight bits."""
    rgb = cv2.cvtColor(lab.astype(np.float32, copy=False), cv2.COLOR_LAB2RGB)
    return np.asarray(np.clip(rgb, 0, 1) * 255 + 0.5, dtype=np.uint8)
