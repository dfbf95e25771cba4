"""A picture that a service is still sending, passed on as it comes: the gateway has no more of it than a piece.

It is read once, and its reader's pace is the service's. Where an answer has to be known as a whole first, `kept` makes
a `Kept` of it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable

from gateway.kept import Kept
from services.frames import Event


class Arriving:
    """`size` bytes of body that `items` gives next; `came` hears when they are here."""

    __slots__ = ("_came", "_end", "_items", "left", "size")

    def __init__(
        self, size: int, items: AsyncIterator[Event | memoryview], came: Callable[[], None] = lambda: None
    ) -> None:
        self.size = self.left = size
        self._items, self._came = items, came
        self._end: Callable[[], Awaitable[None]] | None = None

    def then(self, end: Callable[[], Awaitable[None]]) -> None:
        """What is left to be done when the last piece was taken, before its reader knows that it was the last."""
        self._end = end

    async def views(self) -> AsyncIterator[memoryview]:
        while self.left:
            piece = await anext(self._items)
            assert isinstance(piece, memoryview)
            self.left -= len(piece)
            if not self.left:
                self._came()
            yield piece
            del piece  # the next is not waited for with this one in hand
        end, self._end = self._end, None
        if end is not None:
            await end()

    async def kept(self, into: Kept) -> Kept:
        async for piece in self.views():
            await into.write(piece)
            del piece
        return into.written()

    async def skip(self) -> None:
        async for _ in self.views():
            continue


File = Kept | Arriving
