"""Tells webhooks how jobs ended: rows that the queue wrote go in, signed POSTs of the job document go out.

A delivery is durable and made at least once: the receiver knows a repeat by its `Darkroom-Delivery`. Whoever
delivers leases the row by moving its `not_before` past the attempt's end.
"""

from __future__ import annotations

import asyncio
import logging
import random
import secrets
import time
from dataclasses import dataclass
from typing import Any

import orjson
from sqlalchemy import select, update

from gateway.netguard import guarded_request
from gateway.signing import WEBHOOK_HEADER
from gateway.state import GatewayState
from gateway.store.tables import webhooks
from services.errors import BadInput, DarkroomError, Unavailable

log = logging.getLogger("darkroom.webhooks")

DELIVERY_HEADER = "darkroom-delivery"
POLL = 1.0
TIMEOUT = 10.0
LEASE = 3 * TIMEOUT
FIRST_PAUSE = 2.0
LONGEST_PAUSE = 3600.0
AT_ONCE = 8


@dataclass(frozen=True, slots=True)
class Delivery:
    id: str
    job_id: str
    job_state: str
    url: str
    attempts: int  # this one included
    token: str


class Webhooks:
    def __init__(self, state: GatewayState) -> None:
        self._db, self._settings, self._signer = state.db, state.settings, state.signer
        self._queue, self._metrics = state.queue, state.metrics
        self._base = state.settings.public_base
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        self._task = asyncio.create_task(self._run(), name="webhooks")

    async def stop(self) -> None:
        """A delivery that is under way is made again by whoever comes next."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None

    async def _run(self) -> None:
        while True:
            try:
                if not await self.deliver_due():
                    await asyncio.sleep(POLL)
            except Unavailable as error:
                log.warning("webhooks wait for the database: %s", error.detail)
                await asyncio.sleep(POLL)
            except Exception:
                log.exception("delivering webhooks broke; trying again")
                await asyncio.sleep(POLL)

    async def deliver_due(self) -> int:
        """Deliver what is due now, a few at once; how many were tried."""
        due = await self._claim()
        await asyncio.gather(*(self._deliver(delivery) for delivery in due))
        return len(due)

    async def _claim(self) -> list[Delivery]:
        now = time.time()
        first = (
            select(webhooks.c.id)
            .where(webhooks.c.not_before <= now)
            .order_by(webhooks.c.not_before)
            .limit(AT_ONCE)
            .with_for_update(skip_locked=True)
        )
        async with self._db.read() as conn:
            # a look costs less than a write, and mostly there is nothing
            if (await conn.execute(first.with_only_columns(webhooks.c.id).limit(1))).first() is None:
                return []
        token = secrets.token_hex(16)
        async with self._db.write() as conn:
            rows = await conn.execute(
                update(webhooks)
                .where(webhooks.c.id.in_(first.scalar_subquery()))
                .values(lease_token=token, not_before=now + LEASE, attempts=webhooks.c.attempts + 1)
                .returning(
                    webhooks.c.id,
                    webhooks.c.job_id,
                    webhooks.c.job_state,
                    webhooks.c.url,
                    webhooks.c.attempts,
                )
            )
            return [Delivery(row.id, row.job_id, row.job_state, row.url, row.attempts, token) for row in rows]

    async def _deliver(self, delivery: Delivery) -> None:
        job = await self._queue.get(delivery.job_id)
        if job is None:
            await self._note(delivery, {"not_before": None, "problem": "the job was forgotten before"})
            return
        body = orjson.dumps(job.document(self._base))
        headers = {
            "content-type": "application/json",
            "user-agent": "darkroom",
            WEBHOOK_HEADER: self._signer.webhook(body),
            DELIVERY_HEADER: delivery.id,
        }
        status: int | None = None
        refused = False
        try:
            async with asyncio.timeout(TIMEOUT + 1):
                status = await guarded_request(
                    "POST",
                    delivery.url,
                    headers=headers,
                    content=body,
                    timeout=TIMEOUT,
                    allow_private=self._settings.webhook_allow_private,
                )
            problem = None if 200 <= status < 300 else f"it answered {status}"
        except BadInput as error:
            problem, refused = error.detail, True
        except DarkroomError as error:
            problem = error.detail
        except TimeoutError:
            problem = f"it did not answer within {TIMEOUT:g} s"
        await self._conclude(delivery, status, problem, refused)

    async def _conclude(
        self, delivery: Delivery, status: int | None, problem: str | None, refused: bool
    ) -> None:
        now = time.time()
        values: dict[str, Any] = {"status": status, "problem": problem, "not_before": None}
        if problem is None:
            outcome = "delivered"
            values["delivered_at"] = now
        elif refused or delivery.attempts >= self._settings.webhook_attempts:
            outcome = "refused" if refused else "given-up"
            log.warning("the webhook of %s was given up: %s", delivery.job_id, problem)
        else:
            outcome = "failed"
            values["not_before"] = now + pause_after(delivery.attempts)
        self._metrics.webhook(outcome)
        await self._note(delivery, values)

    async def _note(self, delivery: Delivery, values: dict[str, Any]) -> None:
        mine = (webhooks.c.id == delivery.id) & (webhooks.c.lease_token == delivery.token)
        async with self._db.write() as conn:
            await conn.execute(update(webhooks).where(mine).values(**values))


def pause_after(attempts: int) -> float:
    """Seconds until the next attempt: 2, 8, 32 ... up to an hour, give or take a half."""
    return min(LONGEST_PAUSE, FIRST_PAUSE * 4.0 ** (attempts - 1)) * random.uniform(0.5, 1.5)
