"""What pictures say of how they were made, as AUTOMATIC1111's page reads it: in a file, out its text and fields."""

from __future__ import annotations

import io
from dataclasses import dataclass, field

from PIL import ExifTags, Image

from gateway.arriving import Arriving
from gateway.intake import FORMATS, HEAD
from services.errors import BadPicture
from services.origin.infotext import read_parameters

LONGEST_LINE = (
    4000  # of fields: what is longer was written by nobody's page, and would take long to take apart
)
_CODED = {b"UNICODE\0": "utf-16-be", b"ASCII\0\0\0": "ascii", b"\0\0\0\0\0\0\0\0": "utf-8"}


@dataclass(frozen=True, slots=True)
class Words:
    text: str = ""
    items: dict[str, str] = field(default_factory=dict)


async def in_its_head(file: Arriving) -> bool:
    """Whether the first bytes of a file that is still coming are enough for `read`, which then takes no time."""
    try:
        read(await file.head(HEAD))
    except BadPicture:
        return False
    return True


def read(data: bytes, name: str = "image") -> Words:
    """Reads a file's head, not its pixels: call it in a thread."""
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            items = {str(key): _plain(value) for key, value in image.info.items() if isinstance(value, str)}
            text = items.pop("parameters", "") or _comment(image)
    except Exception as error:  # a damaged file raises errors of every kind
        raise BadPicture(f"{name} is not a picture that can be read.", field=name) from error
    return Words(text, items)


def fields(text: str) -> dict[str, str | int]:
    """The text taken apart, under that page's own names."""
    if not text or len(text.strip().rpartition("\n")[2]) > LONGEST_LINE:
        return {}
    found = read_parameters(text)
    told: dict[str, str | int] = {
        "Prompt": found.prompt,
        "Negative prompt": found.negative_prompt,
        **found.fields,
    }
    width, _, height = found.fields.get("Size", "").partition("x")
    if width.isdecimal() and height.isdecimal():
        del told["Size"]
        told |= {"Size-1": width, "Size-2": height}
    return told


def _comment(image: Image.Image) -> str:
    """EXIF's UserComment, where a file other than PNG has it; of a PNG, looking for one would decode all of it."""
    if image.format == "PNG" and "exif" not in image.info:
        return ""
    comment = image.getexif().get_ifd(ExifTags.IFD.Exif).get(ExifTags.Base.UserComment, b"")
    if not isinstance(comment, bytes):
        return _plain(str(comment))
    return _plain(comment[8:].decode(_CODED.get(comment[:8], "utf-8"), errors="replace"))


def _plain(words: str) -> str:
    """Without halves of characters, which JSON cannot hold."""
    return words.encode(errors="replace").decode()
