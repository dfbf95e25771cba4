"""The subject's own colours at its soft edges: in come a picture and its mask, out comes the picture without the old
background's colours where the mask lets a little of it through.

Blurred means of what is surely subject and surely background are corrected so that they mix to what is seen, twice, far
and then near (Forte, "Approximate Fast Foreground Colour Estimation", 2021). That is done in a small picture; the last
correction is made in the picture itself, tile by tile, only where the mask is soft.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from services.cores import share_out
from services.rmbg.refine import Map, Pixels, Window, piece, tiles

SMALL_SIDE = 512
FAR, NEAR = 0.07, 0.008  # of the small picture's longer side
LEEWAY = 0.04
CLEAR = 4
_LEAST = 1e-4

Colours = tuple[NDArray[Any], NDArray[Any]]  # subject's and background's, RGB from 0 to 1, in a small picture


def pure(picture: Pixels, mask: Pixels, colours: Colours | None = None) -> Pixels:
    """The picture with the subject's own colours where the mask is soft; elsewhere it is untouched."""
    soft = cv2.inRange(mask, CLEAR, 255 - CLEAR) > 0  # a mask beyond these mixes too little to be seen
    if not soft.any():
        return picture
    front, back = colours or estimated(picture, mask)
    out = picture.copy()

    def fill(window: Window) -> None:
        here = soft[window]
        if not here.any():
            return
        alpha = (mask[window][here].astype(np.float32) * np.float32(1 / 255))[:, None]
        seen = picture[window][here].astype(np.float32) * np.float32(1 / 255)
        mean = piece(front, window, mask.shape)[here]
        own = piece(back, window, mask.shape)[here]
        own *= alpha - 1
        own += seen
        own -= alpha * mean
        own *= alpha
        own += mean
        # where the mask is wrong, the correction would overshoot into colours that are nowhere
        np.maximum(own, np.minimum(mean, seen) - LEEWAY, out=own)
        np.minimum(own, np.maximum(mean, seen) + LEEWAY, out=own)
        np.clip(own, 0, 1, out=own)
        own *= 255
        own += 0.5
        out[window][here] = own.astype(np.uint8)

    share_out(fill, tiles(*mask.shape))
    return out


def estimated(picture: Pixels, mask: Pixels) -> Colours:
    """Both colours everywhere, by two blurs."""
    scale = min(1.0, SMALL_SIDE / max(mask.shape))
    size = max(1, round(mask.shape[1] * scale)), max(1, round(mask.shape[0] * scale))
    seen = cv2.resize(picture, size, interpolation=cv2.INTER_AREA).astype(np.float32) / 255
    alpha = cv2.resize(mask, size, interpolation=cv2.INTER_AREA).astype(np.float32)[..., None] / 255
    front, back = seen, seen
    for share in (FAR, NEAR):
        front, back = _corrected(seen, front, back, alpha, max(1, round(max(size) * share)))
    return front, back


def _corrected(seen: Map, front: Map, back: Map, alpha: Map, radius: int) -> Colours:
    size = (2 * radius + 1, 2 * radius + 1)

    def mean(values: Map) -> Map:
        return np.atleast_3d(cv2.blur(values, size, borderType=cv2.BORDER_REPLICATE))

    share = mean(alpha)
    front = mean(front * alpha) / (share + _LEAST)
    back = mean(back * (1 - alpha)) / (1 - share + _LEAST)
    # where no subject is near, its colour is taken from what is seen; likewise the background's
    front = np.where(share > _LEAST, front, seen)
    back = np.where(share < 1 - _LEAST, back, seen)
    front = np.clip(front + alpha * (seen - alpha * front - (1 - alpha) * back), 0, 1)
    return front.astype(np.float32), back.astype(np.float32)
