"""A call becomes a multipart/form-data body: its parameters as JSON, then its pictures.

Small bodies are one piece of bytes. Larger ones are read from their blobs while they are sent, anew for each attempt,
and never stand in memory whole; their length is known before the first byte.
"""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Mapping

from gateway.blobs import Blob, MemoryBlob
from services.errors import BadInput, DarkroomError, ServiceFault

WHOLE = 256 * 1024
# Nobody outside may know it, or a picture could end its own part; one for the process is as good as one a call.
_BOUNDARY = secrets.token_hex(16)
_CONTENT_TYPE = f"multipart/form-data; boundary={_BOUNDARY}"
_ESCAPES = str.maketrans({'"': "%22", "\r": "%0D", "\n": "%0A"})


class Body:
    """The encoded form; `pieces()` may be read again by another attempt."""

    __slots__ = ("_end", "_parts", "broken", "content_type", "size", "whole")

    def __init__(self, ask: bytes, parts: Mapping[str, Blob]) -> None:
        boundary, self.content_type = _BOUNDARY, _CONTENT_TYPE
        self.broken: DarkroomError | None = None
        head = (
            f'--{boundary}\r\nContent-Disposition: form-data; name="ask"\r\nContent-Type: application/json\r\n\r\n'
        ).encode() + ask
        self._parts: list[tuple[bytes, Blob]] = []
        size, small = 0, True
        for name, blob in parts.items():
            name = name.translate(_ESCAPES)
            head += (
                f'\r\n--{boundary}\r\nContent-Disposition: form-data; name="{name}"; filename="{name}"\r\n'
                f"Content-Type: {_clean(blob.media_type)}\r\n\r\n"
            ).encode()
            self._parts.append((head, blob))
            size += len(head) + blob.size
            small = small and isinstance(blob, MemoryBlob)
            head = b""
        self._end = head + f"\r\n--{boundary}--\r\n".encode()
        self.size = size + len(self._end)
        self.whole: bytes | None = None
        if small and self.size <= WHOLE:
            pieces = [
                piece
                for head, blob in self._parts
                if isinstance(blob, MemoryBlob)
                for piece in (head, blob.data)
            ]
            self.whole = b"".join([*pieces, self._end])
            if len(self.whole) != self.size:
                raise BadInput("A picture of this request was given back before it could be sent.")

    async def pieces(self) -> AsyncIterator[bytes]:
        for head, blob in self._parts:
            yield head
            sent = 0
            try:
                async for piece in blob.pieces():
                    sent += len(piece)
                    if sent > blob.size:
                        break
                    yield piece
            except OSError as error:
                self.broken = ServiceFault(f"A picture of this request can no longer be read: {error}.")
                raise
            if sent != blob.size:
                self.broken = ServiceFault("A picture of this request changed its size while it was sent.")
                raise OSError(self.broken.detail)
        yield self._end


def _clean(media_type: str) -> str:
    return media_type if media_type.isascii() and media_type.isprintable() else "application/octet-stream"
