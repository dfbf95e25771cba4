"""Sizes: in go a picture's size, what was asked and what a model can do; out comes the size at which it works.

A model has a number of pixels of its own, on which it was trained. A picture that comes without an asked size keeps
its shape and, up to that number, its size; a larger one is made smaller. Sides are multiples of eight, rounded down.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from PIL import Image

from services.errors import BadInput

Size = tuple[int, int]  # width, height

MULTIPLE, LEAST, MOST = 8, 64, 2048
_BEYOND = 4  # times a model's own number of pixels, where the catalogue says no `max_side`


def own_size(defaults: Mapping[str, Any]) -> Size:
    """The model's own."""
    return int(defaults["width"]), int(defaults["height"])


def like(shape: Size, pixels: int, *, enlarge: bool) -> Size:
    """The size of that shape with at most so many pixels; not larger than `shape` is unless `enlarge`."""
    width, height = shape
    scale = math.sqrt(pixels / (width * height))
    scale = scale if enlarge else min(scale, 1.0)
    scale = max(scale, LEAST / min(shape))
    return _rounded(width * scale), _rounded(height * scale)


def completed(asked: tuple[int | None, int | None], shape: Size, otherwise: Size) -> Size:
    """What was asked; where one side was, the other follows the shape."""
    width, height = asked
    if width is not None and height is not None:
        return width, height
    if width is not None:
        return width, _rounded(width * shape[1] / shape[0])
    if height is not None:
        return _rounded(height * shape[0] / shape[1]), height
    return otherwise


def check(size: Size, defaults: Mapping[str, Any], model: str) -> None:
    """Refuses a size that is beyond the model: a side of more than its `max_side`, or far more pixels than its own."""
    width, height = own_size(defaults)
    side = int(defaults.get("max_side", MOST))
    pixels = side * side if "max_side" in defaults else _BEYOND * width * height
    if max(size) > side or size[0] * size[1] > pixels:
        raise BadInput(
            f"{size[0]} x {size[1]} is too large for the model {model!r}: it makes sides of at most {side} and at most "
            f"{pixels:,} pixels, and {width} x {height} best.",
            field="width" if size[0] >= size[1] else "height",
            help="Ask for a smaller size.",
        )


def cover(
    image: Image.Image, size: Size, resample: Image.Resampling = Image.Resampling.LANCZOS
) -> Image.Image:
    """The picture at that size: scaled until it covers it, the middle cut out."""
    if image.size == size:
        return image
    scale = max(size[0] / image.width, size[1] / image.height)
    wide, high = size[0] / scale, size[1] / scale
    left, top = (image.width - wide) / 2, (image.height - high) / 2
    return image.resize(size, resample, box=(left, top, left + wide, top + high))


def _rounded(side: float) -> int:
    # a hair is added, so that 64 does not become 63.999 and then 56
    return min(MOST, max(LEAST, int(side + 1e-6) // MULTIPLE * MULTIPLE))
