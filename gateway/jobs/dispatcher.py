"""Carries jobs from the queue to the services: for each service it takes turns, claims jobs, and runs attempts.

Jobs and synchronous calls share a service's fair line: the dispatcher looks whose job is next, waits for a turn in
that key's name, and only then claims. So a job is claimed when there is room for it, never to wait with a lease.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket

from gateway.jobs.attempt import Attempt
from gateway.jobs.ended import tell_end
from gateway.state import GatewayState
from gateway.upstream import Pool
from services.errors import DarkroomError, Unavailable

log = logging.getLogger("darkroom.jobs")

POLL = 1.0  # seconds between two looks into a queue that is not known to have changed
TURN_SECONDS = 5.0  # after which the dispatcher looks anew whose job is next
AT_ONCE = 256  # attempts of one service in this process, however much room its endpoints have


class Dispatcher:
    def __init__(self, state: GatewayState, owner: str = "") -> None:
        self._state = state
        self._owner = owner or f"{socket.gethostname()}:{os.getpid()}"
        self._attempts: dict[asyncio.Task[None], Attempt] = {}
        self._loops: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        for service in self._state.settings.services:
            pool = self._state.upstream.pool(service)
            self._loops.append(asyncio.create_task(self._feed(service, pool), name=f"jobs of {service}"))
        self._loops.append(asyncio.create_task(self._sweep(), name="sweep"))
        self._loops.append(asyncio.create_task(self._cancellations(), name="cancellations"))

    async def stop(self, seconds: float = 5.0) -> None:
        """Claim nothing more; hand running jobs back at their next step, or after `seconds` where they are."""
        for loop in self._loops:
            loop.cancel()
        await asyncio.gather(*self._loops, return_exceptions=True)
        self._loops.clear()
        for attempt in self._attempts.values():
            attempt.drain()
        if self._attempts:
            await asyncio.wait(self._attempts, timeout=seconds)
        for attempt in self._attempts.values():
            attempt.end("drained")
        if self._attempts:
            await asyncio.wait(self._attempts, timeout=seconds + 5)

    @property
    def running(self) -> int:
        return len(self._attempts)

    async def _feed(self, service: str, pool: Pool) -> None:
        room = asyncio.Semaphore(AT_ONCE)
        while True:
            await room.acquire()
            attempt = None
            try:
                attempt = await self._next(service, pool)
            except DarkroomError as error:
                # no endpoint yet, a full line, a database that is away: the jobs wait where they are
                log.debug("no job of %s begun: %s", service, error.detail)
                await asyncio.sleep(POLL)
            except Exception:
                log.exception("looking for jobs of %s broke; trying again", service)
                await asyncio.sleep(POLL)
            finally:
                if attempt is None:
                    room.release()
            if attempt is not None:
                task = asyncio.create_task(self._run(attempt, room), name=f"attempt {attempt.job.id}")
                self._attempts[task] = attempt
                task.add_done_callback(self._attempts.pop)

    async def _next(self, service: str, pool: Pool) -> Attempt | None:
        queue = self._state.queue
        lane = await queue.peek(service)
        if lane is None:
            await queue.wait(service, POLL)
            return None
        key_id, weight = lane
        deadline = asyncio.get_running_loop().time() + TURN_SECONDS
        turn = pool.turn(key_id=key_id, weight=weight, deadline=deadline, bounded=False)
        # the attempt ends the turn, in a task of its own, so no `async with` spans it
        await turn.__aenter__()
        claiming = asyncio.create_task(queue.claim(service, self._owner))
        try:
            claim = await asyncio.shield(claiming)
        except asyncio.CancelledError:
            # a claim that is just being committed would cost the job a lease and an attempt
            turn.let_go()
            if (claim := await claiming) is not None:
                await queue.release(claim, costs_attempt=False)
            raise
        except DarkroomError:
            turn.let_go()
            raise
        if claim is None:
            turn.let_go()
            return None
        return Attempt(self._state, claim, turn)

    async def _run(self, attempt: Attempt, room: asyncio.Semaphore) -> None:
        try:
            await attempt.run()
        except Exception:
            # its lease runs out, and the sweep gives the job to another
            log.exception("the attempt at %s could not be concluded", attempt.job.id)
        finally:
            room.release()

    async def _sweep(self) -> None:
        state = self._state
        while True:
            await asyncio.sleep(min(POLL, state.settings.lease / 3))
            try:
                for job in await state.queue.sweep():
                    if job.final:
                        await tell_end(state, job)
            except Unavailable as error:
                state.metrics.fault("database")
                log.warning("the queue could not be swept: %s", error.detail)
            except Exception:
                log.exception("the sweep of the queue broke; trying again")

    async def _cancellations(self) -> None:
        """Renewing would notice as well, but only at a third of the lease."""
        queue = self._state.queue
        while True:
            await queue.wait_for_cancellation(POLL)
            if not self._attempts:
                continue
            try:
                asked = await queue.cancellations(self._owner)
            except Unavailable as error:
                log.debug("no look at cancellations: %s", error.detail)
                continue
            for attempt in list(self._attempts.values()):
                if attempt.job.id in asked:
                    attempt.end("cancelled")
