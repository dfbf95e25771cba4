"""What happens to a job, as a bounded log: appended by whoever works on it, followed by whoever waits for it.

An event's id is `attempt.number`. A follower resumes after the id that it saw last. Where the log does not reach
back that far (lost, trimmed, never begun) it first gets a `snapshot` made from the store: progress can be lost,
never a result. The log is an extra: when it fails, jobs go on and followers watch the store instead.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections import OrderedDict, deque
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

import orjson

from gateway.jobs.job import Job
from gateway.metrics import Metrics
from gateway.settings import Settings
from services.errors import BadInput, Cancelled

Look = Callable[[str], Awaitable[Job | None]]
Position = tuple[int, int]
START: Position = (0, -1)

EVENTS_OF_A_JOB = 256
BYTES_OF_A_JOB = 1 << 20
BYTES_OF_ALL = 64 << 20
LAST_KINDS = ("done", "error")
_QUIET = (1.0, 2.0, 5.0)  # seconds without an event, after which a follower looks into the store


@dataclass(frozen=True, slots=True)
class JobEvent:
    id: str | None  # a snapshot has none: who resumes does so after the last event that had one
    kind: str
    data: dict[str, Any]


class EventLog(Protocol):
    async def append(self, job_id: str, attempt: int, kind: str, data: dict[str, Any]) -> str | None:
        """The new event's id; None where it could not be kept, or a later attempt has begun."""

    def follow(self, job_id: str, after: str | None = None) -> AsyncIterator[JobEvent | None]:
        """Events as they come, up to the last; None now and then while nothing happens."""

    async def close(self) -> None: ...


@dataclass(slots=True)
class Page:
    """What a log holds after a position; `whole` is False where something before it is missing."""

    events: list[tuple[Position, JobEvent]]
    whole: bool


class Follower(ABC):
    """`follow` for any log that can be read from a position on."""

    def __init__(self, look: Look, base: str = "") -> None:
        self._look, self._base = look, base
        self._pauses: set[asyncio.Task[None]] = set()
        self._closed = False

    @abstractmethod
    async def _read(self, job_id: str, after: Position) -> Page: ...

    @abstractmethod
    async def _pause(self, job_id: str, after: Position, seconds: float) -> None:
        """Until there may be something after this position, at most so long."""

    async def follow(self, job_id: str, after: str | None = None) -> AsyncIterator[JobEvent | None]:
        position, quiet, shown = parse(after), 0, None
        page = await self._read(job_id, position)
        if not page.whole and position != START:
            position, page = START, Page((await self._read(job_id, START)).events, whole=False)
        while True:
            job = await self._look(job_id) if quiet or not page.whole else None
            if job is None and (quiet or not page.whole):
                return  # purged
            if job is not None and not page.whole and shown != (state := _state(job)):
                shown = state
                yield JobEvent(None, "snapshot", job.document(self._base))
            if job is not None and job.final and not page.events:
                # its last events may have come while we looked; if not, the store tells the end
                page = await self._read(job_id, position)
                if not page.events:
                    yield ending(job, self._base)
                    return
            for position, event in page.events:  # noqa: B007 - the last one is where we go on
                yield event
                if event.kind in LAST_KINDS:
                    return
            quiet = 0 if page.events else quiet + 1
            if quiet > 1:
                yield None
            await self._rest(job_id, position, _QUIET[min(quiet, len(_QUIET) - 1)])
            if self._closed:
                return  # the gateway shuts down; another, or the next, goes on after the last id
            page = await self._read(job_id, position)

    async def _rest(self, job_id: str, after: Position, seconds: float) -> None:
        """A pause that `close` ends."""
        if self._closed:
            return
        pause = asyncio.create_task(self._pause(job_id, after, seconds))
        self._pauses.add(pause)
        try:
            await asyncio.wait([pause])
            if not pause.cancelled():
                pause.result()
        finally:
            self._pauses.discard(pause)
            pause.cancel()

    async def close(self) -> None:
        """Every follower's stream ends."""
        self._closed = True
        for pause in list(self._pauses):
            pause.cancel()


def _state(job: Job) -> tuple[Any, ...]:
    return job.state, job.attempt, str(job.progress)


