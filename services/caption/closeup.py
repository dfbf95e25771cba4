"""A closer look: in comes a picture, out comes its one thing in the middle of a square, large, as on its background;
and its form alone, in whatever colours."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

DIFFERS = 60  # from the rim's colour, in the sum of three channels
SHARE = 0.245  # of the square's side: half the longer side of the thing
SIDE = 128
WIDE = 1.7  # a longer form is more than one thing, or none

Colour = tuple[int, int, int]


def close_up(image: Image.Image) -> Image.Image | None:
    """None where nothing stands out of the rim's colour, or what does reaches the rim itself."""
    pixels = np.asarray(image, np.int16)
    rim = _rim(pixels)
    ground = np.median(rim, axis=0)
    differs = np.abs(pixels - ground).sum(axis=2) > DIFFERS
    rows, columns = np.flatnonzero(differs.any(axis=1)), np.flatnonzero(differs.any(axis=0))
    if not rows.size or (np.abs(rim - ground).sum(axis=1) > DIFFERS).mean() > 0.05:
        return None
    left, right, top, bottom = columns[0], columns[-1] + 1, rows[0], rows[-1] + 1
    if (right - left) / (bottom - top) > WIDE:
        return None
    side = max(right - left, bottom - top) / 2 / SHARE
    corner = ((left + right - side) / 2, (top + bottom - side) / 2)
    square = Image.new("RGB", (max(1, round(side)),) * 2, tuple(int(level) for level in ground))
    square.paste(image, (-round(corner[0]), -round(corner[1])))
    return square.resize((SIDE, SIDE), Image.Resampling.BICUBIC)


def form(close: Image.Image, colour: Colour, ground: Colour) -> Image.Image:
    """The thing of a closer look in one colour on another: its edge stays soft, its texture goes."""
    pixels = np.asarray(close, np.float32)
    away = np.abs(pixels - np.median(_rim(pixels), axis=0)).sum(axis=2)
    inside = away[away > DIFFERS]
    share = np.clip(away / np.median(inside), 0, 1) if inside.size else np.zeros_like(away)
    painted = share[..., None] * np.array(colour) + (1 - share[..., None]) * np.array(ground)
    return Image.fromarray(np.round(painted).astype(np.uint8))


def _rim(pixels: NDArray[Any]) -> NDArray[Any]:
    return np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
