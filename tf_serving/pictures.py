"""`PICTURES.md` in numpy and Pillow: bytes of a picture in, what the net wants out; and back to a PNG.

For models whose graph is only the net (LiteRT). `pix2pix/graph.py` is the same in TensorFlow, and a test
holds the two equal; step numbers are those of `PICTURES.md`.
"""

from __future__ import annotations

import functools
import warnings
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Floats = NDArray[np.float32]
VERSION = 1
MAX_PIXELS = 50_000_000
MAX_SIDE = 16_384  # the filters of a longer picture would take more memory than the picture
_ROWS = 256  # so many of a picture's rows are floats at a time: a large photograph would take gigabytes
_MAGIC = {"PNG": b"\x89PNG\r\n\x1a\n", "JPEG": b"\xff\xd8\xff", "GIF": b"GIF8", "BMP": b"BM"}

Image.MAX_IMAGE_PIXELS = None  # our own bound is checked first
warnings.filterwarnings("ignore", module=r"PIL\.")  # of oddities in a file; what matters comes as an error


class BadPicture(ValueError):
    """The bytes hold no picture that can be read; the message is TensorFlow's where it has one."""


@dataclass(frozen=True, slots=True)
class Size:
    """A sketch's height and width, and where it lies in its square."""

    high: int
    wide: int

    @property
    def square(self) -> int:
        return max(self.high, self.wide)

    @property
    def rows(self) -> slice:
        top = (self.square - self.high) // 2
        return slice(top, top + self.high)

    @property
    def columns(self) -> slice:
        left = (self.square - self.wide) // 2
        return slice(left, left + self.wide)


def net_of_file(data: bytes, side: int, max_pixels: int = MAX_PIXELS) -> tuple[Floats, Size]:
    """Steps 1 to 6: a file's bytes -> the net's input [side, side, 3] in [-1, 1], and the sketch's size."""
    values = decode(data, max_pixels)
    size = Size(*values.shape[:2])
    rows, columns = _rows(side, size), _columns(side, size)
    fitted: Floats = np.zeros((side, size.wide, 3), np.float32)
    for start in range(0, size.high, _ROWS):
        part = slice(start, start + _ROWS)
        ink = _ink(values[part])
        fitted += np.tensordot(rows[:, part], ink, (1, 0))
    return net_of_ink(np.einsum("tw,swc->stc", columns, fitted, optimize=True)), size


def file_of_net(output: Floats, size: Size, level: int = 1) -> bytes:
    """Steps 7 to 10: the net's output [side, side, 3] -> a PNG of the sketch's size."""
    side = output.shape[0]
    back_rows, back_columns = _back(side, size)
    # across first: then a strip of rows is a product of its own
    wide = np.einsum("wt,stc->swc", back_columns, shares_of_net(output), optimize=True)
    pixels = np.empty((size.high, size.wide, 3), np.uint8)
    for start in range(0, size.high, _ROWS):
        part = slice(start, start + _ROWS)
        pixels[part] = bytes_of_shares(np.tensordot(back_rows[part], wide, (1, 0)))
    out = BytesIO()
    Image.fromarray(pixels).save(out, "PNG", compress_level=level)
    return out.getvalue()


def net_of_shares(shares: Floats, side: int) -> tuple[Floats, Size]:
    """Steps 4 to 6 for the signature `tensor`: [h, w, 3] in [0, 1] -> the net's input."""
    size = Size(*shares.shape[:2])
    ink = np.float32(1) - np.clip(shares, np.float32(0), np.float32(1))
    fitted = np.tensordot(_rows(side, size), ink, (1, 0))
    return net_of_ink(np.einsum("tw,swc->stc", _columns(side, size), fitted, optimize=True)), size


def shares_of_output(output: Floats, size: Size) -> Floats:
    """Steps 7 and 8: the net's output -> [h, w, 3] in [0, 1]."""
    back_rows, back_columns = _back(output.shape[0], size)
    wide = np.einsum("wt,stc->swc", back_columns, shares_of_net(output), optimize=True)
    return np.asarray(np.tensordot(back_rows, wide, (1, 0)), np.float32)


