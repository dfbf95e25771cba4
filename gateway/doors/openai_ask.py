"""What OpenAI's clients ask for, as Darkroom's parameters: sizes, qualities, formats, masks, and what usage is told."""

from __future__ import annotations

import asyncio
import io
import math
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from PIL import Image

from gateway.blobs import Blob, MemoryBlob
from gateway.desk import Made
from gateway.doors.sizes import MOST_PIXELS
from services import png
from services.errors import BadInput, BadPicture

# OpenAI's own names, which mean: the best that is here
_THEIRS = re.compile(r"(dall-e|gpt-image|chatgpt-image)[\w.-]*\Z")
_LINKS = re.compile(r"dall-e")  # whose answers are links unless base64 is asked for
_SIZE = re.compile(r"(\d{2,5})x(\d{2,5})\Z")
QUALITIES = {
    "low": 0.5,
    "medium": 1.0,
    "standard": 1.0,
    "auto": 1.0,
    "high": 1.6,
    "hd": 1.6,
    "xhigh": 2.0,
    "max": 2.5,
}
STRENGTHS = {"low": 0.75, "high": 0.45}  # by input_fidelity: how far an edit without a mask may go
VARIATION = 0.6
MOST_STEPS = 150
FORMATS = ("png", "jpeg", "webp")


@dataclass(frozen=True, slots=True)
class Asked:
    prompt: str
    model: str
    count: int
    size: tuple[int, int] | None
    quality: str
    format: str
    compression: int
    transparent: bool
    links: bool
    stream: bool
    partial_images: int
    fidelity: str


def read(fields: Mapping[str, Any]) -> Asked:
    """The parameters, from JSON or from a form's texts; BadInput names the one at fault."""
    prompt = fields.get("prompt")
    if not isinstance(prompt, str):
        raise BadInput("prompt is needed.", field="prompt")
    named = str(fields.get("model") or "auto")
    file = _one_of(fields, "output_format", FORMATS, "png")
    background = _one_of(fields, "background", ("transparent", "opaque", "auto"), "auto")
    if background == "transparent" and file == "jpeg":
        raise BadInput("A JPEG has no transparency; ask for png or webp.", field="background")
    response = _one_of(
        fields, "response_format", ("url", "b64_json"), "url" if _LINKS.match(named) else "b64_json"
    )
    return Asked(
        prompt=prompt,
        model="auto" if _THEIRS.match(named) else named,
        count=_number(fields, "n", 1, 1, 10),
        size=_size(fields.get("size")),
        quality=_one_of(fields, "quality", tuple(QUALITIES), "auto"),
        format=file,
        compression=max(1, _number(fields, "output_compression", 90 if file == "jpeg" else 100, 0, 100)),
        transparent=background == "transparent",
        links=response == "url",
        stream=str(fields.get("stream", "")).lower() in ("true", "1"),
        partial_images=_number(fields, "partial_images", 0, 0, 3),
        fidelity=_one_of(fields, "input_fidelity", tuple(STRENGTHS), "low"),
    )


def _one_of(fields: Mapping[str, Any], name: str, known: Sequence[str], usual: str) -> str:
    given = fields.get(name)
    if given is None or given == "":
        return usual
    if given not in known:
        raise BadInput(f"{name} is one of {', '.join(known)}.", field=name)
    return str(given)


def _number(fields: Mapping[str, Any], name: str, usual: int, least: int, most: int) -> int:
    given = fields.get(name)
    if given is None or given == "":
        return usual
    text = str(given)
    if isinstance(given, bool) or not (text.isascii() and text.isdigit() and least <= int(text[:9]) <= most):
        raise BadInput(f"{name} is a whole number from {least} to {most}.", field=name)
    return int(text)


