"""Where people are: in comes a picture in grey, out go boxes of faces, and a guess at the bodies below them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

Face = tuple[int, int, int, int]  # left, top, width, height
CASCADE = "haarcascade_frontalface_alt2.xml"
LEAST_SHARE = 0.07  # of the shorter side; smaller ones are mostly not faces, and seldom the subject


class FaceFinder:
    """OpenCV's Haar cascade; one finder serves one call at a time."""

    def __init__(self) -> None:
        folder = Path(cv2.data.haarcascades)  # type: ignore[attr-defined]
        self._cascade = cv2.CascadeClassifier(str(folder / CASCADE))

    def find(self, grey: NDArray[Any]) -> list[Face]:
        least = max(16, round(min(grey.shape) * LEAST_SHARE))
        found = self._cascade.detectMultiScale(
            cv2.equalizeHist(grey), scaleFactor=1.1, minNeighbors=5, minSize=(least, least)
        )
        faces = [(int(x), int(y), int(w), int(h)) for x, y, w, h in found]
        largest = max((w for _, _, w, _ in faces), default=0)
        return [face for face in faces if face[2] * 2.5 >= largest]


def sure(shape: tuple[int, int], faces: list[Face]) -> NDArray[Any]:
    """The middle of each face, and of the chest below it."""
    marks = np.zeros(shape, np.uint8)
    for left, top, wide, high in faces:
        middle = left + wide // 2
        cv2.ellipse(
            marks, (middle, top + high // 2), (round(wide * 0.36), round(high * 0.45)), 0, 0, 360, 1, -1
        )
        chest = (middle - round(wide * 0.3), top + high, middle + round(wide * 0.3), top + round(high * 2.2))
        cv2.rectangle(marks, chest[:2], chest[2:], 1, -1)
    return marks.astype(bool)


def likely(shape: tuple[int, int], faces: list[Face]) -> NDArray[Any]:
    """Head with hair, shoulders, and the body down to the lower border."""
    marks = np.zeros(shape, np.uint8)
    for left, top, wide, high in faces:
        middle, bottom = left + wide // 2, shape[0] - 1
        cv2.ellipse(
            marks,
            (middle, top + round(high * 0.42)),
            (round(wide * 0.72), round(high * 0.85)),
            0,
            0,
            360,
            1,
            -1,
        )
        neck, shoulder = top + round(high * 1.05), top + round(high * 1.75)
        outline = [
            (middle - round(wide * 0.45), neck),
            (middle + round(wide * 0.45), neck),
            (middle + round(wide * 1.35), shoulder),
            (middle + round(wide * 1.7), bottom),
            (middle - round(wide * 1.7), bottom),
            (middle - round(wide * 1.35), shoulder),
        ]
        cv2.fillPoly(marks, [np.array(outline, np.int32)], 1)
    return marks.astype(bool)
