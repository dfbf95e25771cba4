"""A picture that a service made, while its client is answered: in memory while there is room for it, past that in a
file without a name. Nobody lets go of it: both end with the object.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import IO

from gateway.room import Room

STEP = 192 * 1024  # bytes that are read at once: by three, for base64


class Kept:
    """A blob that is first written and then read."""

    def __init__(self, room: Room, folder: Path) -> None:
        self._room, self._folder = room, folder
        self._pieces: list[bytes | memoryview] = []
        self._held = b""
        self._taken = self.size = 0
        self._file: IO[bytes] | None = None
        self.media_type = "application/octet-stream"

    @classmethod
    def of(cls, data: bytes) -> Kept:
        """Of what is in memory anyway."""
        made = cls(Room(0), Path())
        made._held, made.size = data, len(data)
        return made

    async def write(self, piece: bytes | memoryview) -> None:
        self.size += len(piece)
        if self._file is None and self._room.take(len(piece)):
            self._taken += len(piece)
            self._pieces.append(piece)
        else:
            await asyncio.to_thread(self._spill, piece)

    def _spill(self, piece: bytes | memoryview) -> None:
        if self._file is None:
            self._file = tempfile.TemporaryFile(dir=self._folder, buffering=0)  # noqa: SIM115 - until the end
        left = memoryview(piece)
        while left:
            left = left[self._file.write(left) :]

    def written(self) -> Kept:
        """All is here."""
        self._held, self._pieces = b"".join(self._pieces), []
        return self

    async def read(self, at: int, size: int) -> bytes | memoryview:
        held = memoryview(self._held)[at : at + size]
        left = min(size, self.size - at) - len(held)
        if self._file is None or left <= 0:
            return held
        # not a method of ours: the thread lets go of what it called a moment after it has answered
        place = at + len(held) - len(self._held)
        return bytes(held) + await asyncio.to_thread(os.pread, self._file.fileno(), left, place)

    def _from_file(self, at: int, size: int) -> bytes:
        assert self._file is not None
        return os.pread(self._file.fileno(), size, at)

    async def pieces(self, step: int = STEP) -> AsyncIterator[bytes]:
        for at in range(0, self.size, step):
            piece = await self.read(at, step)
            yield piece if isinstance(piece, bytes) else bytes(piece)

    async def views(self) -> AsyncIterator[bytes | memoryview]:
        """The pieces, uncopied."""
        for at in range(0, self.size, STEP):
            yield await self.read(at, STEP)

    async def head(self, size: int) -> bytes:
        return bytes(await self.read(0, size))

    @property
    def data(self) -> bytes:
        """All of it; read in a thread where it matters, since it may have to come from the disk."""
        left = self.size - len(self._held)
        return self._held + self._from_file(0, left) if left else self._held

    def discard(self) -> None:
        """It goes by itself."""

    def __del__(self) -> None:
        self._room.give(self._taken)
        if self._file is not None:
            self._file.close()
