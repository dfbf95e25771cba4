"""OpenCV's two: Telea's fast marching and Navier-Stokes fluid, which need no file.

Both slow with the square of a hole's width; so a wide hole is filled at a smaller scale and enlarged: far from any
edge it is smooth anyway.
"""

from __future__ import annotations

import cv2
import numpy as np

from services.cleanup.engines import Check, Sight
from services.cleanup.pieces import Hole, Pixels, thickness

MIN_RADIUS, MAX_RADIUS = 3, 5  # a radius of 12 takes five times as long, and fills no nearer to the truth
THICK = 48  # half the width of a hole, above which it is filled at a smaller scale
SEAM = 8.0  # pixels from the edge of a hole, below which no seam shows
TILE, ROOM = 512, 64  # what is filled at once, and how far around it is looked


class OpenCVEngine:
    """Telea's or Navier-Stokes inpainting."""

    sight = Sight()

    def __init__(self, flag: int) -> None:
        self._flag = flag

    def fill(self, part: Pixels, hole: Hole, check: Check, *, whole: bool = False) -> Pixels:
        marks = hole.astype(np.uint8) * 255
        thickest = thickness(marks)
        if thickest <= THICK:
            return self._fill_tiles(part, marks, check)
        scale = THICK / thickest
        size = max(1, round(hole.shape[1] * scale)), max(1, round(hole.shape[0] * scale))
        small = cv2.resize(np.ascontiguousarray(part), size, interpolation=cv2.INTER_AREA)
        small_marks = np.where(cv2.resize(marks, size, interpolation=cv2.INTER_AREA) > 0, 255, 0).astype(
            np.uint8
        )
        filled = self._fill_tiles(small, small_marks, check)
        return np.asarray(cv2.resize(filled, hole.shape[::-1], interpolation=cv2.INTER_CUBIC))

    def _fill_tiles(self, part: Pixels, marks: Pixels, check: Check) -> Pixels:
        """Tile by tile, each looking at what the tiles before it have filled."""
        filled, left_over = np.array(part), marks.copy()
        height, width = marks.shape
        for top in range(0, height, TILE):
            for left in range(0, width, TILE):
                tile = np.s_[top : top + TILE, left : left + TILE]
                if not left_over[tile].any():
                    continue
                check()
                around = np.s_[
                    max(0, top - ROOM) : top + TILE + ROOM, max(0, left - ROOM) : left + TILE + ROOM
                ]
                hole = np.ascontiguousarray(left_over[around])
                if not hole.all():  # with nothing around it, it stays as it is
                    radius = min(MAX_RADIUS, max(MIN_RADIUS, thickness(hole) / 2))
                    seen = _without_seams(
                        cv2.inpaint(np.ascontiguousarray(filled[around]), hole, radius, self._flag), hole
                    )
                    inner = np.s_[
                        min(top, ROOM) : min(top, ROOM) + TILE, min(left, ROOM) : min(left, ROOM) + TILE
                    ]
                    filled[tile] = seen[inner]
                left_over[tile] = 0
        return filled


def _without_seams(filled: Pixels, hole: Pixels) -> Pixels:
    """Deep inside a wide hole, where the fills from its sides meet at a line, they are blended into each other."""
    depth = cv2.distanceTransform(hole, cv2.DIST_L2, 3)
    deepest = float(depth.max())
    if deepest < SEAM:
        return filled
    soft = cv2.GaussianBlur(filled, (0, 0), deepest / 3)
    weight = np.clip((depth - deepest * 0.25) / (deepest * 0.5), 0, 1)[..., None]
    return np.asarray(filled + weight * (soft.astype(np.float32) - filled) + 0.5, dtype=np.uint8)
