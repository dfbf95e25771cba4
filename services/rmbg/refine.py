"""Soft edges: in come a picture and a rough mask, out comes a mask that follows the picture's own edges.

The guided filter of He, Sun and Tang ("Guided Image Filtering", 2013) with a colour guide: near every pixel the
mask is taken to be a linear function of the colour, and the functions are averaged.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

Map = NDArray[Any]  # of float32


def guided_filter(guide: Map, values: Map, radius: int, epsilon: float) -> Map:
    """`values` smoothed along the edges of `guide` (RGB, 0 to 1)."""
    size = (2 * radius + 1, 2 * radius + 1)

    def mean(plane: Map) -> Map:
        return np.asarray(cv2.boxFilter(plane, -1, size, borderType=cv2.BORDER_REFLECT), dtype=np.float32)

    colours = cv2.split(guide)
    averages = [mean(colour) for colour in colours]
    average = mean(values)
    with_values = [mean(c * values) - m * average for c, m in zip(colours, averages, strict=True)]
    rr, rg, rb, gg, gb, bb = (
        mean(colours[i] * colours[j]) - averages[i] * averages[j] + (epsilon if i == j else 0.0)
        for i in range(3)
        for j in range(i, 3)
    )
    # the inverse of a symmetric 3 x 3 matrix, written out for all pixels at once
    a, b, c = gg * bb - gb * gb, gb * rb - rg * bb, rg * gb - gg * rb
    d, e, f = rr * bb - rb * rb, rb * rg - rr * gb, rr * gg - rg * rg
    scale = 1.0 / np.maximum(rr * a + rg * b + rb * c, 1e-12)
    x, y, z = with_values
    slopes = [
        (a * x + b * y + c * z) * scale,
        (b * x + d * y + e * z) * scale,
        (c * x + e * y + f * z) * scale,
    ]
    offset = average - sum((s * m for s, m in zip(slopes, averages, strict=True)), np.zeros_like(average))
    smooth = mean(offset)
    for slope, colour in zip(slopes, colours, strict=True):
        smooth += mean(slope) * colour
    return smooth
