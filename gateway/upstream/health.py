"""Looks at each endpoint's health off the way of requests: has it describe itself, and notes what it says.

Every endpoint has a task of its own, so that one that never answers delays no look at another.
"""

from __future__ import annotations

import asyncio
import logging
import random

from gateway.upstream.endpoint import Endpoint
from gateway.upstream.pool import Pool
from services.errors import DarkroomError, DeadlineExceeded

log = logging.getLogger("darkroom.upstream")

_SILENCES = (
    2  # looks without an answer that make an endpoint count as down; a refused connection does at once
)


class Checker:
    """The looks at one endpoint."""

    def __init__(self, pool: Pool, endpoint: Endpoint, interval: float) -> None:
        self._pool, self._endpoint = pool, endpoint
        self._interval = interval
        self._patience = min(max(interval, 1.0), 2.0)
        self._silences = 0
        self._silent_since = 0.0
        self.looked = asyncio.Event()

    async def watch(self) -> None:
        while True:
            self._endpoint.look_again.clear()
            await self.look()
            pause = self._interval * random.uniform(0.8, 1.2)  # so that gateways do not ask in step
            try:
                async with asyncio.timeout(pause):
                    await self._endpoint.look_again.wait()
                await asyncio.sleep(self._interval * 0.1)  # a failing endpoint asks for many looks
            except TimeoutError:
                pass

    async def look(self) -> None:
        endpoint, before = self._endpoint, self._endpoint.health
        began = asyncio.get_running_loop().time()
        try:
            async with asyncio.timeout(self._patience):
                said = await self._pool.carrier.describe(endpoint)
            endpoint.described(said)
            self._silences = 0
        except (TimeoutError, DeadlineExceeded):
            self._silent(began)
        except DarkroomError as error:
            self._silences = 0
            endpoint.went_down(error.detail)
        except (ValueError, TypeError, AttributeError) as error:
            endpoint.went_down(f"its description cannot be read: {error}")
        self.looked.set()
        if endpoint.health == "down":
            self._pool.move_from(endpoint)
        if endpoint.health != before:
            if endpoint.health in ("draining", "down"):
                self._pool.resolve_again.set()
            log.info(
                "%s at %s is %s: %s",
                self._pool.service,
                endpoint.address.text,
                endpoint.health,
                endpoint.reason or "ready",
            )
        self._pool.dispatch()

    def _silent(self, began: float) -> None:
        """No answer in time. One that goes on sending frames is busy, not gone."""
        if not self._silences:
            self._silent_since = began
        self._silences += 1
        if self._endpoint.last_heard >= self._silent_since:
            self._silences = 0
        elif self._silences >= _SILENCES or self._endpoint.health != "up":
            self._endpoint.went_down(f"it does not answer within {self._patience:g} s")
