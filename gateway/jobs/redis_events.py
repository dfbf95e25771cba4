"""The log of events in Redis streams, for several gateways: one stream a job, bounded and with an end of life.

A stream's entry ids are the events' own: `attempt-number`, which Redis counts and never lets go back, so that a
worker whose lease was lost cannot speak after the one who took over.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Any

import orjson
from redis import asyncio as redis
from redis.exceptions import RedisError, ResponseError

from gateway.jobs.events import EVENTS_OF_A_JOB, LAST_KINDS, START, Follower, JobEvent, Look, Page, Position
from gateway.metrics import Metrics

log = logging.getLogger("darkroom.jobs")

PREFIX = "darkroom:events:"
KEPT_SECONDS = 3600
KEPT_AFTER_THE_END = 300
_DEADLINE = 2.0
_REST = 1.0  # seconds without an attempt after Redis failed, so that no job waits for it at every step
_STEP = 0.15  # seconds between two looks for news


class RedisEvents(Follower):
    def __init__(self, url: str, look: Look, base: str = "", metrics: Metrics | None = None) -> None:
        super().__init__(look, base)
        pool = redis.BlockingConnectionPool.from_url(
            url,
            max_connections=32,
            timeout=_DEADLINE,
            socket_timeout=_DEADLINE,
            socket_connect_timeout=_DEADLINE,
        )
        self._redis: Any = redis.Redis.from_pool(pool)  # its own types do not know what it answers
        self._metrics = metrics
        self._resting_until = 0.0
        self._warned = False

    async def append(self, job_id: str, attempt: int, kind: str, data: dict[str, Any]) -> str | None:
        if time.monotonic() < self._resting_until:
            return None
        key = PREFIX + job_id
        try:
            async with asyncio.timeout(_DEADLINE), self._redis.pipeline(transaction=False) as pipe:
                body = {b"kind": kind.encode(), b"data": orjson.dumps(data, default=str)}
                # exact, or Redis keeps up to a hundred more
                pipe.xadd(key, body, id=f"{attempt}-*", maxlen=EVENTS_OF_A_JOB, approximate=False)
                pipe.expire(key, KEPT_AFTER_THE_END if kind in LAST_KINDS else KEPT_SECONDS)
                entry = (await pipe.execute(raise_on_error=False))[0]
        except (RedisError, OSError, TimeoutError) as error:
            self._failed(error)
            return None
        if isinstance(entry, ResponseError):
            return None  # a later attempt has spoken
        if isinstance(entry, Exception):
            self._failed(entry)
            return None
        self._warned = False
        return str(entry.decode().replace("-", "."))

    async def _read(self, job_id: str, after: Position) -> Page:
        key = PREFIX + job_id
        try:
            async with asyncio.timeout(_DEADLINE), self._redis.pipeline(transaction=True) as pipe:
                pipe.xrange(key, "-" if after == START else f"({after[0]}-{after[1]}", "+")
                pipe.xinfo_stream(key)
                rows, about = await pipe.execute(raise_on_error=False)
        except (RedisError, OSError, TimeoutError) as error:
            self._failed(error)
            return Page([], whole=False)
        for answer in (rows, about):
            if isinstance(answer, ResponseError):  # no such stream
                return Page([], whole=False)
            if isinstance(answer, Exception):
                self._failed(answer)
                return Page([], whole=False)
        self._warned = False
        first, last = about["first-entry"], _position(about["last-generated-id"])
        untrimmed = about["entries-added"] == about["length"]
        whole = after <= last and (untrimmed or (first is not None and after >= _position(first[0])))
        return Page([_event(entry, fields) for entry, fields in rows], whole)

    async def _pause(self, job_id: str, after: Position, seconds: float) -> None:
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            await asyncio.sleep(min(_STEP, left))
            if time.monotonic() < self._resting_until:
                continue
            try:
                async with asyncio.timeout(_DEADLINE):
                    last = await self._redis.xrevrange(PREFIX + job_id, count=1)
            except (RedisError, OSError, TimeoutError) as error:
                self._failed(error)
                continue
            if last and _position(last[0][0]) > after:
                return

    async def close(self) -> None:
        await super().close()
        await self._redis.aclose()
        await self._redis.connection_pool.disconnect()

    def _failed(self, error: Exception) -> None:
        self._resting_until = time.monotonic() + _REST
        if self._metrics is not None:
            self._metrics.fault("redis")
        if not self._warned:
            self._warned = True
            log.warning("Redis is away; jobs go on without events until it is back: %s", error)


def _position(entry: bytes) -> Position:
    attempt, number = entry.split(b"-")
    return int(attempt), int(number)


def _event(entry: bytes, fields: dict[bytes, bytes]) -> tuple[Position, JobEvent]:
    position = _position(entry)
    event_id = f"{position[0]}.{position[1]}"
    return position, JobEvent(event_id, fields[b"kind"].decode(), orjson.loads(fields[b"data"]))
