"""Faces by OpenCV's Haar cascades, which come with the library: in comes a picture, out come faces with their eyes.

One look at an eye is a pixel or two off, which turns a small face by degrees. So each face is looked at under several
rotations, and the middle (median) of what was seen counts.
"""

from __future__ import annotations

import math
import threading
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from services.portrait.faces import BYSTANDER, Face, Point

Grey = NDArray[Any]  # of uint8

FACES, EYES = "haarcascade_frontalface_alt2.xml", "haarcascade_eye.xml"
LEAST = 24  # pixels a side of a face, in the shrunk picture
SURE = 14  # looks that found the face at neighbouring places; with fewer it is one only if it has eyes
# the longer side in which faces are looked for, and the turn: the small picture first, which takes a fifth of the large
# one's time; the cascade finds a face that is turned by up to about 18 degrees
PASSES = ((480, 0), (1024, 0), (640, -28), (640, 28))
LOOKS = (-12, -6, 0, 6, 12)
PATCH = 112  # pixels a side of a face in which its eyes are looked for
LEFT_EYE, RIGHT_EYE = (0.08, 0.5), (0.5, 0.92)  # the columns of the face in which each is
BAND = (0.12, 0.6)  # its rows
SLOPE = 0.35  # of the distance between them: eyes that differ more in height are no pair


