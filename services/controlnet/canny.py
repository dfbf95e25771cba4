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
Histogram = NDArray[Any]  # of int64

FAINTEST = 24.0  # a step by six levels: below it lie a camera's noise and the blocks of JPEG, not edges
BUSIEST = 0.88  # at most the rest of a picture's pixels may be strong: a lawn's every blade is no outline
WEAK = 0.4  # the low threshold's share of the high one
NOISE_STRONG, NOISE_WEAK = 21.0, 12.6  # deviations of noise that make a strong, or a weak, edge about never
LEVELS = 8 * 255 + 1  # both filters answer with 8 * 255 at most
STRIP = 512
_BLIND_TO_SLOPES = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]], np.float32)


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
    gradients, residues = _histograms(pixels)
    noise = _quantile(residues, 0.5) / (0.6745 * 6)
    high = max(FAINTEST, noise * NOISE_STRONG, _otsu(gradients), _quantile(gradients, BUSIEST))
    low = max(high * WEAK, noise * NOISE_WEAK, FAINTEST / 2)
    return round(low), round(high)


def _histograms(pixels: Pixels) -> tuple[Histogram, Histogram]:
    """How often each gradient occurs, and each answer of a filter that is blind to slopes and so hears the noise
    alone (Immerkaer 1996). Taken strip by strip: a large picture's filters would take a gigabyte."""
    gradients, residues = np.zeros(LEVELS, np.int64), np.zeros(LEVELS, np.int64)
    height, width = pixels.shape[:2]
    for top in range(0, height, STRIP):
        before, after = min(top, 1), min(height, top + STRIP + 1)
        strip = np.ascontiguousarray(pixels[top - before : after])
        rows = slice(before, before + min(STRIP, height - top))
        across = cv2.Sobel(strip, cv2.CV_16S, 1, 0, ksize=3, borderType=cv2.BORDER_REPLICATE)[rows]
        down = cv2.Sobel(strip, cv2.CV_16S, 0, 1, ksize=3, borderType=cv2.BORDER_REPLICATE)[rows]
        strongest = (np.abs(across) + np.abs(down)).max(axis=2)
        gradients += np.bincount(strongest.ravel(), minlength=LEVELS)
        if min(strip.shape[0], width) >= 3:
            heard = np.abs(cv2.filter2D(strip, cv2.CV_32F, _BLIND_TO_SLOPES))[1:-1, 1:-1]
            residues += np.bincount(heard.astype(np.int64).ravel(), minlength=LEVELS)
    return gradients, residues


def _quantile(histogram: Histogram, share: float) -> float:
    """The level that this share of the values does not pass."""
    below = histogram.cumsum()
    return float(np.searchsorted(below, share * below[-1])) if below[-1] else 0.0


def _otsu(gradients: Histogram) -> float:
    """The level at which the two sides differ most (Otsu 1979), among those that can be edges; where all are alike,
    all are strong."""
    levels = np.flatnonzero(gradients[int(FAINTEST) :]) + int(FAINTEST)
    if levels.size < 2:
        return 0.0
    values, counts = np.log2(levels), gradients[levels].astype(np.float64)
    weak = counts.cumsum()[:-1]
    strong = counts.sum() - weak
    weak_sum = (counts * values).cumsum()[:-1]
    apart = weak_sum / weak - ((counts * values).sum() - weak_sum) / strong
    # Canny wants more than the threshold: the weakest of the strong shall pass
    return float(levels[int(np.argmax(weak * strong * apart**2)) + 1] - 1)
