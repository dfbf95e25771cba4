"""Faces by YuNet (Wu, Peng, Yu 2023), run by OpenCV: in comes a picture, out come faces with their eyes and chins.

It finds turned, shaded and bespectacled faces that the cascades miss. Its file is fetched by
`darkroom models pull yunet`.
"""

from __future__ import annotations

import math
import threading
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from services.errors import Unavailable
from services.portrait.faces import Face

FILE = "face_detection_yunet_2023mar.onnx"
LONGEST = 640  # pixels a side, in which faces are looked for
LEAST_SCORE, OVERLAP, MOST = 0.75, 0.3, 500
BELOW_MOUTH = 1.62  # the chin is so much further below the eyes than the mouth is


class YunetFinder:
    """The net has the size of its picture as a state, so that one call at a time may use it."""

    def __init__(self, path: Path) -> None:
        try:
            self._net = cv2.FaceDetectorYN.create(str(path), "", (320, 320), LEAST_SCORE, OVERLAP, MOST)
        except cv2.error as error:
            raise Unavailable(
                f"{path} is no YuNet that OpenCV can read.",
                help="`darkroom models pull yunet` fetches it anew.",
            ) from error
        self._one_at_a_time = threading.Lock()

    def find(self, image: Image.Image) -> list[Face]:
        scale = min(1.0, LONGEST / max(image.size))
        size = max(1, round(image.width * scale)), max(1, round(image.height * scale))
        small = image.convert("RGB").resize(size, Image.Resampling.BILINEAR, reducing_gap=2.0)
        pixels = np.ascontiguousarray(np.asarray(small)[..., ::-1])
        with self._one_at_a_time:
            self._net.setInputSize(size)
            _, found = self._net.detect(pixels)
        return [] if found is None else [_face([float(v) / scale for v in row[:14]]) for row in found]


def _face(row: list[float]) -> Face:
    """A row is its box, then five points: the eyes, the nose, the corners of the mouth."""
    left, top, width, height = row[:4]
    points = [(row[at], row[at + 1]) for at in range(4, 14, 2)]
    eyes = sorted(points[:2])
    between = math.dist(*eyes)
    if between < 1e-3:
        return Face(left, top, width, height)
    mouth = math.dist(_middle(points[3], points[4]), _middle(*eyes)) / between
    return Face(left, top, width, height, (eyes[0], eyes[1]), chin=mouth * BELOW_MOUTH)


def _middle(one: tuple[float, float], other: tuple[float, float]) -> tuple[float, float]:
    return (one[0] + other[0]) / 2, (one[1] + other[1]) / 2
