"""A picture's bytes while the gateway has them: in memory when small, else in a temporary file or the store.

In come pieces of an upload; out go pieces again, in any number of readings. Reading a file goes through a
thread, so that a slow disk does not stop the event loop.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Protocol, runtime_checkable

PIECE = 64 * 1024  # of a file, at once: two hundred readers hold two hundred of these


@runtime_checkable
class Blob(Protocol):
    """Bytes of known size that can be read more than once."""

    size: int
    media_type: str

    def pieces(self) -> AsyncIterator[bytes]: ...

    async def head(self, size: int) -> bytes: ...

    def discard(self) -> None:
        """Free what it holds; safe to call twice."""


class MemoryBlob:
    __slots__ = ("data", "media_type", "size")

    def __init__(self, data: bytes, media_type: str = "application/octet-stream") -> None:
        self.data, self.size, self.media_type = data, len(data), media_type

    async def pieces(self) -> AsyncIterator[bytes]:
        yield self.data

    async def head(self, size: int) -> bytes:
        return self.data[:size]

    def discard(self) -> None:
        self.data = b""


class FileBlob:
    """A file; a temporary one goes when it is discarded."""

    __slots__ = ("media_type", "path", "size", "temporary")

    def __init__(
        self, path: Path, size: int, media_type: str = "application/octet-stream", *, temporary: bool
    ) -> None:
        self.path, self.size, self.media_type, self.temporary = path, size, media_type, temporary

    async def pieces(self) -> AsyncIterator[bytes]:
        file = await asyncio.to_thread(self.path.open, "rb")
        try:
            while piece := await asyncio.to_thread(file.read, PIECE):
                yield piece
        finally:
            file.close()

    async def head(self, size: int) -> bytes:
        def read() -> bytes:
            with self.path.open("rb") as file:
                return file.read(size)

        return await asyncio.to_thread(read)

    def discard(self) -> None:
        if self.temporary:
            self.path.unlink(missing_ok=True)


class StoredBlob:
    """Bytes that the picture store holds; `open_` starts one reading of them."""

    __slots__ = ("media_type", "open_", "size")

    def __init__(
        self, size: int, media_type: str, open_: Callable[[], Awaitable[AsyncIterator[bytes]]]
    ) -> None:
        self.size, self.media_type, self.open_ = size, media_type, open_

    async def pieces(self) -> AsyncIterator[bytes]:
        async for piece in await self.open_():
            yield piece

    async def head(self, size: int) -> bytes:
        data = b""
        async for piece in await self.open_():
            data += piece
            if len(data) >= size:
                break
        return data[:size]

    def discard(self) -> None:
        """The store keeps it."""


class Spool:
    """Collects an upload: in memory up to `threshold` bytes, past it in a file in `folder`."""

    def __init__(self, folder: Path, threshold: int = 32 * 1024) -> None:
        self._folder, self._threshold = folder, threshold
        self._held = bytearray()
        self._descriptor: int | None = None
        self._path: Path | None = None
        self.size = 0

    async def write(self, data: bytes | bytearray | memoryview) -> None:
        self.size += len(data)
        if len(self._held) + len(data) <= self._threshold:
            self._held += data
            return
        held, self._held = self._held, bytearray()
        await asyncio.to_thread(self._write, held, data)

    def _write(self, *pieces: bytes | bytearray | memoryview) -> None:
        """A large piece is not copied into the one before it."""
        if self._descriptor is None:
            self._descriptor, name = tempfile.mkstemp(dir=self._folder, prefix="upload-")
            self._path = Path(name)
        for piece in pieces:
            left = memoryview(piece)
            while left:
                left = left[os.write(self._descriptor, left) :]

    async def finish(self, media_type: str = "application/octet-stream") -> MemoryBlob | FileBlob:
        if self._descriptor is None or self._path is None:
            return MemoryBlob(bytes(self._held), media_type)
        held, self._held = self._held, bytearray()
        await asyncio.to_thread(self._write, held)
        os.close(self._descriptor)
        self._descriptor = None
        return FileBlob(self._path, self.size, media_type, temporary=True)

    def discard(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
        if self._path is not None:
            self._path.unlink(missing_ok=True)
        self._held = bytearray()
