"""JSON with files in it, as base64: a document in, its answer out in pieces.

A file of megabytes and its text would both be in memory, and once more as the whole answer; so the text is made where
it is sent, a piece at a time, and goes only as fast as the client reads. A piece takes the event loop a tenth of a
millisecond: a thread would hold Python's lock for the whole file, and the loop with it.
"""

from __future__ import annotations

import asyncio
import base64
import secrets
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import orjson
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

STEP = 192 * 1024  # bytes of a file: by three, so that its texts put together are the whole one's
_MARK = secrets.token_hex(16)  # where a file belongs in the document's text; nobody can guess it
_QUOTED = f'"{_MARK}"'.encode()


@dataclass(frozen=True, slots=True)
class Coded:
    """A file, as a value in a document."""

    data: bytes

    @property
    def length(self) -> int:
        return (len(self.data) + 2) // 3 * 4

    def pieces(self) -> Iterator[bytes]:
        view = memoryview(self.data)
        for at in range(0, len(view), STEP):
            yield base64.b64encode(view[at : at + STEP])


def pieces(document: Any) -> Iterator[bytes]:
    """The document's JSON, in which each `Coded` is a text."""
    for part in _parts(document):
        if isinstance(part, Coded):
            yield from part.pieces()
        else:
            yield part


class Spliced(Response):
    """An answer that is such a document."""

    media_type = "application/json"

    def __init__(self, document: Any, headers: Mapping[str, str] | None = None) -> None:
        self._parts = _parts(document)
        length = sum(part.length if isinstance(part, Coded) else len(part) for part in self._parts)
        super().__init__(headers={**(headers or {}), "content-length": str(length)})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        start = {"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers}
        await send(start)
        for part in self._parts:
            for piece in part.pieces() if isinstance(part, Coded) else (part,):
                await send({"type": "http.response.body", "body": piece, "more_body": True})
                await asyncio.sleep(0)  # where the client reads at once, nothing else gives others their turn
        await send({"type": "http.response.body", "body": b""})


def _parts(document: Any) -> list[bytes | Coded]:
    """The text, and the files where they belong in it."""
    files: list[Coded] = []

    def marked(value: Any) -> str:
        if isinstance(value, Coded):
            files.append(value)
            return _MARK
        return str(value)

    texts = orjson.dumps(document, default=marked, option=orjson.OPT_PASSTHROUGH_DATACLASS).split(_QUOTED)
    found: list[bytes | Coded] = [texts[0] + b'"' if files else texts[0]]
    for at, file in enumerate(files, 1):
        last = at == len(files)
        found += [file, b'"' + texts[at] + (b"" if last else b'"')]
    return found
