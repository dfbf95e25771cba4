"""The calls that run, by session and request id, so that a later message of the same session can end one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import anyio

from gateway.doors.mcp.message import RequestId


@dataclass(slots=True)
class Running:
    """One call; work inside of `scope` ends when it is cancelled."""

    scope: anyio.CancelScope = field(default_factory=anyio.CancelScope)


class Runnings:
    def __init__(self) -> None:
        self._calls: dict[str, dict[str, Running]] = {}

    @contextmanager
    def call(self, session: str, request_id: RequestId | None) -> Iterator[Running]:
        """Around a call; one without a session can only be ended by hanging up."""
        running = Running()
        if not session or request_id is None:
            yield running
            return
        calls, key = self._calls.setdefault(session, {}), _key(request_id)
        calls[key] = running
        try:
            yield running
        finally:
            if calls.get(key) is running:  # an id that was used again is the later call's
                del calls[key]
            if not calls:
                self._calls.pop(session, None)

    def cancel(self, session: str, request_id: object) -> None:
        if isinstance(request_id, str | int) and (
            running := self._calls.get(session, {}).get(_key(request_id))
        ):
            running.scope.cancel()

    def end(self, session: str) -> None:
        """All that the session has running."""
        for running in list(self._calls.get(session, {}).values()):
            running.scope.cancel()


def _key(request_id: RequestId) -> str:
    """Clients may write the same id once as a number and once as a text."""
    return str(request_id)
