"""Watches one request while it is worked on: when its client goes away, the work is cancelled."""

from __future__ import annotations

import asyncio
from types import TracebackType

from starlette.types import Receive

# Most calls are over before; only those that last are worth a task that listens.
BEGIN_AFTER = 0.03


class ClientGone(Exception):
    """The client hung up; nobody is left to answer."""


class Watch:
    """`with Watch(receive):` around the work; raises `ClientGone` out of the block where the client left."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._listening: asyncio.Task[None] | None = None
        self._gone = False

    def __enter__(self) -> Watch:
        work = asyncio.current_task()
        assert work is not None
        self._work = work
        self._begin = asyncio.get_running_loop().call_later(BEGIN_AFTER, self._listen)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._begin.cancel()
        if self._listening is not None:
            self._listening.cancel()
        if self._gone and kind is asyncio.CancelledError:
            self._work.uncancel()
            raise ClientGone

    def _listen(self) -> None:
        self._listening = asyncio.get_running_loop().create_task(self._until_gone())

    async def _until_gone(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            continue
        self._gone = True
        self._work.cancel()
