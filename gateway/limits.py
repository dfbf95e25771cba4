"""How much a key may ask for: a caller in, its standing out, or `RateLimited` and `QuotaExceeded`.

The rate is a token bucket: in memory, or in Redis where several gateways share it. While Redis is away each gateway
counts for itself. Pictures a day are kept in SQL: a key with a quota reserves them before the work, in one statement
that cannot be overtaken; what other keys use is gathered in memory and written every second.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, cast

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from sqlalchemy import select
from sqlalchemy.dialects import postgresql, sqlite

from gateway.callers import Caller
from gateway.settings import Settings
from gateway.store.tables import usage as table
from services.errors import QuotaExceeded, RateLimited, Unavailable

if TYPE_CHECKING:
    from gateway.metrics import Metrics
    from gateway.store.database import Database

log = logging.getLogger("darkroom.limits")

REDIS_DEADLINE = 0.25
REDIS_PAUSE = 1.0  # seconds that a Redis which did not answer is left alone
FLUSH_INTERVAL = 1.0
BUCKETS = 20_000
_TAKE = """
local now = redis.call('TIME')
now = tonumber(now[1]) + tonumber(now[2]) / 1000000
local rate, burst = tonumber(ARGV[1]), tonumber(ARGV[2])
local held = redis.call('HMGET', KEYS[1], 'tokens', 'at')
local tokens, at = tonumber(held[1]) or burst, tonumber(held[2]) or now
tokens = math.min(burst, tokens + math.max(0, now - at) * rate)
local granted = 0
if tokens >= 1 then
  tokens, granted = tokens - 1, 1
