"""Reads a call from the gateway: in comes a multipart body by pieces, out go `ask` and the pictures' bytes.

Parts are kept in memory, within the limits of one picture and of the whole request; the gateway has already
spooled what is large, and a picture has to be whole in memory anyway to be decoded.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import orjson
from pydantic import ValidationError
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from services.errors import BadInput, Malformed, TooLarge, UnsupportedMedia
from services.operations import Operation
from services.settings import Limits

ASK = "ask"
MAX_ASK = 4 * 2**20
MAX_PARTS = 64


async def read_call(
    operation: type[Operation], content_type: str, body: AsyncIterator[bytes], limits: Limits
) -> tuple[Operation, dict[str, bytes]]:
    """The validated parameters, and the bytes of every picture that they name, by part."""
    parts = await _read_parts(content_type, body, limits)
    raw = parts.pop(ASK, None)
    if raw is None:
        raise Malformed("The form has no part named `ask`.")
    ask = validate(operation, _json(bytes(raw)))
    pictures = {name: bytes(data) for name, data in parts.items()}
    for path, picture in ask.pictures().items():
        if not picture.ref.startswith("part:") or picture.ref.removeprefix("part:") not in pictures:
            raise BadInput(f"{path} names {picture.ref[:80]!r}, which is no part of this form.", field=path)
    return ask, pictures


def validate(operation: type[Operation], fields: Any) -> Operation:
    """The operation's parameters; BadInput names the field at fault."""
    try:
        return operation.model_validate(fields)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        path = ".".join(str(step) for step in first["loc"])
        raise BadInput(f"{path or 'the parameters'}: {first['msg']}", field=path or None) from error


def _json(raw: bytes) -> Any:
    try:
        return orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise Malformed(f"The part `ask` is not JSON: {error}") from error


async def _read_parts(content_type: str, body: AsyncIterator[bytes], limits: Limits) -> dict[str, bytearray]:
    kind, options = parse_options_header(content_type)
    if kind != b"multipart/form-data":
        raise UnsupportedMedia(f"{content_type[:80]!r} is not multipart/form-data.")
    if not options.get(b"boundary"):
        raise Malformed("The Content-Type header names no boundary.")
    form = _Form(limits)
    try:
        parser = MultipartParser(options[b"boundary"], form.callbacks())
        size = 0
        async for piece in body:
            size += len(piece)
            if size > limits.max_body:
                raise TooLarge(f"The request has more than {limits.max_body:,} bytes.")
            parser.write(piece)
        parser.finalize()
    except FormParserError as error:
        raise Malformed(f"The multipart body cannot be read: {error}") from error
    if not form.ended:
        raise Malformed("The multipart body is cut short.")
    return form.parts


class _Form:
    """Collects the parts as the parser finds them."""

    def __init__(self, limits: Limits) -> None:
        self.parts: dict[str, bytearray] = {}
        self.ended = False
        self._limits = limits
        self._header, self._value, self._disposition = b"", b"", b""
        self._name = ""
        self._held = bytearray()

    def callbacks(self) -> Any:
        return {
            "on_part_begin": self._begin,
            "on_header_field": self._on_header,
            "on_header_value": self._on_value,
            "on_header_end": self._header_end,
            "on_headers_finished": self._headers_finished,
            "on_part_data": self._data,
            "on_part_end": self._part_end,
            "on_end": self._end,
        }

    def _begin(self) -> None:
        self._disposition, self._held = b"", bytearray()

    def _on_header(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end]

    def _on_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _header_end(self) -> None:
        if self._header.lower() == b"content-disposition":
            self._disposition = self._value
        self._header, self._value = b"", b""

    def _headers_finished(self) -> None:
        _, options = parse_options_header(self._disposition)
        self._name = options.get(b"name", b"").decode("utf-8", "replace")
        if not self._name:
            raise Malformed("A part of the form has no name.")
        if self._name in self.parts:
            raise Malformed(f"The form has two parts named {self._name[:80]!r}.")
        if len(self.parts) >= MAX_PARTS:
            raise TooLarge(f"The form has more than {MAX_PARTS} parts.")

    def _data(self, data: bytes, start: int, end: int) -> None:
        limit = MAX_ASK if self._name == ASK else self._limits.max_picture_bytes
        if len(self._held) + end - start > limit:
            raise TooLarge(f"{self._name[:80]} has more than {limit:,} bytes.", field=self._name[:80])
        self._held += data[start:end]

    def _part_end(self) -> None:
        self.parts[self._name] = self._held
        self._held = bytearray()

    def _end(self) -> None:
        self.ended = True