def net_of_ink(ink: Floats) -> Floats:
    """Step 6."""
    return np.asarray((np.float32(1) - ink) * np.float32(2) - np.float32(1), np.float32)


def shares_of_net(values: Floats) -> Floats:
    """Step 7."""
    return np.asarray(np.clip((values + np.float32(1)) / np.float32(2), 0, 1), np.float32)


def bytes_of_shares(shares: Floats) -> NDArray[np.uint8]:
    """Step 9."""
    rounded: Floats = np.floor(shares * np.float32(255) + np.float32(0.5))
    return np.asarray(np.clip(rounded, 0, 255), np.uint8)


def decode(data: bytes, max_pixels: int = MAX_PIXELS) -> NDArray[np.uint8]:
    """Step 1: uint8 [h, w, 3], or [h, w, 4] where the picture has alpha."""
    kind = next((name for name, magic in _MAGIC.items() if data.startswith(magic)), None)
    if kind is None:
        raise BadPicture("Unknown image file format. One of JPEG, PNG, GIF, BMP required.")
    try:
        with Image.open(BytesIO(data), formats=[kind]) as image:
            check_pixels(image.width, image.height, max_pixels)
            return _pixels(image, kind)
    except BadPicture:
        raise
    except Exception as error:
        raise BadPicture(f"Invalid {kind} data, size {len(data)}: {error}") from error


def check_pixels(wide: int, high: int, max_pixels: int) -> None:
    if wide * high > max_pixels:
        raise BadPicture(
            f"The picture has {wide} x {high} pixels; this server takes {max_pixels} in all. Make it smaller."
        )
    if max(wide, high) > MAX_SIDE:
        raise BadPicture(
            f"The picture has {wide} x {high} pixels; a side may have {MAX_SIDE}. Make it smaller."
        )


def _pixels(image: Image.Image, kind: str) -> NDArray[np.uint8]:
    image.load()
    if image.mode.startswith("I"):  # 16 bits of grey
        high = (np.asarray(image).astype(np.int64) >> 8).astype(np.uint8)
        return np.repeat(high[..., None], 3, axis=2)
    if kind == "PNG":
        with_alpha = image.mode in ("LA", "RGBA", "PA") or (
            image.mode == "P" and "transparency" in image.info
        )
        return np.asarray(image.convert("RGBA" if with_alpha else "RGB"))
    if image.mode == "RGBA":  # a BMP's fourth channel is not looked at
        return np.asarray(image)[..., :3]
    image.info.pop("transparency", None)
    return np.asarray(image.convert("RGB"))


def _ink(values: NDArray[np.uint8]) -> Floats:
    """Steps 3 and 4, for some rows."""
    shares = values.astype(np.float32) / np.float32(255)
    ink = np.float32(1) - shares[..., :3]
    return ink * shares[..., 3:] if values.shape[-1] == 4 else ink


@functools.lru_cache(maxsize=16)
def resize(out: int, into: int) -> Floats:
    """R(out, in) of `PICTURES.md`: a separable triangle filter, widened when it shrinks."""
    scale = into / out
    support = max(1.0, scale)
    centre = (np.arange(out, dtype=np.float64) + 0.5) * scale - 0.5
    # in strips: in float64 the whole of a large picture's matrix would be felt
    matrix = np.empty((out, into), np.float32)
    at = np.arange(into, dtype=np.float64)
    for start in range(0, out, _ROWS):
        part = slice(start, start + _ROWS)
        weights = np.maximum(0.0, 1.0 - np.abs(at[None, :] - centre[part, None]) / support)
        matrix[part] = weights / weights.sum(axis=1, keepdims=True)
    matrix.flags.writeable = False
    return matrix


def _rows(side: int, size: Size) -> Floats:
    return resize(side, size.square)[:, size.rows]


def _columns(side: int, size: Size) -> Floats:
    return resize(side, size.square)[:, size.columns]


def _back(side: int, size: Size) -> tuple[Floats, Floats]:
    whole: Any = resize(size.square, side)
    return whole[size.rows], whole[size.columns]
