"""A mask as AUTOMATIC1111 takes it: in goes base64, white or opaque where to paint; out comes one white there."""

from __future__ import annotations

import asyncio
import base64
import binascii

from gateway.blobs import Blob, MemoryBlob
from services import images, png
from services.errors import BadInput, BadPicture
from services.settings import Limits

_HALF = 128


async def white_where_painted(given: object, limits: Limits, *, inverted: bool) -> Blob:
    if not isinstance(given, str):
        raise BadInput("mask is a picture, as base64.", field="mask")
    return MemoryBlob(await asyncio.to_thread(_white, given, limits, inverted), "image/png")


def decoded(text: str, field: str) -> bytes:
    """The bytes of base64, with the head of a data URI or without."""
    try:
        return base64.b64decode(text.partition(",")[2] if text.startswith("data:") else text)
    except (binascii.Error, ValueError) as error:
        raise BadPicture(f"{field} is no base64.", field=field) from error


def _white(text: str, limits: Limits, inverted: bool) -> bytes:
    image = images.decode(decoded(text, "mask"), limits, "mask")
    mask = image.convert("L")
    if image.mode == "RGBA":
        alpha = image.getchannel("A")
        if alpha.getextrema() != (255, 255):
            mask = alpha.point(lambda level: 255 if level > _HALF else 0)
    return png.write(mask.point(lambda level: 255 - level) if inverted else mask)