end
redis.call('HSET', KEYS[1], 'tokens', tostring(tokens), 'at', string.format('%.6f', now))
redis.call('PEXPIRE', KEYS[1], math.ceil(burst / rate * 1000) + 1000)
return {granted, tostring(tokens)}
"""


@dataclass(frozen=True, slots=True)
class Standing:
    """How a caller stands with its rate after a request."""

    limit: int
    remaining: int
    reset: int  # seconds until the bucket is full again

    def headers(self) -> list[tuple[bytes, bytes]]:
        return [
            (b"ratelimit-limit", b"%d" % self.limit),
            (b"ratelimit-remaining", b"%d" % self.remaining),
            (b"ratelimit-reset", b"%d" % self.reset),
        ]


@dataclass(frozen=True, slots=True)
class Reservation:
    """Pictures set aside for a call; `settle` says how many it made."""

    key_id: str
    day: str
    reserved: int  # 0 for a key without a quota


@dataclass(frozen=True, slots=True)
class Usage:
    key_id: str
    day: str
    pictures: int
    requests: int


class _Bucket:
    __slots__ = ("at", "tokens")

    def __init__(self, tokens: float, at: float) -> None:
        self.tokens, self.at = tokens, at


class Limits:
    """Redis is only spoken to where `settings.redis_url` names one."""

    def __init__(self, db: Database, settings: Settings, metrics: Metrics | None = None) -> None:
        self._db, self._metrics = db, metrics
        self._buckets: dict[str, _Bucket] = {}
        self._pending: dict[
            tuple[str, str], list[int]
        ] = {}  # (key, day) -> [pictures, requests] not yet written
        self._day, self._day_ends = "", 0.0
        self._redis: Redis | None = None
        self._redis_again_at = float("-inf")
        self._redis_away = False
        self._redis_answered_at = float("-inf")
        self._flusher: asyncio.Task[None] | None = None
        self._store_away = False
        self._closing = asyncio.Event()
        if settings.redis is not None:
            # one that waits for a connection: a crowd of our own callers must not look like a Redis that is away
            connections = BlockingConnectionPool.from_url(
                settings.redis,
                socket_timeout=REDIS_DEADLINE,
                socket_connect_timeout=REDIS_DEADLINE,
                max_connections=16,
                timeout=REDIS_DEADLINE,
                # a connection from before a restart of Redis is dead; the next is not
                retry=Retry(NoBackoff(), 1),
            )
            self._redis = Redis.from_pool(connections)
            self._take = self._redis.register_script(_TAKE)

    async def start(self) -> None:
        self._flusher = asyncio.create_task(self._flush_regularly(), name="usage")

    async def close(self) -> None:
        """Write what was counted, and let go of Redis."""
        self._closing.set()
        if self._flusher is not None:
            # not cancelled: a write that was cut off might have been committed, and would be counted twice
            await self._flusher
            self._flusher = None
        await self.flush()
        if self._redis is not None:
            await self._redis.aclose()

    # ── requests a second ────────────────────────────────────────────────────────────────────────────────────

    async def admit(self, caller: Caller) -> Standing | None:
        """Count a request of `caller`; raises `RateLimited` where it comes too soon. None: it has no rate."""
        self._count(caller.key_id, 0, 1)
        if not caller.rate:
            return None
        granted, tokens, burst = await self._take_token(caller)
        if not granted:
            wait = (1 - tokens) / caller.rate
            raise RateLimited(
                f"The key {caller.name!r} may ask {caller.rate:g} times a second; wait {wait:.2f} s.",
                retry_after=round(wait, 3),
                limit=int(burst),
            )
        return Standing(int(burst), int(tokens), math.ceil((burst - tokens) / caller.rate))

    async def _take_token(self, caller: Caller) -> tuple[bool, float, float]:
        burst = max(1.0, float(math.ceil(caller.rate)))  # what a second allows may come at once
        if self._redis is not None and time.monotonic() >= self._redis_again_at:
            began = time.monotonic()
            try:
                async with asyncio.timeout(REDIS_DEADLINE):
                    granted, tokens = await self._take(
                        keys=[f"darkroom:rate:{caller.key_id}"], args=[caller.rate, burst]
                    )
            except (RedisError, OSError, TimeoutError) as error:
                if (
                    self._redis_answered_at < began
                ):  # else it answers others, and only this one waited too long
                    self._redis_failed(error)
            else:
                self._redis_answered_at = time.monotonic()
                if self._redis_away:
                    self._redis_away = False
                    log.info("Redis is back: rate limits are shared again")
                return bool(granted), float(tokens), burst
        return (*self._take_locally(caller.key_id, caller.rate, burst), burst)

    def _take_locally(self, key_id: str, rate: float, burst: float) -> tuple[bool, float]:
        now = time.monotonic()
        bucket = self._buckets.get(key_id)
        if bucket is None:
            if len(self._buckets) >= BUCKETS:
                del self._buckets[next(iter(self._buckets))]
            bucket = self._buckets[key_id] = _Bucket(burst, now)
        tokens = min(burst, bucket.tokens + (now - bucket.at) * rate)
        bucket.at = now
        granted = tokens >= 1
        bucket.tokens = tokens - 1 if granted else tokens
        return granted, bucket.tokens

    def _redis_failed(self, error: Exception) -> None:
        self._redis_again_at = time.monotonic() + REDIS_PAUSE
        if self._metrics is not None:
            self._metrics.fault("redis")
        if not self._redis_away:
            self._redis_away = True
            log.warning(
                "Redis does not answer (%s): each gateway counts its own rate limits until it is back",
                error or type(error).__name__,
            )

    # ── pictures a day ───────────────────────────────────────────────────────────────────────────────────────

    async def reserve_pictures(self, caller: Caller, count: int) -> Reservation:
        """Set `count` pictures of today aside; raises `QuotaExceeded` where that is more than is left."""
        day = self._today()
        if not caller.daily_pictures or not count:
            return Reservation(caller.key_id, day, 0)
        if not await self._reserve(caller, day, count):
            # pictures given back by calls that failed may still wait to be written
            await self.flush()
            if not await self._reserve(caller, day, count):
                raise QuotaExceeded(
                    f"The key {caller.name!r} may make {caller.daily_pictures} pictures a day, not {count} more.",
                    retry_after=round(max(1.0, self._day_ends - time.time())),
                    limit=caller.daily_pictures,
                )
        return Reservation(caller.key_id, day, count)

    def settle(self, reservation: Reservation, made: int) -> None:
        """Say how many pictures a call made in the end: what it did not use is given back within a second."""
        if difference := made - reservation.reserved:
            self._add((reservation.key_id, reservation.day), difference, 0)

    async def _reserve(self, caller: Caller, day: str, count: int) -> bool:
        if count > caller.daily_pictures:
            return False
        statement = self._upsert().values(key_id=caller.key_id, day=day, pictures=count, requests=0)
        reserving = statement.on_conflict_do_update(
            index_elements=[table.c.key_id, table.c.day],
            set_={"pictures": table.c.pictures + count},
            where=table.c.pictures + count <= caller.daily_pictures,
        ).returning(table.c.pictures)
        async with self._db.write() as connection:
            return (await connection.execute(reserving)).first() is not None

    async def usage(self, key_id: str | None = None, days: int = 30) -> list[Usage]:
        """What was used, by key and day, the newest day first; the last second may be missing."""
        since = (datetime.now(UTC) - timedelta(days=days - 1)).strftime("%Y-%m-%d")
        statement = select(table).where(table.c.day >= since).order_by(table.c.day.desc(), table.c.key_id)
        if key_id is not None:
            statement = statement.where(table.c.key_id == key_id)
        async with self._db.read() as connection:
            return [Usage(**row) for row in (await connection.execute(statement)).mappings()]

    # ── counting ─────────────────────────────────────────────────────────────────────────────────────────────

    def _count(self, key_id: str, pictures: int, requests: int) -> None:
        self._add((key_id, self._today()), pictures, requests)

    def _add(self, key: tuple[str, str], pictures: int, requests: int) -> None:
        pending = self._pending.get(key)
        if pending is None:
            self._pending[key] = [pictures, requests]
        else:
            pending[0] += pictures
            pending[1] += requests

    def _today(self) -> str:
        now = time.time()
        if now >= self._day_ends:
            self._day_ends = (now // 86400 + 1) * 86400
            self._day = datetime.fromtimestamp(now, UTC).strftime("%Y-%m-%d")
        return self._day

    async def flush(self) -> None:
        """Write what was counted; where the database does not answer it is kept and counted on."""
        if not self._pending:
            return
        pending, self._pending = self._pending, {}
        rows = [
            {"key_id": k, "day": d, "pictures": p, "requests": r}
            for (k, d), (p, r) in sorted(pending.items())
        ]
        insert = self._upsert()
        statement = insert.on_conflict_do_update(
            index_elements=[table.c.key_id, table.c.day],
            set_={
                "pictures": table.c.pictures + insert.excluded.pictures,
                "requests": table.c.requests + insert.excluded.requests,
            },
        )
        try:
            async with self._db.write() as connection:
                await connection.execute(statement, cast(Sequence[dict[str, Any]], rows))
        except (Unavailable, TimeoutError) as error:
            self._keep(pending)
            if self._metrics is not None:
                self._metrics.fault("database")
            if not self._store_away:
                self._store_away = True
                log.warning(
                    "usage cannot be written (%s): it is counted in memory until the database is back", error
                )
        except BaseException:
            self._keep(pending)
            raise
        else:
            self._store_away = False

    def _keep(self, pending: dict[tuple[str, str], list[int]]) -> None:
        for key, (pictures, requests) in pending.items():
            self._add(key, pictures, requests)

    async def _flush_regularly(self) -> None:
        while not self._closing.is_set():
            with suppress(TimeoutError):
                async with asyncio.timeout(FLUSH_INTERVAL):
                    await self._closing.wait()
            await self.flush()

    def _upsert(self) -> postgresql.Insert | sqlite.Insert:
        return postgresql.insert(table) if self._db.postgres else sqlite.insert(table)
