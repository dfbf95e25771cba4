"""Engines that erase: in come a picture and a mask, out comes the picture filled where the mask is white.

Only the mask's surroundings are worked on, piece by piece, so that a scratch on a large photograph costs no
more than on a small one. Pixels outside the mask come back bit for bit, and transparency stays as it is.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

Pixels = NDArray[Any]  # of uint8
Box = tuple[int, int, int, int]  # left, top, right, bottom
Step = Callable[[int, int], None]
Check = Callable[[], None]
THRESHOLD = 127
MIN_RADIUS, MAX_RADIUS = 3, 12
# OpenCV's fill slows with the square of a hole's width. A wider one than this is filled at a smaller scale and
# enlarged: so far from any edge it is smooth anyway.
THICK = 48
MAX_PIECES = 64  # more are taken as one: comparing each with each would cost more than it saves
SEAM = 8.0  # pixels from the edge of a hole, below which no seam shows
TILE, ROOM = 512, 64  # what is filled at once, and how far around it is looked


class Engine(Protocol):
    """What every engine of this service is; `step` is called with (done, total) and may raise to stop."""

    def erase(self, image: Image.Image, mask: Image.Image, step: Step) -> Image.Image: ...


class OpenCVEngine:
    """Telea's or Navier-Stokes inpainting."""

    def __init__(self, flag: int) -> None:
        self._flag = flag

    def erase(self, image: Image.Image, mask: Image.Image, step: Step) -> Image.Image:
        pixels = np.array(image if image.mode in ("RGB", "RGBA") else image.convert("RGB"))
        hole = np.asarray(mask) > THRESHOLD
        boxes = (
            [] if hole.all() else regions(hole)
        )  # with nothing around it, there is nothing to fill it from
        for done, (left, top, right, bottom) in enumerate(boxes):

            def check(done: int = done) -> None:
                step(done, len(boxes))

            check()
            part, part_hole = pixels[top:bottom, left:right, :3], hole[top:bottom, left:right]
            part[part_hole] = self._fill(part, part_hole, check)[part_hole]
        step(len(boxes), len(boxes))
        return Image.fromarray(pixels)

    def _fill(self, part: Pixels, hole: Pixels, check: Check) -> Pixels:
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


def regions(hole: NDArray[Any]) -> list[Box]:
    """Boxes around the mask's pieces, with room to look around; those that touch are one."""
    height, width = hole.shape
    count, _, stats, _ = cv2.connectedComponentsWithStats(hole.astype(np.uint8), connectivity=8)
    if count - 1 > MAX_PIECES:
        return [bounds(hole)]
    boxes: list[Box] = []
    for left, top, wide, high, _area in stats[1:count].tolist():
        room = 16 + max(wide, high) // 4
        boxes.append(
            (
                max(0, left - room),
                max(0, top - room),
                min(width, left + wide + room),
                min(height, top + high + room),
            )
        )
    return merged(boxes)


def bounds(hole: Pixels) -> Box:
    """The box around all of it."""
    rows, columns = np.flatnonzero(hole.any(axis=1)), np.flatnonzero(hole.any(axis=0))
    top, left = max(0, int(rows[0]) - ROOM), max(0, int(columns[0]) - ROOM)
    return left, top, min(hole.shape[1], int(columns[-1]) + ROOM), min(hole.shape[0], int(rows[-1]) + ROOM)


def merged(boxes: list[Box]) -> list[Box]:
    """Boxes of which no two overlap."""
    done: list[Box] = []
    for box in sorted(boxes):
        pending = box
        while (hit := next((b for b in done if _overlap(b, pending)), None)) is not None:
            done.remove(hit)
            pending = (
                min(hit[0], pending[0]),
                min(hit[1], pending[1]),
                max(hit[2], pending[2]),
                max(hit[3], pending[3]),
            )
        done.append(pending)
    return done


def _overlap(one: Box, other: Box) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def _without_seams(filled: Pixels, hole: Pixels) -> Pixels:
    """Deep inside a wide hole, where the fills from its sides meet at a line, they are blended into each other."""
    depth = cv2.distanceTransform(hole, cv2.DIST_L2, 3)
    deepest = float(depth.max())
    if deepest < SEAM:
        return filled
    soft = cv2.GaussianBlur(filled, (0, 0), deepest / 3)
    weight = np.clip((depth - deepest * 0.25) / (deepest * 0.5), 0, 1)[..., None]
    return np.asarray(filled + weight * (soft.astype(np.float32) - filled) + 0.5, dtype=np.uint8)


def thickness(marks: Pixels) -> float:
    """Half the width of the hole where it is widest."""
    return float(cv2.distanceTransform((marks > 0).astype(np.uint8), cv2.DIST_L2, 3).max())


def engines() -> dict[str, Engine]:
    """Those that need no files, by their model's name."""
    return {"telea": OpenCVEngine(cv2.INPAINT_TELEA), "navier-stokes": OpenCVEngine(cv2.INPAINT_NS)}
