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
THRESHOLD = 127
MIN_RADIUS, MAX_RADIUS = 3, 12
# OpenCV's fill slows with the hole. A wide one is filled at this size and enlarged: its inside is smooth anyway.
WIDE_SIDE = 640


class Engine(Protocol):
    """What every engine of this service is; `step` is called with (done, total) and may raise to stop."""

    def erase(self, image: Image.Image, mask: Image.Image, step: Step) -> Image.Image: ...


class OpenCVEngine:
    """Telea's or Navier-Stokes inpainting."""

    def __init__(self, flag: int) -> None:
        self._flag = flag

    def erase(self, image: Image.Image, mask: Image.Image, step: Step) -> Image.Image:
        pixels = np.array(image.convert("RGB") if image.mode not in ("RGB", "RGBA") else image)
        hole = np.asarray(mask) > THRESHOLD
        boxes = regions(hole)
        for done, (left, top, right, bottom) in enumerate(boxes):
            step(done, len(boxes))
            part, part_hole = pixels[top:bottom, left:right, :3], hole[top:bottom, left:right]
            part[part_hole] = self._fill(part, part_hole)[part_hole]
        step(len(boxes), len(boxes))
        return Image.fromarray(pixels)

    def _fill(self, part: Pixels, hole: NDArray[Any]) -> Pixels:
        if hole.all():
            return part  # nothing around it to fill it from
        marks = hole.astype(np.uint8) * 255
        radius = radius_of(hole)
        longest = max(hole.shape)
        if longest <= WIDE_SIDE:
            return np.asarray(
                cv2.inpaint(np.ascontiguousarray(part), marks, radius, self._flag), dtype=np.uint8
            )
        scale = WIDE_SIDE / longest
        size = max(1, round(hole.shape[1] * scale)), max(1, round(hole.shape[0] * scale))
        small_marks = np.where(cv2.resize(marks, size, interpolation=cv2.INTER_AREA) > 0, 255, 0).astype(
            np.uint8
        )
        if small_marks.all():
            return part
        small = cv2.resize(np.ascontiguousarray(part), size, interpolation=cv2.INTER_AREA)
        filled = cv2.inpaint(small, small_marks, max(MIN_RADIUS, radius * scale), self._flag)
        return np.asarray(
            cv2.resize(filled, (hole.shape[1], hole.shape[0]), interpolation=cv2.INTER_CUBIC), dtype=np.uint8
        )


def regions(hole: NDArray[Any]) -> list[Box]:
    """Boxes around the mask's pieces, with room to look around; those that touch are one."""
    height, width = hole.shape
    count, _, stats, _ = cv2.connectedComponentsWithStats(hole.astype(np.uint8), connectivity=8)
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


def radius_of(hole: NDArray[Any]) -> float:
    """How far to look around: about half the hole's thickness, within bounds."""
    thickest = float(cv2.distanceTransform(hole.astype(np.uint8), cv2.DIST_L2, 3).max())
    return min(MAX_RADIUS, max(MIN_RADIUS, thickest / 2))


def engines() -> dict[str, Engine]:
    """Those that need no files, by their model's name."""
    return {"telea": OpenCVEngine(cv2.INPAINT_TELEA), "navier-stokes": OpenCVEngine(cv2.INPAINT_NS)}
