"""Memory that all requests have together for what they bring; who finds none left keeps it on disk.

A megabyte on its way through a file costs a dozen turns of a thread, which is most of what a small call's base64 costs;
without a bound a crowd of callers would have all memory.
"""

from __future__ import annotations

from pathlib import Path

from gateway.blobs import Blob, MemoryBlob, Spool

SIZE = 64 * 2**20


class Room:
    def __init__(self, size: int = SIZE) -> None:
        self.left = size

    def take(self, size: int) -> bool:
        """Whether there was as much; whoever took it gives it back."""
        if size > self.left:
            return False
        self.left -= size
        return True

    def give(self, size: int) -> None:
        self.left += size


class HeldBlob(MemoryBlob):
    """Bytes that have taken their room, which they give back when they are discarded."""

    __slots__ = ("_room",)

    def __init__(self, data: bytes, room: Room) -> None:
        super().__init__(data)
        self._room: Room | None = room

    def discard(self) -> None:
        super().discard()
        room, self._room = self._room, None
        if room is not None:
            room.give(self.size)


async def held(data: bytes, room: Room, folder: Path) -> Blob:
    """What is in memory anyway: it stays there while there is room, else it lies in `folder`."""
    if room.take(len(data)):
        return HeldBlob(data, room)
    spool = Spool(folder)
    try:
        await spool.write(data)
        return await spool.finish()
    except BaseException:
        spool.discard()
        raise
