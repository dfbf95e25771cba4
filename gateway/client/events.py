"""Server-sent events: bytes in, events out; and where to take a broken stream up again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import orjson

LAST = ("done", "error")


@dataclass(frozen=True, slots=True)
class ServerEvent:
    """`kind` is accepted, progress, preview, result, snapshot, done or error."""

    kind: str
    data: dict[str, Any]
    id: str | None = None


class EventReader:
    """Sans-IO: feed it what arrives, and it gives the events which that completes."""

    def __init__(self) -> None:
        self.last_id: str | None = None
        self.ended = False
        self._pending = b""

    def broken(self) -> None:
        """The connection is gone; half an event is worth nothing."""
        self._pending = b""

    def feed(self, data: bytes) -> list[ServerEvent]:
        *blocks, self._pending = (self._pending + data).replace(b"\r\n", b"\n").split(b"\n\n")
        found = []
        for block in blocks:
            event = self._event(block)
            if event is not None:
                found.append(event)
                self.ended = self.ended or event.kind in LAST
        return found

    def _event(self, block: bytes) -> ServerEvent | None:
        kind, lines = "message", []
        for line in block.decode().split("\n"):
            name, _, value = line.partition(":")
            value = value.removeprefix(" ")
            if name == "event":
                kind = value
            elif name == "data":
                lines.append(value)
            elif name == "id":
                self.last_id = value
        if not lines:
            return None  # a comment that keeps the connection alive
        return ServerEvent(kind, orjson.loads("\n".join(lines)), self.last_id)
