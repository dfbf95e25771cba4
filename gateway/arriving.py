"""A picture that a service is still sending, passed on as it comes: the gateway has no more of it than a piece.

It is read once, and its reader's pace is the service's. Where an answer has to be known as a whole first, `kept` makes
a `Kept` of it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable

from gateway.kept import Kept
from services.frames import Event


class Arriving:
    """`size` bytes of body that `items` gives next; `came` hears when they are here."""

    __slots__ = ("_ahead", "_came", "_end", "_items", "_left", "size")

    def __init__(
        self, size: int, items: AsyncIterator[Event | memoryview], came: Callable[[], None] = lambda: None
    ) -> None:
        self.size = self._left = size
        self._items, self._came = items, came
        self._ahead: deque[memoryview] = deque()  # pieces that were only looked at
        self._end: Callable[[], Awaitable[None]] | None = None

    def then(self, end: Callable[[], Awaitable[None]]) -> None:
        """What is to be done before the last piece is given away: who has all of a picture may leave at once."""
        self._end = end

    async def head(self, size: int) -> bytes:
        """The first `size` bytes, or all where there are fewer; they are still to be read."""
        while self._left and sum(map(len, self._ahead)) < size:
            self._ahead.append(await self._piece())
        return b"".join(self._ahead)[:size]

    @property
    def seen(self) -> bytes:
        """What of it was looked at already."""
        return b"".join(self._ahead)

    async def views(self) -> AsyncIterator[memoryview]:
        while self._ahead or self._left:
            if not self._ahead:
                self._ahead.append(await self._piece())
            if not self._left and len(self._ahead) == 1 and self._end is not None:
                end, self._end = self._end, None
                await end()
            yield self._ahead.popleft()  # nothing of it stays here while the next is waited for

    async def _piece(self) -> memoryview:
        piece = await anext(self._items)
        assert isinstance(piece, memoryview)
        self._left -= len(piece)
        if not self._left:
            self._came()
        return piece

    async def kept(self, into: Kept) -> Kept:
        async for piece in self.views():
            await into.write(piece)
            del piece
        return into.written()

    async def skip(self) -> None:
        """What nobody read; what was only looked at may still be read."""
        while self._left:
            await self._piece()


File = Kept | Arriving
