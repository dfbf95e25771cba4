"""Reads a call from the gateway: in comes a multipart body by pieces, out go `ask` and the pictures' bytes.

Pictures are kept in memory, within the limits of one picture and of the whole request; the gateway has already
spooled what is large, and a picture has to be whole in memory anyway to be decoded. A LoRA's file goes to disk as it
comes.
"""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator
from typing import IO, Any

import orjson
from multipart import (
    MultipartError,
    MultipartSegment,
    ParserLimitReached,
    PushMultipartParser,
    parse_options_header,
)
from pydantic import ValidationError

from services.errors import BadInput, Malformed, TooLarge, UnsupportedMedia
from services.operations import Operation
from services.pictures import Weights
from services.settings import Limits
from services.uploads import looks_like_weights

ASK = "ask"
MAX_ASK = 4 * 2**20
MAX_PARTS = 64
_SNIFFED = 9

Part = bytes | IO[bytes]  # a LoRA's file is one that is deleted when it is closed


async def read_call(
    operation: type[Operation], content_type: str, body: AsyncIterator[bytes], limits: Limits
) -> tuple[Operation, dict[str, Part]]:
    """The validated parameters, and the bytes of every picture that they name, by part."""
    parts = await _read_parts(content_type, body, limits)
    raw = parts.pop(ASK, None)
    if not isinstance(raw, bytearray):
        raise Malformed("The form has no part named `ask`.")
    ask = validate(operation, _json(bytes(raw)))
    pictures: dict[str, Part] = {
        name: bytes(data) if isinstance(data, bytearray) else data for name, data in parts.items()
    }
    for path, picture in ask.pictures().items():
        if not picture.ref.startswith("part:") or picture.ref.removeprefix("part:") not in pictures:
            raise BadInput(f"{path} names {picture.ref[:80]!r}, which is no part of this form.", field=path)
        spooled = not isinstance(pictures[picture.ref.removeprefix("part:")], bytes)
        if spooled and not isinstance(picture, Weights):
            raise TooLarge(f"{path} has more than {limits.max_picture_bytes:,} bytes.", field=path)
    return ask, pictures


def validate(operation: type[Operation], fields: Any) -> Operation:
    """The operation's parameters; BadInput names the field at fault."""
    try:
        return operation.model_validate(fields)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        about = first.get("ctx", {}).get("field")  # where a model's own validator says it (operations.misfit)
        path = ".".join(str(step) for step in (*first["loc"], *([about] if about else [])))
        raise BadInput(f"{path or 'the parameters'}: {first['msg']}", field=path or None) from error


def _json(raw: bytes) -> Any:
    try:
        return orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise Malformed(f"The part `ask` is not JSON: {error}") from error


async def _read_parts(
    content_type: str, body: AsyncIterator[bytes], limits: Limits
) -> dict[str, bytearray | IO[bytes]]:
    kind, options = parse_options_header(content_type)
    if kind != "multipart/form-data":
        raise UnsupportedMedia(f"{content_type[:80]!r} is not multipart/form-data.")
    if not options.get("boundary"):
        raise Malformed("The Content-Type header names no boundary.")
    parts: dict[str, bytearray | IO[bytes]] = {}
    name, size, weights = "", 0, 0
    try:
        parser = PushMultipartParser(options["boundary"], max_segment_count=MAX_PARTS)
        async for piece in body:
            size += len(piece)
            if size > limits.max_body + limits.max_lora_bytes:
                raise TooLarge(f"The request has more than {limits.max_body:,} bytes.")
            for item in parser.parse(piece):
                if isinstance(item, MultipartSegment):
                    name = _new_name(item, parts)
                    parts[name] = bytearray()
                elif item is not None:
                    held = parts[name]
                    before = len(held) if isinstance(held, bytearray) else 0
                    parts[name] = _add(held, item, name, limits)
                    if not isinstance(parts[name], bytearray):
                        weights += before + len(item)
            if size - weights > limits.max_body:
                raise TooLarge(f"The request has more than {limits.max_body:,} bytes, LoRAs aside.")
            if weights > limits.max_lora_bytes:
                raise TooLarge(f"The request's LoRAs have more than {limits.max_lora_bytes:,} bytes.")
        parser.close()
    except ParserLimitReached as error:
        raise TooLarge(f"The form has more than {MAX_PARTS} parts, or too long a header: {error}.") from error
    except MultipartError as error:
        raise Malformed(f"The multipart body cannot be read: {error}.") from error
    return parts


def _new_name(part: MultipartSegment, parts: dict[str, Any]) -> str:
    if not part.name:
        raise Malformed("A part of the form has no name.")
    if part.name in parts:
        raise Malformed(f"The form has two parts named {part.name[:80]!r}.")
    return str(part.name)


def _add(
    held: bytearray | IO[bytes], data: bytes | bytearray, name: str, limits: Limits
) -> bytearray | IO[bytes]:
    """The part with `data`; one that is too large for a picture and begins as safetensors moves to disk."""
    if not isinstance(held, bytearray):
        held.write(data)
        return held
    limit = MAX_ASK if name == ASK else limits.max_picture_bytes
    if len(held) + len(data) <= limit:
        held += data
        return held
    if name == ASK or not looks_like_weights(bytes((held + data[:_SNIFFED])[:_SNIFFED])):
        raise TooLarge(f"{name[:80]} has more than {limit:,} bytes.", field=name[:80])
    file = tempfile.TemporaryFile(prefix="darkroom-lora-")  # noqa: SIM115 - it is closed with the call
    file.write(held)
    file.write(data)
    return file
