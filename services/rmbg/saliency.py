"""What stands out: in comes a small picture in Lab, out goes for each pixel how likely it belongs to the subject.

Two cues are multiplied, both from the thought that the border is mostly background (Zhang et al., "Minimum Barrier
Salient Object Detection at 80 FPS", 2015): how large a step in lightness or colour every path from the border to
the pixel must take, and how far the pixel's colour lies from the colours of each side of the border.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

Map = NDArray[Any]  # of float32
BORDER = 0.06  # of the shorter side
ROUNDS = 3
# the lower border counts less: people and things stand on it
SIDES = {"top": 1.0, "left": 1.0, "right": 1.0, "bottom": 0.5}


def saliency(lab: Map) -> Map:
    """From 0 (background) to 1 (subject), for a picture of at most a few hundred pixels a side."""
    barrier = _unit(barrier_distance(np.ascontiguousarray(np.moveaxis(lab, -1, 0))).sum(axis=0))
    contrast = _unit(border_contrast(lab))
    height, width = barrier.shape
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    centre = np.exp(
        -(((x / max(1, width - 1) - 0.5) / 0.5) ** 2) - ((y / max(1, height - 1) - 0.55) / 0.6) ** 2
    )
    found = _unit((barrier + contrast) * centre.astype(np.float32))
    return _unit(cv2.GaussianBlur(found, (0, 0), max(1.0, min(height, width) / 80)))


def barrier_distance(channels: Map) -> Map:
    """The least range of values that a path from the border to each pixel runs through; of each channel (N, H, W).

    Swept from each side in turn, a row or a column at once: after a few rounds hardly a path is found that is better.
    """
    cost = np.full(channels.shape, np.inf, np.float32)
    cost[:, 0, :] = cost[:, -1, :] = 0.0
    cost[:, :, 0] = cost[:, :, -1] = 0.0
    upright = np.stack([channels, channels, channels, cost])
    lying = upright.swapaxes(2, 3)
    for _ in range(ROUNDS):
        for field in (upright, lying):
            last = field.shape[2] - 1
            for line in range(1, last):
                _sweep(field, line, line - 1)
            for line in range(last - 1, 0, -1):
                _sweep(field, line, line + 1)
    cost = upright[3]
    return np.where(np.isfinite(cost), cost, 0).astype(np.float32)


def _sweep(field: Map, line: int, before: int) -> None:
    """Paths to a line go on from the line before it, where that is less of a barrier."""
    channels, high, low, cost = field[:, :, line]
    top, bottom = np.maximum(field[1, :, before], channels), np.minimum(field[2, :, before], channels)
    steps = top - bottom
    better = steps < cost
    np.copyto(cost, steps, where=better)
    np.copyto(high, top, where=better)
    np.copyto(low, bottom, where=better)


def border_contrast(lab: Map) -> Map:
    """How far each pixel's colour lies from the colours of the sides; the side nearest to it counts least."""
    height, width = lab.shape[:2]
    strip = max(1, round(BORDER * min(height, width)))
    sides = {"top": lab[:strip], "bottom": lab[-strip:], "left": lab[:, :strip], "right": lab[:, -strip:]}
    maps = [SIDES[name] * _unit(_distance(lab, pixels.reshape(-1, 3))) for name, pixels in sides.items()]
    stacked = np.stack(maps)
    # the subject may itself touch a side, whose colours then are its own: leave the lowest out
    return np.asarray((stacked.sum(axis=0) - stacked.min(axis=0)).astype(np.float32))


def _distance(lab: Map, colours: Map) -> Map:
    """The Mahalanobis distance to a set of colours."""
    mean = colours.mean(axis=0)
    spread = np.cov(colours, rowvar=False) if len(colours) > 3 else np.zeros((3, 3))
    inverse = np.linalg.inv(spread + np.eye(3) * 25.0)
    away = lab - mean
    return np.asarray(
        np.sqrt(np.maximum(0, np.einsum("hwi,ij,hwj->hw", away, inverse, away))).astype(np.float32)
    )


def _unit(values: Map) -> Map:
    low, high = float(values.min()), float(values.max())
    return ((values - low) / (high - low) if high - low > 1e-6 else np.zeros_like(values)).astype(np.float32)
