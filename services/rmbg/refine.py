"""Soft edges: in come a picture and a rough mask, out comes a mask that follows the picture's own edges.

The guided filter of He, Sun and Tang ("Guided Image Filtering", 2013) with a colour guide: near every pixel the
mask is taken to be a linear function of the colour, and the functions are averaged. For a large picture the functions
are found in a smaller one and applied in the large ("Fast Guided Filter", He and Sun 2015), tile by tile, and only
where the mask is neither of the two.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

Map = NDArray[Any]  # of float32
Pixels = NDArray[Any]  # of uint8
Window = tuple[slice, slice]

GUIDE_SIDE = 1024  # of the smaller picture's longer side, at most
FINER = 2  # it has so many pixels for each of the mask's
REACH = 1.5  # of a cell of the mask: as far as its edge may be moved
EPSILON = 1e-4
WORTH = 1.3  # a mask that is enlarged by less has its edges already
TILE = 256
SURE = 0.02


def guided_filter(guide: Map, values: Map, radius: int, epsilon: float) -> Map:
    """`values` smoothed along the edges of `guide` (RGB, 0 to 1)."""
    slopes, offset = linear(guide, values, radius, epsilon)
    return np.asarray((slopes * guide).sum(axis=2) + offset, np.float32)


def linear(guide: Map, values: Map, radius: int, epsilon: float) -> tuple[Map, Map]:
    """For each pixel the slopes (H, W, 3) and the offset by which `values` follow the colours."""
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
    return np.dstack([mean(slope) for slope in slopes]), mean(offset)


def enlarged(picture: Pixels, mask: Map) -> Pixels:
    """A mask (0 to 1) of any size as bytes in the picture's, its edges on the picture's edges."""
    height, width = picture.shape[:2]
    cell = max(height / mask.shape[0], width / mask.shape[1])
    if cell < WORTH or min(height, width) < 8:
        how = cv2.INTER_AREA if cell < 1 else cv2.INTER_LINEAR
        return _bytes(cv2.resize(mask, (width, height), interpolation=how))
    small = min(1.0, min(GUIDE_SIDE, FINER * max(mask.shape)) / max(height, width))
    size = max(1, round(width * small)), max(1, round(height * small))
    guide = cv2.resize(picture, size, interpolation=cv2.INTER_AREA).astype(np.float32) / 255
    shrinks = size[0] < mask.shape[1] and size[1] < mask.shape[0]
    rough = cv2.resize(mask, size, interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
    radius = max(2, round(cell * small * REACH))
    slopes, offset = linear(guide, rough, radius, EPSILON)
    near = unsure(rough, radius)
    bends, edges = np.dstack([slopes, offset]), np.dstack([rough, near])
    whole = np.empty((height, width), np.uint8)
    for window in tiles(height, width):
        few = within(window, picture.shape, rough.shape)
        if not near[few].any():
            whole[window] = 255 if rough[few].mean() > 0.5 else 0
            continue
        bent = piece(bends, window, picture.shape)
        plain = piece(edges, window, picture.shape)
        bent[..., :3] *= picture[window]
        fine = bent[..., 0] + bent[..., 1]
        fine += bent[..., 2]
        fine *= np.float32(1 / 255)
        fine += bent[..., 3]
        np.clip(fine, 0, 1, out=fine)
        fine -= plain[..., 0]
        fine *= plain[..., 1]
        whole[window] = _bytes(fine + plain[..., 0])
    return whole


def unsure(mask: Map, radius: int) -> Map:
    """1 where the mask is neither 0 nor 1, or is about to change within the radius; else 0."""
    kernel = np.ones((2 * radius + 1, 2 * radius + 1), np.uint8)
    return np.asarray((cv2.dilate(mask, kernel) > SURE) & (cv2.erode(mask, kernel) < 1 - SURE), np.float32)


def tiles(height: int, width: int) -> Iterator[Window]:
    for top in range(0, height, TILE):
        for left in range(0, width, TILE):
            yield slice(top, min(top + TILE, height)), slice(left, min(left + TILE, width))


def within(window: Window, large: tuple[int, ...], small: tuple[int, ...]) -> Window:
    """A window of the large picture in the small one, a pixel wider all around."""
    rows, columns = window
    down, across = small[0] / large[0], small[1] / large[1]
    return (
        slice(max(0, int(rows.start * down) - 1), int(rows.stop * down) + 2),
        slice(max(0, int(columns.start * across) - 1), int(columns.stop * across) + 2),
    )


def piece(small: Map, window: Window, large: tuple[int, ...]) -> Map:
    """That window of what `small` (up to four planes) would be if it were enlarged as a whole."""
    rows, columns = window
    down, across = small.shape[0] / large[0], small.shape[1] / large[1]
    # pixels' middles lie at halves
    move = np.array(
        [
            [across, 0, (columns.start + 0.5) * across - 0.5],
            [0, down, (rows.start + 0.5) * down - 0.5],
        ]
    )
    size = columns.stop - columns.start, rows.stop - rows.start
    how = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return np.asarray(cv2.warpAffine(small, move, size, flags=how, borderMode=cv2.BORDER_REPLICATE))


def _bytes(values: Map) -> Pixels:
    return np.asarray(np.clip(values, 0, 1) * 255 + 0.5, np.uint8)
