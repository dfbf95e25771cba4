"""A mask's pieces: in goes a hole, out come boxes around what belongs together, and how thick it is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[Any]  # of uint8
Hole = NDArray[np.bool_]  # where the picture is to be filled
Box = tuple[int, int, int, int]  # left, top, right, bottom
Size = tuple[int, int]  # height, width
MAX_PIECES = 64  # more are taken as one: comparing each with each would cost more than it saves


def pieces(hole: Hole) -> list[Box]:
    """A tight box around each piece; one around all where there are very many."""
    count, _, stats, _ = cv2.connectedComponentsWithStats(hole.astype(np.uint8), connectivity=8)
    if count - 1 > MAX_PIECES:
        return [bounds(hole)]
    return [(left, top, left + wide, top + high) for left, top, wide, high, _ in stats[1:count].tolist()]


def bounds(hole: Hole) -> Box:
    """The tight box around all of it."""
    rows, columns = np.flatnonzero(hole.any(axis=1)), np.flatnonzero(hole.any(axis=0))
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def merged(boxes: list[Box], belong: Callable[[Box, Box], bool] | None = None) -> list[Box]:
    """Boxes of which no two belong together; without a rule, of which no two overlap."""
    belong = belong or overlap
    done: list[Box] = []
    for box in sorted(boxes):
        pending = box
        while (hit := next((one for one in done if belong(one, pending)), None)) is not None:
            done.remove(hit)
            pending = union(hit, pending)
        done.append(pending)
    return done


def union(one: Box, other: Box) -> Box:
    return min(one[0], other[0]), min(one[1], other[1]), max(one[2], other[2]), max(one[3], other[3])


def overlap(one: Box, other: Box) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def with_room(box: Box, room: int, within: Size, least: int = 0) -> Box:
    """The box with room around it, and of at least `least` pixels a side, moved rather than cut at an edge."""
    left, right = _side(box[0], box[2], room, within[1], least)
    top, bottom = _side(box[1], box[3], room, within[0], least)
    return left, top, right, bottom


def _side(start: int, end: int, room: int, length: int, least: int) -> tuple[int, int]:
    wanted = min(length, max(end - start + 2 * room, least))
    first = start - (wanted - (end - start)) // 2
    first = min(max(0, first), length - wanted)
    return first, first + wanted


def thickness(hole: Pixels) -> float:
    """Half the width of the hole where it is widest."""
    return float(cv2.distanceTransform((hole > 0).astype(np.uint8), cv2.DIST_L2, 3).max())
