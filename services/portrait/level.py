"""From the photograph to the frame: one turn, one crop and one change of scale in a single resampling.

Where the frame goes past the photograph, the outermost pixels go on, as a body that is cut off by the lower border
does; what is behind the person is replaced anyway.
"""

from __future__ import annotations

import math
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from services.portrait.crop import Axes, Frame

Map = NDArray[Any]  # of float32
Pixels = NDArray[Any]  # of uint8
STAIRS = 0.7  # of a small pixel: how far an enlarged mask's edge is blurred


def bounds(size: tuple[int, int], axes: Axes) -> tuple[float, float, float, float]:
    """The photograph's outermost left, top, right and bottom in the face's axes."""
    width, height = size
    corners = np.array([[0, 0, 1], [width, 0, 1], [0, height, 1], [width, height, 1]], float).T
    x, y, _ = axes.to_own() @ corners
    return float(x.min()), float(y.min()), float(x.max()), float(y.max())


def lowest(size: tuple[int, int], axes: Axes) -> float:
    """How far below the eyes, straight down, the photograph ends."""
    turn = np.linalg.inv(axes.to_own())
    down = turn[:2, 1]
    room = size[1] - axes.y if down[1] > 0 else axes.y
    return float(room / max(1e-6, abs(down[1])))


def sampled(image: Image.Image, axes: Axes, frame: Frame) -> Image.Image:
    """The frame's pixels."""
    turn = frame.matrix() @ axes.to_own()
    left, top, right, bottom = _needed(image.size, turn, frame.size)
    part = np.asarray(image.crop((left, top, right, bottom)))
    shrink = 1 / frame.scale
    turn = turn @ _moved(left, top)
    if shrink > 1.5:  # a warp reads four pixels around each point: the rest would be skipped
        size = max(1, round(part.shape[1] / shrink)), max(1, round(part.shape[0] / shrink))
        turn = turn @ np.diag([part.shape[1] / size[0], part.shape[0] / size[1], 1.0])
        part = cv2.resize(part, size, interpolation=cv2.INTER_AREA)
    return Image.fromarray(_warped(part, turn, frame.size))


def beside(size: tuple[int, int], axes: Axes, frame: Frame) -> Map:
    """How far left or right of the photograph each of the frame's pixels lies, as a share of the frame's width."""
    back = np.linalg.inv(frame.matrix() @ axes.to_own())
    width, height = frame.size
    x = (np.arange(width, dtype=np.float32) + 0.5)[None, :]
    y = (np.arange(height, dtype=np.float32) + 0.5)[:, None]
    at = np.float32(back[0, 0]) * x + np.float32(back[0, 1]) * y + np.float32(back[0, 2])
    return np.asarray(np.maximum(np.maximum(-at, at - size[0]), 0) / frame.width, dtype=np.float32)


def resampled(mask: Pixels, of: Frame, wanted: Frame) -> Pixels:
    """One frame's mask out of another's; one that is enlarged has no stairs at its edge."""
    found = _warped(mask, wanted.matrix() @ np.linalg.inv(of.matrix()), wanted.size)
    larger = wanted.scale / of.scale
    return np.asarray(cv2.GaussianBlur(found, (0, 0), STAIRS * larger)) if larger > 1.2 else found


def _needed(size: tuple[int, int], turn: NDArray[Any], wanted: tuple[int, int]) -> tuple[int, int, int, int]:
    """The photograph's part that the frame shows, and a little around it; at least a pixel."""
    width, height = wanted
    corners = np.array([[0, 0, 1], [width, 0, 1], [0, height, 1], [width, height, 1]], float).T
    x, y, _ = np.linalg.inv(turn) @ corners
    room = 4
    left, top = _within(x.min() - room, size[0] - 1), _within(y.min() - room, size[1] - 1)
    right = max(left + 1, min(size[0], math.ceil(x.max()) + room))
    bottom = max(top + 1, min(size[1], math.ceil(y.max()) + room))
    return left, top, right, bottom


def _within(value: float, most: int) -> int:
    return max(0, min(most, math.floor(value)))


def _warped(part: Pixels, turn: NDArray[Any], size: tuple[int, int]) -> Pixels:
    # OpenCV counts from the middles of pixels, the matrices from their edges
    middles = _moved(-0.5, -0.5) @ turn @ _moved(0.5, 0.5)
    flags = cv2.INTER_CUBIC if abs(np.linalg.det(turn[:2, :2])) > 0.4 else cv2.INTER_AREA
    return np.asarray(cv2.warpAffine(part, middles[:2], size, flags=flags, borderMode=cv2.BORDER_REPLICATE))


def _moved(x: float, y: float) -> NDArray[Any]:
    return np.array([[1, 0, x], [0, 1, y], [0, 0, 1.0]])
