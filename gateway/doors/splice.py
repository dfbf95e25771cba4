"""Answers with files in them, sent in pieces: bytes as they are, or as base64 in a JSON document.

A file of megabytes and its text would both be in memory, and once more as the whole answer; so the text is made where
it is sent, a piece at a time, and goes only as fast as the client reads. The file itself may still be coming.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from gateway import b64
from gateway.arriving import File

SLICE = 96 * 1024  # bytes whose text is made at once: by three
_MARK = secrets.token_hex(16)  # where a file belongs in the document's text; nobody can guess it
_QUOTED = f'"{_MARK}"'.encode()


@dataclass(frozen=True, slots=True)
class Coded:
    """A file, as a text in a document."""

    file: File

    @property
    def size(self) -> int:
        return (self.file.size + 2) // 3 * 4

    async def pieces(self) -> AsyncIterator[bytes]:
        left = b""  # of a piece that did not end with three bytes
        async for piece in self.file.views():
            view = memoryview(b"".join((left, piece)) if left else piece)
            del piece
            whole = len(view) - len(view) % 3
            for at in range(0, whole, SLICE):
                yield b64.encode(view[at : min(at + SLICE, whole)])
            left = bytes(view[whole:])
            del view
        if left:
            yield b64.encode(left)


Part = bytes | File | Coded


class Pieces(Response):
    """An answer of parts, one after the other."""

    def __init__(
        self, parts: Sequence[Part], media_type: str, headers: Mapping[str, str] | None = None
    ) -> None:
        self._parts = parts
        own = {**(headers or {}), "content-length": str(length(parts))}
        super().__init__(media_type=media_type, headers=own)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        start = {"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers}
        await send(start)
        async for piece in _sent(self._parts):
            await send({"type": "http.response.body", "body": piece, "more_body": True})
            await asyncio.sleep(0)  # where the client reads at once, nothing else gives others their turn
        await send({"type": "http.response.body", "body": b""})


class Spliced(Pieces):
    """An answer that is a document, in which each `Coded` is a text."""

    def __init__(self, document: Any, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(parts(document), "application/json", headers)


async def pieces(document: Any) -> AsyncIterator[bytes]:
    """The document's JSON."""
    async for piece in _sent(parts(document)):
        yield bytes(piece)  # of text all are bytes already


def parts(document: Any) -> list[Part]:
    """The document's text, and the files where they belong in it."""
    files: list[Coded] = []

    def marked(value: Any) -> str:
        if isinstance(value, Coded):
            files.append(value)
            return _MARK
        return str(value)

    texts = orjson.dumps(document, default=marked, option=orjson.OPT_PASSTHROUGH_DATACLASS).split(_QUOTED)
    found: list[Part] = [texts[0] + b'"' if files else texts[0]]
    for at, file in enumerate(files, 1):
        last = at == len(files)
        found += [file, b'"' + texts[at] + (b"" if last else b'"')]
    return found


def length(given: Sequence[Part]) -> int:
    return sum(len(part) if isinstance(part, bytes) else part.size for part in given)


async def _sent(given: Sequence[Part]) -> AsyncIterator[bytes | memoryview]:
    for part in given:
        if isinstance(part, bytes):
            yield part
        else:
            async for piece in part.pieces() if isinstance(part, Coded) else part.views():
                yield piece
                del piece
