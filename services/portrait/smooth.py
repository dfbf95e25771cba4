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
from services.portrait.skin import Features

Map = NDArray[Any]  # of float32
Pixels = NDArray[Any]  # of uint8

REACH = 0.13  # the filter's radius in distances between the eyes
EDGE = 7.5  # in Lab: what differs by much less is texture, by more an edge
GRAIN = 0.25  # of the finest detail that stays
# the face in distances between the eyes: where its middle is and how far it reaches; the neck below it
FACE = (0.0, 0.45, 1.12, 1.6)
# what is kept as it is: (across, down, half width, half height)
KEPT = (
    (-0.5, -0.02, 0.36, 0.2),
    (0.5, -0.02, 0.36, 0.2),
    (-0.5, -0.3, 0.42, 0.15),
    (0.5, -0.3, 0.42, 0.15),
    (0.0, 0.62, 0.3, 0.13),
    (0.0, 1.0, 0.55, 0.25),
)


def smoothed(pixels: Pixels, amount: float, face: Features) -> Pixels:
    """The picture (RGB) with smoother skin; `amount` from 0 (the very same) to 1."""
    if not amount:
        return pixels
    lab = np.asarray(cv2.cvtColor(pixels.astype(np.float32) / 255, cv2.COLOR_RGB2LAB))
    sure = np.clip(1.6 * skin.likely(lab, face), 0, 1)
    weight = (amount * sure * where(pixels.shape[:2], face))[..., None]
    radius = max(1, round(REACH * face.between))
    calm = np.dstack([_guided(plane, radius, EDGE**2) for plane in cv2.split(lab)])
    grain = lab[..., :1] - cv2.GaussianBlur(lab[..., 0], (0, 0), max(0.6, radius / 8))[..., None]
    calm[..., :1] += GRAIN * grain
    rgb = cv2.cvtColor((lab + weight * (calm - lab)).astype(np.float32), cv2.COLOR_LAB2RGB)
    out = np.asarray(np.clip(rgb, 0, 1) * 255 + 0.5, dtype=np.uint8)
    # what has no skin comes back bit for bit, whatever the way there and back rounds
    return np.asarray(np.where(weight > 1e-3, out, pixels))


def where(shape: tuple[int, int], face: Features) -> Map:
    """The face and the neck, soft at the edges, without what is kept."""
    marks = np.zeros(shape, np.float32)
    skin.ellipse(marks, face, FACE, 1.0)
    for part in KEPT:
        skin.ellipse(marks, face, part, 0.0)
    return np.asarray(cv2.GaussianBlur(marks, (0, 0), max(0.6, 0.07 * face.between)))


def _guided(plane: Map, radius: int, epsilon: float) -> Map:
    """The guided filter with the plane as its own guide."""
    size = (2 * radius + 1, 2 * radius + 1)

    def mean(values: Map) -> Map:
        return np.asarray(cv2.boxFilter(values, -1, size, borderType=cv2.BORDER_REFLECT))

    average = mean(plane)
    spread = np.maximum(mean(plane * plane) - average * average, 0)
    slope = spread / (spread + epsilon)
    return np.asarray(mean(slope) * plane + mean(average * (1 - slope)))
