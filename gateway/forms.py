"""Reading a request's body: pieces of bytes in, text fields and blobs out.

A file part goes to disk as it arrives, so that two hundred uploads at once cost two hundred small buffers. A
JSON body does too; a large one is parsed away from the event loop, a few at a time.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson
from multipart import (
    MultipartError,
    MultipartSegment,
    ParserLimitReached,
    PushMultipartParser,
    parse_options_header,
)

from gateway.blobs import Blob, FileBlob, MemoryBlob, Spool
from gateway.room import Room
from services.errors import BadInput, Malformed, TooLarge, UnsupportedMedia
from services.uploads import looks_like_weights

MAX_FIELD = 1 << 20
MAX_PARTS = 64
MAX_NAME = 200
INLINE_JSON = 64 * 1024
_LARGE_JSON_AT_ONCE = 4

Pieces = AsyncIterator[bytes]


@dataclass(slots=True)
class Form:
    """`fields` from text parts or JSON, `files` from file parts by name; parts `name[]` are `name.0`, `name.1` ..."""

    fields: dict[str, Any] = field(default_factory=dict)
    files: dict[str, Blob] = field(default_factory=dict)
    text: bool = False  # every value is a string, as multipart gives them

    def discard(self) -> None:
        for blob in self.files.values():
            blob.discard()


class Reader:
    """Reads bodies within limits; `folder` is where large parts are kept meanwhile."""

    def __init__(
        self, folder: Path, *, max_body: int, max_file: int, max_weights: int = 0, room: Room | None = None
    ) -> None:
        self._folder, self._max_body, self._room = folder, max_body, room or Room()
        self._max_file, self._max_weights = max_file, max_weights
        self._large = asyncio.Semaphore(_LARGE_JSON_AT_ONCE)

    async def form(self, content_type: str, pieces: Pieces) -> Form:
        kind, options = parse_options_header(content_type)
        if kind == "application/json" or kind.endswith("+json"):
            return Form(fields=await self._json(pieces))
        if kind == "multipart/form-data":
            boundary = options.get("boundary")
            if not boundary:
                raise Malformed("The multipart content type names no boundary.")
            return await self._multipart(boundary, pieces)
        raise UnsupportedMedia(f"The content type {content_type or '(none)'!r} is not understood here.")

    async def blob(self, content_type: str, pieces: Pieces) -> Blob:
        """A body that is one picture, or a LoRA's file."""
        spool = Spool(self._folder)
        limit = Limit(self._max_file, self._max_weights)
        try:
            async for piece in pieces:
                await spool.write(piece)
                limit.count(piece)
                del piece
            return await spool.finish(content_type)
        except BaseException:
            spool.discard()
            raise

    async def _json(self, pieces: Pieces) -> dict[str, Any]:
        spool: Spool | None = None
        held: list[bytes] = []  # the beginning, as much of it as there is room for
        size = taken = 0
        try:
            async for piece in pieces:
                size += len(piece)
                if size > self._max_body:
                    raise TooLarge(f"A request may have {self._max_body} bytes at most.")
                if spool is None and self._room.take(len(piece)):
                    taken += len(piece)
                    held.append(piece)
                else:
                    spool = spool or Spool(self._folder)
                    await spool.write(piece)
                del piece
            rest = None if spool is None else await spool.finish()
            if rest is None and size <= INLINE_JSON:
                return _object(b"".join(held))
            async with self._large:
                return await asyncio.to_thread(_read, held, rest)
        finally:
            self._room.give(taken)
            if spool is not None:
                spool.discard()

    async def _multipart(self, boundary: str, pieces: Pieces) -> Form:
        limit = Limit(self._max_file, self._max_weights)
        parts = _Parts(self._folder, limit)
        total = 0
        try:
            parser = PushMultipartParser(boundary, max_segment_count=MAX_PARTS)
            async for piece in pieces:
                total += len(piece)
                if total > self._max_body + self._max_weights:
                    raise TooLarge(f"A request may have {self._max_body} bytes at most.")
                for item in parser.parse(piece):
                    if item is None:
                        await parts.end()
                    elif isinstance(item, MultipartSegment):
                        parts.begin(item)
                    else:
                        await parts.data(item)
                    del item
                if total - limit.weights > self._max_body:
                    raise TooLarge(f"A request may have {self._max_body} bytes at most, LoRAs aside.")
                del piece  # else both are kept while a slow sender's next piece is waited for
            parser.close()
            return parts.form
        except BaseException as error:
            parts.discard()
            if isinstance(error, ParserLimitReached):
                raise TooLarge(f"The form has too many parts, or too long a header: {error}.") from error
            if isinstance(error, MultipartError):
                raise Malformed(f"The multipart body cannot be read: {error}.") from error
            raise


