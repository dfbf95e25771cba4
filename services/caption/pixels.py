"""A picture as a net wants it: in comes an RGB picture, out comes an array (1, 3, height, width).

What transformers' own processors do, as `preprocessor_config.json` beside a model says it; theirs need torchvision
since version 5, or are called otherwise from one version to the next. A test holds the two equal.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from PIL import Image

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_DEVIATION = (0.26862954, 0.26130258, 0.27577711)


@dataclass(frozen=True, slots=True)
class Preparation:
    """How large, cut to what, and with which mean and deviation."""

    size: int | tuple[int, int]  # the shorter side, or width and height
    crop: tuple[int, int] | None = None  # width and height
    resample: Image.Resampling = Image.Resampling.BICUBIC
    mean: tuple[float, ...] = CLIP_MEAN
    deviation: tuple[float, ...] = CLIP_DEVIATION

    @classmethod
    def read(cls, folder: Path, *, otherwise: int) -> Self:
        """From a model's folder; `otherwise` is the side where the file does not tell it."""
        told: dict[str, Any] = json.loads((folder / "preprocessor_config.json").read_text())
        size = told.get("size", otherwise)
        crop = told.get("crop_size", otherwise) if told.get("do_center_crop", False) else None
        return cls(
            size=_side(size),
            crop=None if crop is None else _both(_side(crop)),
            resample=Image.Resampling(told.get("resample", Image.Resampling.BICUBIC)),
            mean=tuple(told.get("image_mean", CLIP_MEAN)),
            deviation=tuple(told.get("image_std", CLIP_DEVIATION)),
        )

    def __call__(self, image: Image.Image) -> NDArray[np.float32]:
        image = self._resized(image.convert("RGB"))
        if self.crop is not None:
            width, height = self.crop
            left, top = (image.width - width) // 2, (image.height - height) // 2
            image = image.crop((left, top, left + width, top + height))
        values = np.asarray(image, np.float32) / 255
        values = (values - np.array(self.mean, np.float32)) / np.array(self.deviation, np.float32)
        return np.ascontiguousarray(values.transpose(2, 0, 1)[None])

    def _resized(self, image: Image.Image) -> Image.Image:
        if isinstance(self.size, tuple):
            return image.resize(self.size, self.resample)
        short = min(image.size)
        width, height = (self.size if side == short else int(self.size * side / short) for side in image.size)
        return image.resize((width, height), self.resample)


def _side(told: Any) -> int | tuple[int, int]:
    """Older files have a number, newer ones a mapping."""
    if isinstance(told, int):
        return told
    if "shortest_edge" in told:
        return int(told["shortest_edge"])
    return int(told["width"]), int(told["height"])


def _both(side: int | tuple[int, int]) -> tuple[int, int]:
    return side if isinstance(side, tuple) else (side, side)