class HaarFinder:
    """A cascade serves one thread at a time, so that each thread has its own."""

    def __init__(self) -> None:
        self._own = threading.local()

    def find(self, image: Image.Image) -> list[Face]:
        whole = np.asarray(image.convert("L"))
        found: list[Face] = []
        for longest, tilt in PASSES:
            if found and tilt:
                break
            scale = min(1.0, longest / max(whole.shape))
            seen = self._faces(whole, scale, tilt)
            found = seen or found
            # larger ones than these leave nobody unseen who would count
            if max((face.width * scale for face in found), default=0) >= LEAST / BYSTANDER:
                break
            if scale == 1 and found:
                break
        return found

    def _faces(self, whole: Grey, scale: float, tilt: float) -> list[Face]:
        small = whole
        if scale < 1:
            size = max(1, round(whole.shape[1] * scale)), max(1, round(whole.shape[0] * scale))
            small = cv2.resize(whole, size, interpolation=cv2.INTER_AREA)
        if min(small.shape) < LEAST:
            return []
        faces = [self._face(whole, box, looks, tilt, scale) for box, looks in self._boxes(small, tilt)]
        return [face for face in faces if face is not None]

    def _cascade(self, name: str) -> Any:
        cascades: dict[str, Any] = self._own.__dict__
        if name not in cascades:
            folder = Path(cv2.data.haarcascades)  # type: ignore[attr-defined]
            cascades[name] = cv2.CascadeClassifier(str(folder / name))
        return cascades[name]

    def _boxes(self, small: Grey, tilt: float) -> list[tuple[tuple[float, float, float], int]]:
        """Squares (middle and side, in the shrunk picture), and how many looks agreed."""
        grey = cv2.equalizeHist(small)
        turn = np.eye(2, 3)
        if tilt:
            grey, turn = _turned(grey, tilt)
        boxes, looks = self._cascade(FACES).detectMultiScale2(
            grey, scaleFactor=1.1, minNeighbors=4, minSize=(LEAST, LEAST)
        )
        back = cv2.invertAffineTransform(turn)
        found = []
        for (x, y, wide, high), count in zip(boxes, looks, strict=True):
            middle = _moved(back, (x + wide / 2, y + high / 2))
            found.append(((middle[0], middle[1], float(wide)), int(count)))
        return found

    def _face(
        self, whole: Grey, box: tuple[float, float, float], looks: int, tilt: float, scale: float
    ) -> Face | None:
        x, y, side = (value / scale for value in box)
        eyes = self._eyes(whole, (x, y), side, tilt)
        if eyes is None and (looks < SURE or tilt):
            return None
        return Face(x - side / 2, y - side / 2, side, side, eyes)

    def _eyes(self, whole: Grey, middle: Point, side: float, tilt: float) -> tuple[Point, Point] | None:
        seen = self._looks(whole, middle, side, tilt)
        if len(seen) < 2:
            return None
        first = np.median(np.array(seen), axis=0)
        # once more around the angle that was found, since the cascade sees upright eyes best
        angle = math.degrees(math.atan2(*(first[1] - first[0])[::-1]))
        seen = self._looks(whole, middle, side, angle) or seen
        left, right = np.median(np.array(seen), axis=0).tolist()
        return (left[0], left[1]), (right[0], right[1])

    def _looks(self, whole: Grey, middle: Point, side: float, tilt: float) -> list[tuple[Point, Point]]:
        """Where both eyes were seen, in the photograph, for each rotation in which they were."""
        found = []
        for look in LOOKS:
            turn = cv2.getRotationMatrix2D((0, 0), tilt + look, PATCH / side)
            turn[:, 2] = PATCH / 2 - turn[:, :2] @ np.array(middle)
            patch = _patch(whole, turn, middle, side)
            one, other = self._eye(patch, LEFT_EYE), self._eye(patch, RIGHT_EYE)
            if one is None or other is None or abs(other[1] - one[1]) > SLOPE * (other[0] - one[0]):
                continue
            back = cv2.invertAffineTransform(turn)
            found.append((_moved(back, one), _moved(back, other)))
        return found

    def _eye(self, patch: Grey, columns: tuple[float, float]) -> Point | None:
        left, right = (round(PATCH * share) for share in columns)
        top, bottom = (round(PATCH * share) for share in BAND)
        part = np.ascontiguousarray(patch[top:bottom, left:right])
        boxes, _, weights = self._cascade(EYES).detectMultiScale3(
            part, 1.08, 3, minSize=(PATCH // 7,) * 2, maxSize=(PATCH // 2,) * 2, outputRejectLevels=True
        )
        if not len(boxes):
            return None
        x, y, wide, high = boxes[int(np.argmax(weights))]
        return left + float(x) + float(wide) / 2, top + float(y) + float(high) / 2


def _patch(whole: Grey, turn: NDArray[Any], middle: Point, side: float) -> Grey:
    """A face, turned and brought to PATCH pixels; a large one is shrunk first, or its pixels would be skipped."""
    height, width = whole.shape
    left, top = max(0, int(middle[0] - side)), max(0, int(middle[1] - side))
    near = whole[top : min(height, int(middle[1] + side) + 1), left : min(width, int(middle[0] + side) + 1)]
    shrink = max(1.0, side / PATCH)
    size = max(1, round(near.shape[1] / shrink)), max(1, round(near.shape[0] / shrink))
    small = near if shrink == 1 else cv2.resize(near, size, interpolation=cv2.INTER_AREA)
    # from the shrunk part to the photograph, and from there to the patch
    x, y = near.shape[1] / size[0], near.shape[0] / size[1]
    turn = np.vstack([turn, [0, 0, 1]]) @ np.array([[x, 0, left], [0, y, top], [0, 0, 1]])
    return np.asarray(
        cv2.warpAffine(
            small, turn[:2], (PATCH, PATCH), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE
        )
    )


def _turned(grey: Grey, tilt: float) -> tuple[Grey, NDArray[Any]]:
    """The picture turned about its middle, with room for its corners, and the matrix that did it."""
    height, width = grey.shape
    turn = cv2.getRotationMatrix2D((width / 2, height / 2), tilt, 1.0)
    cos, sin = abs(turn[0, 0]), abs(turn[0, 1])
    wide, high = math.ceil(width * cos + height * sin), math.ceil(width * sin + height * cos)
    turn[:, 2] += (wide - width) / 2, (high - height) / 2
    return np.asarray(cv2.warpAffine(grey, turn, (wide, high), borderMode=cv2.BORDER_REPLICATE)), turn


def _moved(turn: NDArray[Any], point: Point) -> Point:
    x, y = (turn[:, :2] @ np.array(point) + turn[:, 2]).tolist()
    return x, y
