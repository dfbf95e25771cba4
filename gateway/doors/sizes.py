"""Sizes that foreign clients ask for: in goes any size, out comes one that the model draws well."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

TOO_LARGE = 4.0  # times a model's own number of pixels, beyond which it draws nonsense
SIDE = 8
MOST_PIXELS = 50_000_000


def fitted(size: tuple[int, int] | None, own: Mapping[str, Any]) -> dict[str, int]:
    """Width and height: as asked, or in the asked shape with as many pixels as the model was made for."""
    if size is None:
        return {}
    width, height = size
    made_for = int(own.get("width", 1024)) * int(own.get("height", 1024))
    scale = math.sqrt(made_for / (width * height)) if width * height > TOO_LARGE * made_for else 1.0
    return {
        "width": max(64, round(width * scale / SIDE) * SIDE),
        "height": max(64, round(height * scale / SIDE) * SIDE),
    }
