"""Server-sent events: bytes in, events out; and where to take a broken stream up again."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import Any

import orjson

from gateway.client.answers import Made

LAST = ("done", "error")


@dataclass(frozen=True, slots=True)
class ServerEvent:
    """`kind` is accepted, progress, preview, result, snapshot, done or error; `data` is all that it says."""

    kind: str
    data: dict[str, Any]
    id: str | None = None

    @property
    def step(self) -> int | None:
        """How many steps are done, where it tells of progress."""
        return self._progress("step")

    @property
    def total(self) -> int | None:
        """How many steps there are, where it tells of progress and this is known."""
        return self._progress("total")

    @property
    def preview(self) -> Made | None:
        """A small picture of the work as it is now, where it brings one."""
        head, _, body = str(self.data.get("picture", "")).partition(";base64,")
        if self.kind != "preview" or not body:
            return None
        width, height = self.data.get("width"), self.data.get("height")
        return Made(base64.b64decode(body), head.removeprefix("data:"), "preview", width, height)

    def _progress(self, name: str) -> int | None:
        told = self.data if self.kind == "progress" else self.data.get("progress")
        found = told.get(name) if isinstance(told, dict) else None
        return None if found is None else int(found)


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