def open_events(settings: Settings, look: Look, metrics: Metrics) -> EventLog:
    """In Redis where the settings name one, else in memory; `look` is the queue's `get`."""
    if settings.redis is None:
        return MemoryEvents(look, settings.root_path)
    from gateway.jobs.redis_events import RedisEvents  # it builds on this module

    return RedisEvents(settings.redis, look, settings.root_path, metrics)


def ending(job: Job, base: str = "", event_id: str | None = None) -> JobEvent:
    """The last event of a job that has ended."""
    if job.state == "succeeded":
        return JobEvent(event_id, "done", job.document(base))
    problem = job.error or Cancelled("The job was cancelled.").problem()
    return JobEvent(event_id, "error", {**problem, "job": job.document(base)})


def parse(event_id: str | None) -> Position:
    if not event_id:
        return START
    attempt, dot, number = event_id.partition(".")
    if not (dot and attempt.isascii() and number.isascii() and attempt.isdigit() and number.isdigit()):
        raise BadInput("Last-Event-ID must be an id that this stream gave, as 1.7.", field="Last-Event-ID")
    return int(attempt), int(number)


# ── in this process ───────────────────────────────────────────────────────────────────────────────────────────


@dataclass(slots=True)
class _Kept:
    events: deque[tuple[Position, JobEvent, int]] = field(default_factory=deque)
    size: int = 0
    last: Position = START
    trimmed: Position | None = None
    news: asyncio.Event = field(default_factory=asyncio.Event)


class MemoryEvents(Follower):
    """The jobs least lately told of are forgotten first."""

    def __init__(self, look: Look, base: str = "", limit: int = BYTES_OF_ALL) -> None:
        super().__init__(look, base)
        self._jobs: OrderedDict[str, _Kept] = OrderedDict()
        self._size, self._limit = 0, limit
        self._early: dict[str, set[asyncio.Event]] = {}  # followers of jobs of which nothing is told yet

    async def append(self, job_id: str, attempt: int, kind: str, data: dict[str, Any]) -> str | None:
        kept = self._jobs.setdefault(job_id, _Kept())
        self._jobs.move_to_end(job_id)
        for waiting in self._early.get(job_id, ()):
            waiting.set()
        if attempt < kept.last[0]:
            return None
        position = (attempt, kept.last[1] + 1 if attempt == kept.last[0] else 0)
        event = JobEvent(f"{position[0]}.{position[1]}", kind, data)
        size = 200 + len(orjson.dumps(data, default=str))
        kept.events.append((position, event, size))
        kept.last = position
        self._grow(kept, size)
        while len(kept.events) > EVENTS_OF_A_JOB or (kept.size > BYTES_OF_A_JOB and len(kept.events) > 1):
            kept.trimmed, _, gone = kept.events.popleft()
            self._grow(kept, -gone)
        while self._size > self._limit and len(self._jobs) > 1:
            _, forgotten = self._jobs.popitem(last=False)
            self._size -= forgotten.size
            forgotten.news.set()
        news, kept.news = kept.news, asyncio.Event()
        news.set()
        return event.id

    def _grow(self, kept: _Kept, size: int) -> None:
        kept.size += size
        self._size += size

    async def _read(self, job_id: str, after: Position) -> Page:
        kept = self._jobs.get(job_id)
        if kept is None:
            return Page([], whole=False)
        whole = after <= kept.last and (kept.trimmed is None or after >= kept.trimmed)
        return Page([(position, event) for position, event, _ in kept.events if position > after], whole)

    async def _pause(self, job_id: str, after: Position, seconds: float) -> None:
        kept = self._jobs.get(job_id)
        if kept is not None and kept.last > after:
            return
        news = kept.news if kept is not None else asyncio.Event()
        if kept is None:
            self._early.setdefault(job_id, set()).add(news)
        try:
            async with asyncio.timeout(seconds):
                await news.wait()
        except TimeoutError:
            return
        finally:
            if kept is None:
                self._early[job_id].discard(news)
                if not self._early[job_id]:
                    del self._early[job_id]

    async def close(self) -> None:
        await super().close()
        self._jobs.clear()
        self._size = 0
