"""Forgets what has been kept long enough: jobs, idempotency notes, pictures, counts of past days."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from sqlalchemy import delete

from gateway.state import GatewayState
from gateway.store.tables import usage
from services.errors import DarkroomError

log = logging.getLogger("darkroom.retention")

INTERVAL = 600.0
STRAYS_INTERVAL = 86400.0  # every picture's name is read for it
KEEP_USAGE_DAYS = 400  # a year, and some days to look back on it
_BATCHES = 1000


@dataclass(frozen=True, slots=True)
class Forgotten:
    jobs: int
    assets: int
    usage: int


class Retention:
    def __init__(self, state: GatewayState) -> None:
        self._db, self._queue, self._settings = state.db, state.queue, state.settings
        self._assets = state.assets
        self._task: asyncio.Task[None] | None = None
        self._strays_at = time.monotonic() + INTERVAL

    async def start(self) -> None:
        self._task = asyncio.create_task(self._run(), name="retention")

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None

    async def sweep(self) -> Forgotten:
        """Forget now what is due."""
        jobs = await self._queue.purge(time.time() - self._settings.keep_jobs)
        assets = 0
        for _ in range(_BATCHES):
            if not (gone := await self._assets.purge()):
                break
            assets += gone
        first_kept = (datetime.now(UTC) - timedelta(days=KEEP_USAGE_DAYS)).date().isoformat()
        async with self._db.write() as conn:
            days = (await conn.execute(delete(usage).where(usage.c.day < first_kept))).rowcount
        return Forgotten(jobs, assets, days)

    async def _run(self) -> None:
        while True:
            try:
                forgotten = await self.sweep()
                log.debug("forgotten: %s", forgotten)
                if time.monotonic() >= self._strays_at:
                    self._strays_at = time.monotonic() + STRAYS_INTERVAL
                    log.debug("bytes of no picture: %d deleted", await self._assets.purge_strays())
            except DarkroomError as error:
                log.warning("nothing could be forgotten: %s", error.detail)
            except Exception:
                log.exception("forgetting broke; trying again")
            # jittered, so that several gateways do not come at once
            await asyncio.sleep(INTERVAL * random.uniform(0.8, 1.2))
