"""A mask as AUTOMATIC1111 takes it: in goes base64, white or opaque where to paint; out comes one white there."""

from __future__ import annotations

import asyncio
import binascii

from PIL import Image

from gateway import b64
from gateway.blobs import Blob, MemoryBlob
from gateway.doors.sizes import MOST_PIXELS
from gateway.intake import HEAD, measure
from services import images, png
from services.errors import BadInput, BadPicture
from services.settings import Limits

_HALF = 128
_ELSEWHERE = ("http://", "https://", "asset:", "part:")


async def white_where_painted(given: object, image: str, limits: Limits, *, inverted: bool) -> Blob:
    """A mask of another size than `image`, the picture that it lies on, is brought to that."""
    if not isinstance(given, str):
        raise BadInput("mask is a picture, as base64.", field="mask")
    return MemoryBlob(await asyncio.to_thread(_white, given, image, limits, inverted), "image/png")


def decoded(text: str, field: str) -> bytes:
    """The bytes of base64, with the head of a data URI or without."""
    try:
        return b64.decode(text.partition(",")[2] if text.startswith("data:") else text)
    except (binascii.Error, ValueError) as error:
        raise BadPicture(f"{field} is no base64.", field=field) from error


def _white(text: str, image: str, limits: Limits, inverted: bool) -> bytes:
    painted = images.decode(decoded(text, "mask"), limits, "mask")
    mask = painted.convert("L")
    if painted.mode == "RGBA":
        alpha = painted.getchannel("A")
        if alpha.getextrema() != (255, 255):
            mask = alpha.point(lambda level: 255 if level > _HALF else 0)
    if (size := _size_of(image)) is not None and mask.size not in (size, size[::-1]):
        # a photograph that lies on its side is turned later, and its mask fits it then
        mask = mask.resize(size, Image.Resampling.BILINEAR)
    return png.write(mask.point(lambda level: 255 - level) if inverted else mask)


def _size_of(image: str) -> tuple[int, int] | None:
    """From the picture's first bytes. Of an address nobody knows it yet; what cannot be read is refused later."""
    if image.startswith(_ELSEWHERE):
        return None
    head = image.partition(",")[2] if image.startswith("data:") else image
    try:
        _, size = measure(decoded(head[: HEAD // 3 * 4], "init_images"), "init_images")
    except BadPicture:
        return None
    return size if size is not None and size[0] * size[1] <= MOST_PIXELS else None
