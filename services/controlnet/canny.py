"""Edges by Canny's method: in comes an RGB picture, out come white edges on black, and the thresholds they took.

The thresholds are measured as OpenCV's Canny measures a gradient: the sum of Sobel's two answers, of the channel where
it is the largest, so that a sharp step by one level counts 4. Whoever knows them from other tools may give both;
what is not given is found from the picture.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

Pixels = NDArray[Any]  # of uint8, three channels

FAINTEST = 24.0  # a step by six levels: below it lie a camera's noise and the blocks of JPEG, not edges
BUSIEST = 0.88  # at most the rest of a picture's pixels may be strong: a lawn's every blade is no outline
WEAK = 0.4  # the low threshold's share of the high one
NOISE_STRONG, NOISE_WEAK = 21.0, 12.6  # deviations of noise that make a strong, or a weak, edge about never


def edges(image: Image.Image, low: int | None = None, high: int | None = None) -> Image.Image:
    """The map (RGB) of the picture's own size."""
    pixels = np.ascontiguousarray(np.asarray(image.convert("RGB")))
    if low is None or high is None:
        low, high = thresholds(image, low, high)
    return Image.fromarray(cv2.Canny(pixels, low, high)).convert("RGB")


def thresholds(image: Image.Image, low: int | None = None, high: int | None = None) -> tuple[int, int]:
    """The two that fit the picture; one that is given is kept, and the other does not contradict it."""
    if low is not None and high is not None:
        return low, high
    found_low, found_high = _found(np.ascontiguousarray(np.asarray(image.convert("RGB"))))
    if high is not None:
        return min(found_low, high), high
    if low is not None:
        return low, max(found_high, low)
    return found_low, found_high


def _found(pixels: Pixels) -> tuple[int, int]:
    """High is what parts the strong gradients from the weak ones (Otsu, on a logarithmic scale, so that a dark
    picture is treated as its bright twin), but not so low that noise or texture would fill the map."""
    gradient = _gradient(pixels)
    noise = _noise(pixels)
    seen = gradient[gradient >= FAINTEST]
    high = max(FAINTEST, noise * NOISE_STRONG)
    if seen.size:
        high = max(high, _otsu(seen), float(np.quantile(gradient, BUSIEST)))
    low = max(high * WEAK, noise * NOISE_WEAK, FAINTEST / 2)
    return round(low), round(high)


def _gradient(pixels: Pixels) -> NDArray[Any]:
    across = cv2.Sobel(pixels, cv2.CV_16S, 1, 0, ksize=3, borderType=cv2.BORDER_REPLICATE)
    down = cv2.Sobel(pixels, cv2.CV_16S, 0, 1, ksize=3, borderType=cv2.BORDER_REPLICATE)
    return np.asarray((np.abs(across) + np.abs(down)).max(axis=2))


def _noise(pixels: Pixels) -> float:
    """The deviation of the picture's noise, by a filter that is blind to slopes (Immerkaer 1996); its median, so that
    edges do not count."""
    if min(pixels.shape[:2]) < 3:
        return 0.0
    kernel = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]], np.float32)
    answer = cv2.filter2D(pixels, cv2.CV_32F, kernel)[1:-1, 1:-1]
    return float(np.median(np.abs(answer))) / (0.6745 * 6)


def _otsu(values: NDArray[Any]) -> float:
    scale = np.log2(values.astype(np.float32))
    least, most = float(scale.min()), float(scale.max())
    if most - least < 1e-6:
        return float(values.flat[0]) / 2  # all edges are alike: all of them are strong
    levels = ((scale - least) / (most - least) * 255).astype(np.uint8).reshape(1, -1)
    parted, _ = cv2.threshold(levels, 0, 255, cv2.THRESH_BINARY | cv2.THRESH_OTSU)
    return float(2 ** (least + parted / 255 * (most - least)))
