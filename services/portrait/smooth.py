"""Gentle smoothing of skin: in comes a picture, out comes one with less of the skin's texture.

A guided filter (He, Sun, Tang 2013) keeps edges and takes spots; a part of the finest grain is given back, so that
skin stays skin. Eyes, brows, nostrils and mouth are left alone, and so is everything that has not the skin's colour.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from services.portrait import skin
from services.portrait.skin import Features, Part

Map = NDArray[Any]  # of float32
Pixels = NDArray[Any]  # of uint8

REACH = 0.13  # the filter's radius in distances between the eyes
EDGE = 7.5  # in Lab: what differs by much less is texture, by more an edge
GRAIN = 0.25  # of the finest detail that stays
SOFT = 0.07  # of the distance between the eyes: how soft the edges of these are
FACE: Part = (0.0, 0.45, 1.12, 1.6)  # and some of the neck
# eyes, brows, nostrils and mouth
KEPT: tuple[Part, ...] = (
    (-0.5, -0.02, 0.36, 0.2),
    (0.5, -0.02, 0.36, 0.2),
    (-0.5, -0.3, 0.42, 0.15),
    (0.5, -0.3, 0.42, 0.15),
    (0.0, 0.62, 0.3, 0.13),
    (0.0, 1.0, 0.55, 0.25),
)


def smoothed(pixels: Pixels, amount: float, face: Features) -> Pixels:
    """The picture (RGB) with smoother skin; `amount` from 0 (the very same) to 1."""
    box = _around(pixels.shape, face)
    if not amount or box is None:
        return pixels
    left, top, right, bottom = box
    out = pixels.copy()
    near = pixels[top:bottom, left:right]
    out[top:bottom, left:right] = _smoothed(near, amount, face.moved(-left, -top), skin.cheeks(pixels, face))
    return out


def _around(shape: tuple[int, ...], face: Features) -> tuple[int, int, int, int] | None:
    """The box beyond which nothing changes, None where all of the face is outside."""
    reach = (max(FACE[2:]) + 3 * SOFT) * face.between
    x, y = face.at(*FACE[:2])
    left, top = max(0, int(x - reach)), max(0, int(y - reach))
    right, bottom = min(shape[1], int(x + reach) + 1), min(shape[0], int(y + reach) + 1)
    return (left, top, right, bottom) if left < right and top < bottom else None


def _smoothed(near: Pixels, amount: float, face: Features, cheek: skin.Colour) -> Pixels:
    lab = skin.to_lab(near)
    places = skin.region(near.shape, face, ((FACE, 1.0), *((part, 0.0) for part in KEPT)), SOFT)
    weight = (amount * skin.likely(lab, cheek) * places)[..., None]
    radius = max(1, round(REACH * face.between))
    calm = np.dstack([_guided(plane, radius, EDGE**2) for plane in cv2.split(lab)])
    grain = lab[..., :1] - cv2.GaussianBlur(lab[..., 0], (0, 0), max(0.6, radius / 8))[..., None]
    calm[..., :1] += GRAIN * grain
    # what has no skin comes back bit for bit, whatever the way there and back rounds
    return np.asarray(np.where(weight > 1e-3, skin.to_rgb(lab + weight * (calm - lab)), near))


def _guided(plane: Map, radius: int, epsilon: float) -> Map:
    """The guided filter with the plane as its own guide."""
    size = (2 * radius + 1, 2 * radius + 1)

    def mean(values: Map) -> Map:
        return np.asarray(cv2.boxFilter(values, -1, size, borderType=cv2.BORDER_REFLECT))

    average = mean(plane)
    spread = np.maximum(mean(plane * plane) - average * average, 0)
    slope = spread / (spread + epsilon)
    return np.asarray(mean(slope) * plane + mean(average * (1 - slope)))
