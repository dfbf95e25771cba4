"""What is behind the person: in come one or two colours, out comes a picture of the frame's size."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from services.portrait.light import coded, linear
from services.rmbg.compose import colour

Map = NDArray[Any]  # of float32
LIT = (0.5, 0.42)  # where a radial one is brightest, as shares of the frame: behind the head


def backdrop(
    size: tuple[int, int], first: str, second: str | None, gradient: Literal["linear", "radial"]
) -> Image.Image:
    """RGBA; one colour is exactly that, two run into each other in linear light."""
    if second is None:
        return Image.new("RGBA", size, colour(first))
    share = (_down(size) if gradient == "linear" else _outwards(size))[..., None]
    ends = [np.array(colour(name), np.uint8) for name in (first, second)]
    lights = [linear(end[:3]) for end in ends]
    rgb = coded(lights[0] + share * (lights[1] - lights[0])) * 255
    alpha = ends[0][3] + share * (float(ends[1][3]) - float(ends[0][3]))
    whole = np.dstack([np.broadcast_to(rgb, (*share.shape[:2], 3)), alpha])
    # a little noise, always the same, instead of bands; it rounds up or down and adds nothing
    chance = np.random.default_rng(0).random(share.shape, dtype=np.float32)
    return Image.fromarray(np.asarray(np.clip(whole + chance, 0, 255), dtype=np.uint8))


def _down(size: tuple[int, int]) -> Map:
    width, height = size
    rows = np.linspace(0, 1, height, dtype=np.float32)
    return np.repeat(rows[:, None], width, axis=1)


def _outwards(size: tuple[int, int]) -> Map:
    """0 in the light's middle, 1 in the farthest corner; smooth at both ends."""
    width, height = size
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    longest = max(width, height)
    away = np.hypot(x - LIT[0] * width, y - LIT[1] * height) / longest
    share = away / max(1e-6, float(away.max()))
    return np.asarray(share * share * (3 - 2 * share), dtype=np.float32)
