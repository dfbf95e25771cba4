"""Nets that find the subject: in comes a picture, out comes its mask in the picture's own size.

prepared ─ (3, side, side) ─ infer, several at once ─ (side, side) ─ restored

How a net wants its pixels, and what its numbers mean, stands in the catalogue (`takes` of its entry).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from services.errors import Unavailable
from services.models import NetInput
from services.onnx import Net
from services.rmbg.engine import Step
from services.rmbg.refine import SURE, enlarged

Array = NDArray[Any]
STEPS = 3
NOTHING = 0.2  # a mask that never reaches this shows that the net found no subject
_FLAT = 1e-6


class NetEngine:
    """A net with what comes before and after it. Threads share it.

    `ask` gives one prepared picture to the net; a batcher may stand there, which joins what several threads ask for.
    """

    def __init__(self, net: Net, takes: NetInput, name: str) -> None:
        self._net, self._takes, self._name = net, takes, name
        fixed = net.inputs[0].side
        # the file knows its side better than the catalogue does: an export of another size goes, too
        self.side: tuple[int, int] = fixed or (takes.side, takes.side)
        self.ask: Callable[[Array], Array] = lambda one: self.infer([one])[0]

    def mask(self, image: Image.Image, step: Step) -> Image.Image:
        step(0, STEPS)
        pixels = np.asarray(image if image.mode == "RGB" else image.convert("RGB"))
        one = prepared(pixels, self.side, self._takes)
        step(1, STEPS)
        found = self.ask(one)
        step(2, STEPS)
        return Image.fromarray(restored(found, pixels))

    def infer(self, batch: list[Array]) -> list[Array]:
        """For each prepared picture its alpha, from 0 to 1, in the net's own size."""
        out = self._net.run(np.stack(batch))[0]
        if out.ndim == 3:
            out = out[:, None]
        if out.ndim != 4 or len(out) != len(batch):
            raise Unavailable(
                f"The model {self._name} answers with an array of {out.shape}: that is no mask.",
                help=f"`darkroom models pull {self._name}` fetches the file that the catalogue means.",
            )
        return [alpha(one[0], self._takes.gives) for one in out.astype(np.float32, copy=False)]


def prepared(pixels: Array, side: tuple[int, int], takes: NetInput) -> Array:
    """RGB bytes (H, W, 3) as the net takes them: resized whatever their shape, normalised, (3, height, width)."""
    height, width = side
    if pixels.shape[:2] != side:
        smaller = pixels.shape[0] >= height and pixels.shape[1] >= width
        how = cv2.INTER_AREA if smaller else cv2.INTER_LINEAR
        pixels = cv2.resize(pixels, (width, height), interpolation=how)
    peak = 255.0 if takes.peak == "255" else max(float(pixels.max()), 1.0)
    scale = 1.0 / (peak * np.asarray(takes.std, np.float32))
    shift = np.asarray(takes.mean, np.float32) / np.asarray(takes.std, np.float32)
    planes = np.empty((3, height, width), np.float32)
    for channel in range(3):
        np.multiply(pixels[..., channel], scale[channel], out=planes[channel])
        planes[channel] -= shift[channel]
    return planes


def alpha(found: Array, gives: str) -> Array:
    """What a net gave, as an alpha from 0 to 1."""
    found = np.nan_to_num(found)
    if gives == "logits":
        return np.asarray(1 / (1 + np.exp(-np.clip(found, -30, 30))), np.float32)
    if gives == "levels":  # only their order means something: from the lowest to the highest
        low, high = float(found.min()), float(found.max())
        if high - low > _FLAT:
            return np.asarray((found - low) / (high - low), np.float32)
    return np.clip(found, 0, 1)


def restored(found: Array, pixels: Array) -> Array:
    """The mask as bytes in the picture's size; where there is no subject, all of the picture is."""
    if float(found.max()) < NOTHING:
        return np.full(pixels.shape[:2], 255, np.uint8)
    # no haze of a hundredth, which nobody sees and all that comes after would have to look at
    found = np.where(found < SURE, 0, np.where(found > 1 - SURE, 1, found)).astype(np.float32)
    return enlarged(pixels, found)
