"""A picture's base64 in an answer that the protocol's own code has written already: a mark in, the bytes out.

That code would hold a large picture as text in several copies, on the event loop. So it gets a mark in its place, and
where the answer goes out, the picture's bytes are put there as the store gives them.
"""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator

from starlette.types import Message as Asgi
from starlette.types import Send

from gateway import b64


class Late:
    """`size` bytes that come in `pieces`; `mark` stands for their base64."""

    def __init__(self, size: int, pieces: AsyncIterator[bytes]) -> None:
        self.mark = secrets.token_hex(16)
        self._size, self._pieces = size, pieces

    async def send(self, message: Asgi, send: Send) -> None:
        """An ASGI message with the mark in it, or about it, as it shall go out."""
        if message["type"] == "http.response.start":
            more = (self._size + 2) // 3 * 4 - len(self.mark)
            message["headers"] = [
                (name, b"%d" % (int(value) + more) if name == b"content-length" else value)
                for name, value in message["headers"]
            ]
            await send(message)
            return
        before, mark, after = message.get("body", b"").partition(self.mark.encode())
        if not mark:
            await send(message)
            return
        await send({"type": "http.response.body", "body": before, "more_body": True})
        async for text in self._base64():
            await send({"type": "http.response.body", "body": text, "more_body": True})
        await send({**message, "body": after})

    async def _base64(self) -> AsyncIterator[bytes]:
        left = b""
        async for piece in self._pieces:
            piece = left + piece
            whole = len(piece) - len(piece) % 3
            left = piece[whole:]
            yield b64.encode(piece[:whole])
        yield b64.encode(left)
