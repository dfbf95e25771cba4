"""Writes PNG files quickly: in goes a picture of eight bits a channel, out come the file's bytes.

Pillow spends a second of a core on a 12-megapixel photograph, most of it in deflate; this spends a sixth of it for as
many bytes (`bench/codecs.py`): every row is told as its difference from the row above, which Pillow's own arithmetic
makes, and Intel's igzip compresses it. Both let go of Python's lock, so that two pictures use two cores. What is made
beside the file is a strip of rows at a time.
"""

from __future__ import annotations

import math
import struct
from itertools import chain, repeat

from isal import isal_zlib
from PIL import Image, ImageChops, PngImagePlugin

SIGNATURE = b"\x89PNG\r\n\x1a\n"
LEVEL = 1
STRIP = 2**21  # bytes of rows that are compressed at once
_COLOUR_TYPES = {"L": 0, "RGB": 2, "LA": 4, "RGBA": 6}
_UP = b"\x02"
_METRE = 0.0254  # of an inch


def write(image: Image.Image, *, text: str = "", dpi: float | None = None) -> bytes:
    """The file; `text` is what readers of generated pictures look for, `dpi` tells its size on paper."""
    if image.mode not in _COLOUR_TYPES:
        plain = "L" if image.mode == "1" else "RGB"
        image = image.convert("RGBA" if image.has_transparency_data else plain)
    width, height = image.size
    file = [SIGNATURE]
    _add(file, b"IHDR", struct.pack(">IIBBBBB", width, height, 8, _COLOUR_TYPES[image.mode], 0, 0, 0))
    if dpi:
        dots = max(1, round(dpi / _METRE))
        _add(file, b"pHYs", struct.pack(">IIB", dots, dots, 1))
    if text:
        words = PngImagePlugin.PngInfo()
        words.add_text("parameters", text)
        for kind, data, *_ in words.chunks:
            _add(file, kind, data)
    deflate = isal_zlib.compressobj(LEVEL)
    stride = width * len(image.getbands())
    rows = max(1, STRIP // stride)
    for top in range(0, height, rows):
        part = _differences(image, top, min(height, top + rows))
        _add(file, b"IDAT", deflate.compress(_marked(part, stride)))
    _add(file, b"IDAT", deflate.flush())
    _add(file, b"IEND", b"")
    return b"".join(file)


def _differences(image: Image.Image, top: int, bottom: int) -> bytes:
    """Each row of the strip less the row above it; above the first there is black."""
    strip = image.crop((0, top, image.width, bottom))
    above = image.crop((0, top - 1, image.width, bottom - 1))
    return ImageChops.subtract_modulo(strip, above).tobytes()


def _marked(rows: bytes, stride: int) -> bytes:
    """The rows, each behind the byte that names its filter."""
    cuts = memoryview(rows)
    parts = (cuts[start : start + stride] for start in range(0, len(rows), stride))
    return b"".join(chain.from_iterable(zip(repeat(_UP, math.ceil(len(rows) / stride)), parts, strict=True)))


def _add(file: list[bytes], kind: bytes, data: bytes) -> None:
    if data or kind == b"IEND":
        checksum = isal_zlib.crc32(data, isal_zlib.crc32(kind))
        file += [struct.pack(">I", len(data)), kind, data, struct.pack(">I", checksum)]
