"""A closer look: in comes a picture, out comes its one thing in the middle of a square, large, as on its background."""

from __future__ import annotations

import numpy as np
from PIL import Image

DIFFERS = 60  # from the rim's colour, in the sum of three channels
SHARE = 0.245  # of the square's side: half the longer side of the thing
SIDE = 128
WIDE = 1.7  # a longer form is more than one thing, or none


def close_up(image: Image.Image) -> Image.Image | None:
    """None where nothing stands out of the rim's colour, or what does reaches the rim itself."""
    pixels = np.asarray(image, np.int16)
    rim = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
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
