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
SHIFTS = ((1, 0), (-1, 0), (0, 1), (0, -1))
# the lower border counts less: people and things stand on it
SIDES = {"top": 1.0, "left": 1.0, "right": 1.0, "bottom": 0.5}


def saliency(lab: Map) -> Map:
    """From 0 (background) to 1 (subject), for a picture of at most a few hundred pixels a side."""
    barrier = _unit(
        sum((barrier_distance(lab[..., at]) for at in range(3)), np.zeros(lab.shape[:2], np.float32))
    )
    contrast = _unit(border_contrast(lab))
    height, width = barrier.shape
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    centre = np.exp(
        -(((x / max(1, width - 1) - 0.5) / 0.5) ** 2) - ((y / max(1, height - 1) - 0.55) / 0.6) ** 2
    )
    found = _unit((barrier + contrast) * centre.astype(np.float32))
    return _unit(cv2.GaussianBlur(found, (0, 0), max(1.0, min(height, width) / 80)))


def barrier_distance(channel: Map) -> Map:
    """The least range of values that a path from the border to each pixel runs through."""
    high, low = channel.copy(), channel.copy()
    cost = np.full(channel.shape, np.inf, np.float32)
    cost[0, :] = cost[-1, :] = 0.0
    cost[:, 0] = cost[:, -1] = 0.0
    # a path as long as the longer side reaches everything that matters
    for _ in range(max(channel.shape)):
        changed = False
        for down, right in SHIFTS:
            here, there = _shifted(channel.shape, down, right)
            top, bottom = np.maximum(high[there], channel[here]), np.minimum(low[there], channel[here])
            steps = np.where(np.isfinite(cost[there]), top - bottom, np.inf).astype(np.float32)
            better = steps < cost[here] - 1e-3
            if better.any():
                cost[here] = np.where(better, steps, cost[here])
                high[here] = np.where(better, top, high[here])
                low[here] = np.where(better, bottom, low[here])
                changed = True
        if not changed:
            break
    return np.where(np.isfinite(cost), cost, 0).astype(np.float32)


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


def _shifted(
    shape: tuple[int, ...], down: int, right: int
) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """The slices of all pixels that have a neighbour in that direction, and of these neighbours."""

    def pair(size: int, by: int) -> tuple[slice, slice]:
        return slice(max(0, by), size + min(0, by)), slice(max(0, -by), size + min(0, -by))

    (here_y, there_y), (here_x, there_x) = pair(shape[0], down), pair(shape[1], right)
    return (here_y, here_x), (there_y, there_x)


def _unit(values: Map) -> Map:
    low, high = float(values.min()), float(values.max())
    return ((values - low) / (high - low) if high - low > 1e-6 else np.zeros_like(values)).astype(np.float32)