def _read(held: list[bytes], rest: MemoryBlob | FileBlob | None) -> dict[str, Any]:
    """What came, from memory and from disk."""
    match rest:
        case FileBlob():
            held.append(rest.path.read_bytes())
            rest.discard()
        case MemoryBlob():
            held.append(rest.data)
    data = b"".join(held)
    held.clear()
    return _object(data)


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
    sign: Any = b"\\" if isinstance(text, bytes) else "\\"
    mark: Any = b"\\u0000" if isinstance(text, bytes) else "\\u0000"
    if sign in text and mark in text:  # looking for one sign is thirty times as quick, and base64 has none
        no_nulls(value, path)
    return value


def no_nulls(value: Any, path: str) -> None:
    if isinstance(value, str):
        if "\0" in value:
            raise BadInput(f"{path or 'The body'} has a null character; leave it out.", field=path or None)
    elif isinstance(value, dict):
        for name, inner in value.items():
            no_nulls(name, path)
            no_nulls(inner, f"{path}.{name}" if path else name)
    elif isinstance(value, list):
        for at, inner in enumerate(value):
            no_nulls(inner, f"{path}.{at}")


class Limit:
    """How large files may be: each picture by itself, and all LoRAs of a body together.

    What begins as a safetensors file is counted as a LoRA; whether a LoRA is wanted there is asked later.
    """

    def __init__(self, picture: int, weights: int) -> None:
        self._picture, self._most_weights = picture, weights
        self._size, self._head = 0, b""
        self.weights = 0

    def begin(self) -> None:
        """The next file."""
        self._size, self._head = 0, b""

    def count(self, data: bytes | bytearray, field: str | None = None) -> None:
        """Counts what came of this file; raises TooLarge."""
        before, self._size = self._size, self._size + len(data)
        if len(self._head) < _SNIFFED:
            self._head += bytes(data[: _SNIFFED - len(self._head)])
        if self._most_weights and looks_like_weights(self._head):
            self.weights += self._size if before < _SNIFFED else len(data)
            if self.weights > self._most_weights:
                raise TooLarge(
                    f"The LoRAs of a request may have {self._most_weights} bytes at most.", field=field
                )
        elif self._size > self._picture:
            raise TooLarge(f"A picture may have {self._picture} bytes at most.", field=field)


_SNIFFED = 9


class _Parts:
    """Takes what the parser finds, part after part, into a form."""

    def __init__(self, folder: Path, limit: Limit) -> None:
        self.form = Form(text=True)
        self._folder, self._limit = folder, limit
        self._name = self._media_type = ""
        self._filename: str | None = None
        self._text = bytearray()
        self._spool: Spool | None = None
        self._counts: Counter[str] = Counter()

    def begin(self, part: MultipartSegment) -> None:
        if not part.name:
            raise Malformed("A part of the form has no name.")
        if len(part.name) > MAX_NAME:
            raise Malformed(f"A part of the form has a name of more than {MAX_NAME} characters.")
        self._name, self._filename, self._media_type = part.name, part.filename, part.content_type or ""
        if self._name.endswith("[]"):  # one of several of that name
            self._name = f"{self._name[:-2]}.{self._counts[self._name]}"
            self._counts[part.name] += 1
        self._text, self._spool = bytearray(), None
        kind = "field"
        if self._filename is not None or self._media_type.startswith(("image/", "application/octet-stream")):
            kind, self._spool = "file", Spool(self._folder)
            self._limit.begin()
        if self._name in (self.form.fields if self._spool is None else self.form.files):
            raise Malformed(f"The form has two {kind}s named {self._name!r}.", field=self._name)

    async def data(self, data: bytes | bytearray) -> None:
        if self._spool is not None:
            await self._spool.write(data)
            self._limit.count(data, self._name)
            return
        self._text += data
        if len(self._text) > MAX_FIELD:
            raise TooLarge(f"The field {self._name!r} is longer than {MAX_FIELD} bytes.", field=self._name)

    async def end(self) -> None:
        if self._spool is None:
            self.form.fields[self._name] = self._decoded()
            return
        spool, self._spool = self._spool, None
        blob = await spool.finish(self._media_type)
        if self._filename == "":  # what a browser sends for a file field left empty
            blob.discard()
        else:
            self.form.files[self._name] = blob

    def _decoded(self) -> str:
        try:
            text = self._text.decode()
        except UnicodeDecodeError as error:
            raise Malformed(f"The field {self._name!r} is not UTF-8 text.", field=self._name) from error
        if "\0" in text:
            raise BadInput(f"{self._name} has a null character; leave it out.", field=self._name)
        return text

    def discard(self) -> None:
        self.form.discard()
        if self._spool is not None:
            self._spool.discard()
