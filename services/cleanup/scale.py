"""Making a part of a picture and its hole smaller, and what was filled there as large again."""

from __future__ import annotations

import cv2
import numpy as np

from services.cleanup.pieces import Hole, Pixels


def longest(part: Pixels) -> int:
    return int(max(part.shape[0], part.shape[1]))


def smaller(part: Pixels, hole: Hole, scale: float) -> tuple[Pixels, Hole]:
    """Whatever the hole touches belongs to it; none of what is to go is mixed into what stays."""
    size = max(1, round(part.shape[1] * scale)), max(1, round(part.shape[0] * scale))
    covered = cv2.resize(hole.astype(np.float32), size, interpolation=cv2.INTER_AREA)
    return np.asarray(
        cv2.resize(np.ascontiguousarray(part), size, interpolation=cv2.INTER_AREA)
    ), covered > 1e-3


def enlarged(filled: Pixels, like: Pixels) -> Pixels:
    return np.asarray(cv2.resize(filled, like.shape[1::-1], interpolation=cv2.INTER_CUBIC))
