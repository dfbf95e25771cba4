"""Pictures as a model gets to see them: whole ones in, small ones out, so that all of an answer fit into one message.

The official client refuses an event of more than one megabyte, and a model sees no more of a large picture.
"""

from __future__ import annotations

import asyncio
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image

from gateway import b64
from gateway.desk import Made

SIDE = 1024  # pixels of the longer side
BYTES = 600 * 1024  # of all pictures of an answer, before base64 makes a third more of them
_SMALLER = 0.9  # at least, where a picture is too large still
_SMALLEST = 64
_AT_ONCE = 2  # large ones that are scaled: each is decoded whole


@dataclass(frozen=True, slots=True)
class View:
    data: str  # base64
    media_type: str
    width: int
    height: int


class Viewer:
    def __init__(self) -> None:
        self._turns = asyncio.Semaphore(_AT_ONCE)

    async def views(self, pictures: Sequence[Made]) -> list[View]:
        room = BYTES // max(1, len(pictures))
        async with self._turns:
            return await asyncio.to_thread(lambda: [_view(picture, room) for picture in pictures])


def _view(picture: Made, room: int) -> View:
    with Image.open(io.BytesIO(picture.data), formats=("PNG", "JPEG", "WEBP")) as image:
        if max(image.size) <= SIDE and len(picture.data) <= room:
            return View(_text(picture.data), picture.media_type, *image.size)
        if image.format == "JPEG":
            image.draft("RGB", (SIDE, SIDE))
        seen = image.convert("RGBA" if image.has_transparency_data else "RGB")
    side = min(SIDE, max(seen.size))
    while True:
        seen.thumbnail((side, side), Image.Resampling.LANCZOS)
        data, media_type = _written(seen)
        if len(data) <= room or side <= _SMALLEST:
            return View(_text(data), media_type, *seen.size)
        side = max(_SMALLEST, int(side * min(_SMALLER, math.sqrt(room / len(data)))))


def _written(image: Image.Image) -> tuple[bytes, str]:
    out = io.BytesIO()
    if image.mode == "RGBA":
        image.save(out, "WEBP", quality=80, method=2)
        return out.getvalue(), "image/webp"
    image.save(out, "JPEG", quality=85)
    return out.getvalue(), "image/jpeg"


def _text(data: bytes) -> str:
    return b64.encode(data).decode()
