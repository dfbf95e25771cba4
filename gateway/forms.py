"""Reading a request's body: pieces of bytes in, text fields and blobs out.

A file part goes to disk as it arrives, so that two hundred uploads at once cost two hundred small buffers. A
JSON body does too; a large one is parsed away from the event loop, a few at a time.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, cast

import orjson
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser
from python_multipart.multipart import parse_options_header as parse_options

from gateway.blobs import Blob, MemoryBlob, Spool
from services.errors import BadInput, Malformed, TooLarge, UnsupportedMedia

MAX_FIELD = 1 << 20
MAX_PARTS = 64
MAX_NAME = 200
INLINE_JSON = 64 * 1024
_LARGE_JSON_AT_ONCE = 4

Pieces = AsyncIterator[bytes]


@lru_cache(1024)
def parse_options_header(value: str | bytes) -> tuple[bytes, dict[bytes, bytes]]:
    """Names of fields and boundaries come again and again, and taking a header apart costs as much as a small part."""
    return parse_options(value)


@dataclass(slots=True)
class Form:
    """`fields` from text parts or JSON, `files` from file parts by name."""

    fields: dict[str, Any] = field(default_factory=dict)
    files: dict[str, Blob] = field(default_factory=dict)
    text: bool = False  # every value is a string, as multipart gives them

    def discard(self) -> None:
        for blob in self.files.values():
            blob.discard()


class Reader:
    """Reads bodies within limits; `folder` is where large parts are kept meanwhile."""

    def __init__(self, folder: Path, *, max_body: int, max_file: int) -> None:
        self._folder, self._max_body, self._max_file = folder, max_body, max_file
        self._large = asyncio.Semaphore(_LARGE_JSON_AT_ONCE)

    async def form(self, content_type: str, pieces: Pieces) -> Form:
        kind, options = parse_options_header(content_type)
        if kind == b"application/json" or kind.endswith(b"+json"):
            return Form(fields=await self._json(pieces))
        if kind == b"multipart/form-data":
            boundary = options.get(b"boundary")
            if not boundary:
                raise Malformed("The multipart content type names no boundary.")
            return await self._multipart(boundary, pieces)
        raise UnsupportedMedia(f"The content type {content_type or '(none)'!r} is not understood here.")

    async def blob(self, content_type: str, pieces: Pieces) -> Blob:
        """A body that is one picture."""
        spool = Spool(self._folder)
        try:
            async for piece in pieces:
                await spool.write(piece)
                if spool.size > self._max_file:
                    raise TooLarge(f"A picture may have {self._max_file} bytes at most.")
            return await spool.finish(content_type)
        except BaseException:
            spool.discard()
            raise

    async def _json(self, pieces: Pieces) -> dict[str, Any]:
        spool = Spool(self._folder, INLINE_JSON)
        try:
            async for piece in pieces:
                await spool.write(piece)
                if spool.size > self._max_body:
                    raise TooLarge(f"A request may have {self._max_body} bytes at most.")
            blob = await spool.finish()
        except BaseException:
            spool.discard()
            raise
        if isinstance(blob, MemoryBlob):
            return _object(blob.data)
        async with self._large:
            try:
                return await asyncio.to_thread(lambda: _object(blob.path.read_bytes()))
            finally:
                blob.discard()

    async def _multipart(self, boundary: bytes, pieces: Pieces) -> Form:
        parts = _Parts(self._folder, self._max_file)
        try:
            parser = MultipartParser(boundary, cast(Any, parts.callbacks()))
        except FormParserError as error:
            raise Malformed(f"The multipart boundary is not valid: {error}") from error
        total = 0
        try:
            async for piece in pieces:
                total += len(piece)
                if total > self._max_body:
                    raise TooLarge(f"A request may have {self._max_body} bytes at most.")
                try:
                    parser.write(piece)
                except FormParserError as error:
                    raise Malformed(f"The multipart body cannot be read: {error}") from error
                await parts.settle()
            try:
                parser.finalize()
            except FormParserError as error:
                raise Malformed("The multipart body ends before its last boundary.") from error
            if not parts.ended:
                raise Malformed("The multipart body ends before its last boundary.")
            return parts.form
        except BaseException:
            parts.discard()
            raise


def _object(data: bytes) -> dict[str, Any]:
    try:
        value = parse_json(data)
    except orjson.JSONDecodeError as error:
        raise Malformed(f"The body is not valid JSON: {error}.") from error
    if not isinstance(value, dict):
        raise Malformed("The body must be a JSON object.")
    return value


def parse_json(text: bytes | str, path: str = "") -> Any:
    """`orjson.loads`, and no null characters in what it gives: PostgreSQL keeps none, and no parameter needs one."""
    value = orjson.loads(text)
    mark: Any = b"\\u0000" if isinstance(text, bytes) else "\\u0000"
    if mark in text:
        _no_nulls(value, path)
    return value


def _no_nulls(value: Any, path: str) -> None:
    if isinstance(value, str):
        if "\0" in value:
            raise BadInput(f"{path or 'The body'} has a null character; leave it out.", field=path or None)
    elif isinstance(value, dict):
        for name, inner in value.items():
            _no_nulls(name, path)
            _no_nulls(inner, f"{path}.{name}" if path else name)
    elif isinstance(value, list):
        for at, inner in enumerate(value):
            _no_nulls(inner, f"{path}.{at}")


class _Parts:
    """Takes the parser's callbacks (which cannot await) and settles what they brought between two pieces."""

    def __init__(self, folder: Path, max_file: int) -> None:
        self.form = Form(text=True)
        self.ended = False
        self._folder, self._max_file = folder, max_file
        self._header = self._value = b""
        self._headers: dict[bytes, bytes] = {}
        self._name = ""
        self._filename: bytes | None = None
        self._text = bytearray()
        self._spool: Spool | None = None
        # in the order of arrival: (spool, bytes of it) or (spool, None) at its end
        self._arrived: list[tuple[str, str, Spool, bytes | None]] = []
        self._media_type = ""
        self._count = 0
        self._seen: set[str] = set()  # names of files

    def callbacks(self) -> dict[str, Any]:
        names = ("part_begin", "part_data", "part_end", "header_field", "header_value", "header_end")
        calls = {f"on_{name}": getattr(self, f"_{name}") for name in names}
        return calls | {"on_headers_finished": self._headers_finished, "on_end": self._end}

    def _part_begin(self) -> None:
        self._headers, self._text, self._spool = {}, bytearray(), None
        self._count += 1
        if self._count > MAX_PARTS:
            raise TooLarge(f"A form may have {MAX_PARTS} parts at most.")

    def _header_field(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end]

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _header_end(self) -> None:
        self._headers[self._header.lower()] = self._value
        self._header = self._value = b""

    def _headers_finished(self) -> None:
        _, options = parse_options_header(self._headers.get(b"content-disposition", b""))
        if b"name" not in options:
            raise Malformed("A part of the form has no name.")
        self._name = options[b"name"].decode("utf-8", "replace")
        if len(self._name) > MAX_NAME:
            raise Malformed(f"A part of the form has a name of more than {MAX_NAME} characters.")
        self._media_type = self._headers.get(b"content-type", b"").decode("latin-1")
        filename = options.get(b"filename")
        self._filename = filename
        if filename is not None or self._media_type.startswith(("image/", "application/octet-stream")):
            if self._name in self._seen:
                raise Malformed(f"The form has two files named {self._name!r}.")
            self._seen.add(self._name)
            self._spool = Spool(self._folder)

    def _part_data(self, data: bytes, start: int, end: int) -> None:
        if self._spool is not None:
            self._arrived.append((self._name, "", self._spool, data[start:end]))
            return
        self._text += data[start:end]
        if len(self._text) > MAX_FIELD:
            raise TooLarge(f"The field {self._name!r} is longer than {MAX_FIELD} bytes.", field=self._name)

    def _part_end(self) -> None:
        if self._spool is not None:
            unchosen = self._filename == b""  # what a browser sends for a file field left empty
            self._arrived.append(("" if unchosen else self._name, self._media_type, self._spool, None))
            return
        try:
            text = self._text.decode()
        except UnicodeDecodeError as error:
            raise Malformed(f"The field {self._name!r} is not UTF-8 text.", field=self._name) from error
        if "\0" in text:
            raise BadInput(f"{self._name} has a null character; leave it out.", field=self._name)
        if self._name in self.form.fields:
            raise Malformed(f"The form has two fields named {self._name!r}.", field=self._name)
        self.form.fields[self._name] = text

    def _end(self) -> None:
        self.ended = True

    async def settle(self) -> None:
        arrived, self._arrived = self._arrived, []
        for name, media_type, spool, data in arrived:
            if data is not None:
                await spool.write(data)
                if spool.size > self._max_file:
                    raise TooLarge(f"A picture may have {self._max_file} bytes at most.", field=name)
                continue
            blob = await spool.finish(media_type)
            if name:
                self.form.files[name] = blob
            else:
                blob.discard()

    def discard(self) -> None:
        self.form.discard()
        for spool in {item[2] for item in self._arrived} | ({self._spool} if self._spool else set()):
            spool.discard()
