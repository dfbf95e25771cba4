"""What each key is having done now, as AUTOMATIC1111's clients watch and stop it: in go events, out come progress and
the last preview.

That server does one thing at a time, and whoever asks may see and stop it; here a key sees and stops its own. Where it
has several calls, the one that began first is meant.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from gateway.arriving import File
from gateway.desk import Made, made
from gateway.kept import Kept
from services.frames import Event


@dataclass(slots=True)
class Work:
    """One call on its way."""

    name: str
    count: int
    task: asyncio.Task[Any] | None
    began: float = field(default_factory=time.monotonic)
    stamp: str = field(default_factory=lambda: time.strftime("%Y%m%d%H%M%S"))
    step: int = 0
    steps: int = 0
    preview: bytes = b""
    pictures: list[Made] = field(default_factory=list)
    model: str = ""
    interrupted: bool = False

    def tell(self, event: Event, body: File) -> None:
        match event.kind:
            case "accepted" | "done":
                self.model = str(event.get("model", self.model))
            case "progress":
                self.step, self.steps = int(event["step"]), int(event["total"])
            case "preview":
                assert isinstance(body, Kept)
                self.preview = body.data
            case "result":
                self.pictures.append(made(event, body))

    def interrupt(self) -> None:
        """Its task is cancelled, as if the client had gone; but here it waits for what there is."""
        if self.task is not None and not self.interrupted:
            self.interrupted = True
            self.task.cancel()

    @property
    def share(self) -> float:
        """How far it is, from 0 to 1; never 0, which would say that nothing is being done."""
        return min(1.0, 0.01 + (self.step / self.steps if self.steps else 0.0))

    @property
    def seconds_left(self) -> float:
        spent = time.monotonic() - self.began
        return spent / self.share - spent


class Works:
    """Of every key, its calls in the order in which they began."""

    def __init__(self) -> None:
        self._running: dict[str, list[Work]] = {}

    @contextmanager
    def at(self, key_id: str, name: str, count: int) -> Iterator[Work]:
        """Around the work; an interrupt leaves the block quietly, with what came until then."""
        task = asyncio.current_task()
        work = Work(name, count, task)
        self._running.setdefault(key_id, []).append(work)
        try:
            yield work
        except asyncio.CancelledError:
            if not work.interrupted or task is None:
                raise
            task.uncancel()
        finally:
            mine = self._running[key_id]
            mine.remove(work)
            if not mine:
                del self._running[key_id]

    def current(self, key_id: str) -> Work | None:
        return next(iter(self._running.get(key_id, ())), None)
