"""The calls that run, by session and request id, so that a later message of the same session can end one."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import anyio

from gateway.doors.mcp.message import RequestId


@dataclass(slots=True)
class Running:
    """One call; work inside of `scope` ends when it is cancelled."""

    scope: anyio.CancelScope = field(default_factory=anyio.CancelScope)


_REMEMBERED, _SECONDS = 256, 30.0  # how many cancellations wait for their call, and for how long


class Runnings:
    def __init__(self) -> None:
        self._calls: dict[str, dict[str, Running]] = {}
        # a call whose pictures are still on their way can be overtaken by its cancellation
        self._early: dict[tuple[str, str], float] = {}

    @contextmanager
    def call(self, session: str, request_id: RequestId | None) -> Iterator[Running]:
        """Around a call; one without a session can only be ended by hanging up."""
        running = Running()
        if not session or request_id is None:
            yield running
            return
        calls, key = self._calls.setdefault(session, {}), _key(request_id)
        calls[key] = running
        if time.monotonic() - self._early.pop((session, key), -math.inf) < _SECONDS:
            running.scope.cancel()
        try:
            yield running
        finally:
            if calls.get(key) is running:  # an id that was used again is the later call's
                del calls[key]
            if not calls:
                self._calls.pop(session, None)

    def cancel(self, session: str, request_id: object) -> None:
        if not session or not isinstance(request_id, str | int):
            return
        running = self._calls.get(session, {}).get(_key(request_id))
        if running is not None:
            running.scope.cancel()
        else:
            self._early[session, _key(request_id)[:1000]] = time.monotonic()
            if len(self._early) > _REMEMBERED:
                del self._early[next(iter(self._early))]

    def end(self, session: str) -> None:
        """All that the session has running."""
        for running in list(self._calls.get(session, {}).values()):
            running.scope.cancel()


def _key(request_id: RequestId) -> str:
    """Clients may write the same id once as a number and once as a text."""
    return str(request_id)