def _size(given: Any) -> tuple[int, int] | None:
    if given is None or given in ("", "auto"):
        return None
    match = _SIZE.match(given) if isinstance(given, str) else None
    if match is None:
        raise BadInput("size is WIDTHxHEIGHT in pixels, or auto.", field="size")
    width, height = int(match[1]), int(match[2])
    if width * height > MOST_PIXELS:
        raise BadInput(f"size may have {MOST_PIXELS:,} pixels.", field="size")
    return width, height


def steps(quality: str, own: Mapping[str, Any]) -> int | None:
    """More steps for a better quality; a model that was distilled to a few keeps them."""
    usual = int(own.get("steps", 30))
    if QUALITIES[quality] == 1.0 or usual < 10:
        return None
    return min(MOST_STEPS, round(usual * QUALITIES[quality]))


# ── pictures that come with an edit ──────────────────────────────────────────────────────────────────────────


async def pictures(files: Mapping[str, Blob]) -> dict[str, Blob]:
    """`image`, and what there is of `mask` and a second picture, as `reference`.

    OpenAI's masks are see-through where the picture is to be painted anew; ours are white there.
    """
    given = [files[name] for name in ("image", "image.0", "image.1", "image.2") if name in files]
    if not given:
        raise BadInput("A picture is needed: a file part named image.", field="image")
    if len(given) > 2:
        raise BadInput(
            "Two pictures at most: the one to change, and one whose look is taken over.", field="image"
        )
    found = {"image": given[0]}
    if len(given) == 2:
        found["reference"] = given[1]
    covering = files.get("mask")
    if covering is not None:
        found["mask"] = await _holes(covering, "mask", needed=True)
        covering.discard()
    elif (hole := await _holes(given[0], "image", needed=False)).size:
        found["mask"] = hole
    return found


async def _holes(blob: Blob, name: str, *, needed: bool) -> Blob:
    """White where the picture is see-through; an empty blob where it is nowhere."""
    data = b"".join([piece async for piece in blob.pieces()])
    return MemoryBlob(await asyncio.to_thread(_white_where_clear, data, name, needed), "image/png")


def _white_where_clear(data: bytes, name: str, needed: bool) -> bytes:
    try:
        with Image.open(io.BytesIO(data), formats=("PNG", "WEBP", "JPEG")) as image:
            if image.width * image.height > MOST_PIXELS:
                raise BadPicture(f"{name} has more than {MOST_PIXELS:,} pixels.", field=name)
            if not image.has_transparency_data:
                if needed:
                    raise BadInput(
                        "The mask has no transparency; it is see-through where to paint.", field=name
                    )
                return b""
            alpha = image.convert("RGBA").getchannel("A")
    except (OSError, ValueError, SyntaxError) as error:
        raise BadPicture(f"{name} is no whole PNG, WebP or JPEG.", field=name) from error
    if not needed and not alpha.histogram()[0]:
        return b""
    return png.write(alpha.point(lambda level: 255 - level))


# ── what is told ─────────────────────────────────────────────────────────────────────────────────────────────


def about(asked: Asked, picture: Made | None) -> dict[str, Any]:
    size = "auto" if picture is None else f"{picture.width}x{picture.height}"
    told = {
        "size": size,
        "quality": asked.quality,
        "background": "transparent" if asked.transparent else "opaque",
        "output_format": asked.format,
    }
    return told if picture is not None and not asked.stream else told | {"created_at": int(time.time())}


def usage(asked: Asked, pictures: Sequence[Made]) -> dict[str, Any]:
    """Tokens as a measure of size, since nothing is billed: four letters are one, and so are 32 x 32 pixels."""
    text = math.ceil(len(asked.prompt) / 4)
    drawn = sum(math.ceil(one.width / 32) * math.ceil(one.height / 32) for one in pictures)
    return {
        "input_tokens": text,
        "input_tokens_details": {"text_tokens": text, "image_tokens": 0},
        "output_tokens": drawn,
        "output_tokens_details": {"text_tokens": 0, "image_tokens": drawn},
        "total_tokens": text + drawn,
    }
