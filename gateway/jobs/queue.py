"""The queue of jobs, which is the SQL store itself: submissions go in, leased claims come out, results stay.

Fair by start-time fair queueing: every key with jobs at a service has a *lane*, whose `start` is the virtual
time of its next job. A claim takes the lane with the smallest start, sets the service's clock to it, and
charges the lane `1 / weight`. A lane that was empty starts at the clock, or where it last finished if that is
later: idleness earns nothing. Within a lane the highest priority goes first, then the oldest. So a claim
reads one row of `lanes` and one of `jobs`, each at the head of an index, however many wait.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections import defaultdict
from collections.abc import Sequence
from typing import Any, Literal

from sqlalchemy import ColumnElement, and_, case, delete, func, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.jobs import idempotent, line
from gateway.jobs.job import Claim, Depth, Job, NewJob, Outcome, new_id
from gateway.settings import Settings
from gateway.store.database import Database
from gateway.store.tables import jobs, lanes, lines, webhooks
from services.errors import DarkroomError, LineFull, ServiceFault, TooManyRequests

_BATCH = 200


class JobQueue:
    def __init__(self, database: Database, settings: Settings) -> None:
        self._db, self._settings = database, settings
        self._wake: defaultdict[str, asyncio.Event] = defaultdict(asyncio.Event)
        self._cancel_asked = asyncio.Event()
        self.leases_lost = 0  # that this process has found run out

    # ── from the doors ──────────────────────────────────────────────────────────────────────────────────────

    async def submit(self, new: NewJob) -> tuple[Job, bool]:
        """The job and whether it is new; an `Idempotency-Key` of the last 24 hours gives the first job."""
        now = time.time()
        job = Job(
            id=new_id(),
            owner=new.owner,
            operation=new.operation,
            service=new.service,
            state="queued",
            params=new.params,
            priority=new.priority,
            weight=new.weight,
            attempt=0,
            attempts_allowed=self._settings.job_attempts,
            not_before=None,
            cancel_asked=False,
            model=None,
            progress=None,
            pictures=[],
            data=None,
            error=None,
            timing=None,
            webhook=new.webhook,
            request_id=new.request_id,
            created_at=now,
            started_at=None,
            finished_at=None,
        )
        async with self._db.write() as conn:
            clock, queued = await line.lock(conn, new.service)
            if new.idempotency_key and (first := await idempotent.seen(conn, new, now)):
                return first, False
            await self._admit(conn, new, queued)
            await conn.execute(
                jobs.insert(), {column.name: getattr(job, column.name) for column in line.COLUMNS}
            )
            if new.idempotency_key:
                await idempotent.remember(conn, new, job)
            await line.enter(conn, new.service, new.owner, new.weight, clock)
        self._wake[new.service].set()
        return job, True

    async def get(self, job_id: str) -> Job | None:
        async with self._db.read() as conn:
            row = (await conn.execute(select(*line.COLUMNS).where(jobs.c.id == job_id))).one_or_none()
        return line.to_job(row) if row else None

    async def list(
        self,
        owner: str | None = None,
        state: str | None = None,
        operation: str | None = None,
        before: str | None = None,
        limit: int = 50,
    ) -> list[Job]:
        """The newest first; `before` is the id of the last job of the page before."""
        query = select(*line.COLUMNS).order_by(jobs.c.id.desc()).limit(limit)
        for column, value in ((jobs.c.owner, owner), (jobs.c.state, state), (jobs.c.operation, operation)):
            if value is not None:
                query = query.where(column == value)
        if before is not None:
            query = query.where(jobs.c.id < before)
        async with self._db.read() as conn:
            return [line.to_job(row) for row in await conn.execute(query)]

    async def cancel(self, job_id: str) -> Job | None:
        """At once where it waits; where it runs, `renew` tells its worker. A finished job stays as it is."""
        job = await self.get(job_id)
        if job is None or job.final:
            return job
        async with self._db.write() as conn:
            await line.lock(conn, job.service)
            job = line.to_job((await conn.execute(select(*line.COLUMNS).where(jobs.c.id == job_id))).one())
            if job.state == "running":
                await conn.execute(update(jobs).where(jobs.c.id == job_id).values(cancel_asked=True))
                job.cancel_asked = True
            elif job.state == "queued":
                await line.leave(conn, job)
                job = await line.end(conn, job, Outcome("cancelled"))
        if not job.final:
            self._cancel_asked.set()
        return job

    async def unfinished(self, key_id: str) -> int:
        async with self._db.read() as conn:
            return await line.unfinished(conn, key_id)

    async def depths(self) -> dict[str, Depth]:
        """What waits and runs, for each service that ever had a job."""
        oldest = (
            select(jobs.c.created_at)
            .where(jobs.c.service == lines.c.service, line.QUEUED)
            .order_by(jobs.c.id)
            .limit(1)
            .scalar_subquery()
        )
        now = time.time()
        async with self._db.read() as conn:
            count = select(jobs.c.service, func.count()).where(line.RUNNING).group_by(jobs.c.service)
            running: dict[str, int] = dict([tuple(row) for row in await conn.execute(count)])
            waiting = (await conn.execute(select(lines.c.service, lines.c.queued, oldest))).all()
        return {
            service: Depth(queued, running.get(service, 0), max(0.0, now - first) if first else 0.0)
            for service, queued, first in waiting
        }

    # ── from the dispatcher ─────────────────────────────────────────────────────────────────────────────────

    async def wait(self, service: str, seconds: float) -> None:
        """Until something may have become ready, or `seconds` have passed."""
        await _news(self._wake[service], seconds)

    async def wait_for_cancellation(self, seconds: float) -> None:
        """Until someone may have asked, in this process, to cancel a running job, or `seconds` have passed."""
        await _news(self._cancel_asked, seconds)

    async def cancellations(self, owner: str) -> set[str]:
        """Of the jobs that `owner` runs, those that are to be cancelled."""
        query = select(jobs.c.id).where(line.RUNNING, jobs.c.lease_owner == owner, jobs.c.cancel_asked)
        async with self._db.read() as conn:
            return set((await conn.execute(query)).scalars())

    async def peek(self, service: str) -> tuple[str, float] | None:
        """The key whose job would be claimed next, and its weight."""
        async with self._db.read() as conn:
            lane = await line.next_lane(conn, service)
        return (lane.key_id, lane.weight) if lane else None

    async def claim(self, service: str, owner: str) -> Claim | None:
        now, token = time.time(), secrets.token_hex(16)
        async with self._db.write() as conn:
            await line.lock(conn, service)
            lane = await line.next_lane(conn, service)
            if lane is None:
                return None
            first = (
                select(jobs.c.id)
                .where(jobs.c.service == service, jobs.c.owner == lane.key_id, line.READY)
                .order_by(jobs.c.priority.desc(), jobs.c.id)
                .limit(1)
                .with_for_update(skip_locked=True)
                .scalar_subquery()
            )
            row = (
                await conn.execute(
                    update(jobs)
                    .where(jobs.c.id == first)
                    .values(
                        state="running",
                        attempt=jobs.c.attempt + 1,
                        lease_token=token,
                        lease_owner=owner,
                        lease_until=now + self._settings.lease,
                        started_at=now,
                        progress=None,
                    )
                    .returning(*line.COLUMNS)
                )
            ).one_or_none()
            if row is None:  # locked by a hand that is not ours; it will be there the next time
                return None
            await conn.execute(
                update(lanes)
                .where(lanes.c.service == service, lanes.c.key_id == lane.key_id)
                .values(
                    start=lane.start + 1 / lane.weight,
                    finish=lane.start + 1 / lane.weight,
                    ready=lanes.c.ready - 1,
                )
            )
            await conn.execute(
                update(lines)
                .where(lines.c.service == service)
                .values(
                    clock=case((lines.c.clock < lane.start, lane.start), else_=lines.c.clock),
                    queued=lines.c.queued - 1,
                )
            )
        return Claim(line.to_job(row), token, owner)

    async def renew(
        self, claim: Claim, *, progress: dict[str, Any] | None = None, model: str | None = None
    ) -> Literal["held", "cancelled", "lost"]:
        """Extend the lease, and note how far the work is; says whether to go on."""
        values: dict[str, Any] = {"lease_until": time.time() + self._settings.lease}
        if progress is not None:
            values["progress"] = progress
        if model is not None:
            values["model"] = model
        async with self._db.write() as conn:
            asked = (
                await conn.execute(
                    update(jobs).where(_held(claim)).values(values).returning(jobs.c.cancel_asked)
                )
            ).scalar_one_or_none()
        if asked is None:
            return "lost"
        return "cancelled" if asked else "held"

    async def finish(self, claim: Claim, outcome: Outcome) -> bool:
        """True when the outcome is the job's, also when asked again; False when the lease was lost before."""
        async with self._db.write() as conn:
            await line.lock(conn, claim.job.service)
            row = (
                await conn.execute(select(*line.COLUMNS, jobs.c.lease_token).where(jobs.c.id == claim.job.id))
            ).one_or_none()
            if row is None or row.lease_token != claim.token:
                return False
            if row.state != "running":
                return bool(row.state == outcome.state)
            await line.end(conn, line.to_job(row), outcome)
        return True

    async def release(
        self,
        claim: Claim,
        *,
        costs_attempt: bool,
        reason: DarkroomError | None = None,
        pause: float = 0.0,
    ) -> Job | None:
        """Put the job back in its place, after `pause` seconds; the job then, None if the lease was lost.

        A job whose last attempt this was fails with `reason`; one that was to be cancelled is.
        """
        async with self._db.write() as conn:
            clock, _ = await line.lock(conn, claim.job.service)
            row = (await conn.execute(select(*line.COLUMNS).where(_held(claim)))).one_or_none()
            job = (
                await line.put_back(conn, line.to_job(row), clock, costs_attempt, reason, pause)
                if row
                else None
            )
        if job is not None and not pause:
            self._wake[job.service].set()
        return job

    async def sweep(self) -> Sequence[Job]:
        """Give jobs whose lease ran out, and those whose pause is over, back to their lanes; what changed."""
        now = time.time()
        expired, over = (
            and_(line.RUNNING, jobs.c.lease_until < now),
            and_(line.QUEUED, jobs.c.not_before <= now),
        )
        async with self._db.read() as conn:
            services: set[str] = set()
            for due in (expired, over):
                services.update(
                    (await conn.execute(select(jobs.c.service).where(due).distinct().limit(_BATCH))).scalars()
                )
        changed: list[Job] = []
        for service in sorted(services):
            async with self._db.write() as conn:
                clock, _ = await line.lock(conn, service)
                here = jobs.c.service == service
                for row in (
                    await conn.execute(select(*line.COLUMNS).where(expired, here).limit(_BATCH))
                ).all():
                    job = line.to_job(row)
                    changed.append(await line.put_back(conn, job, clock, True, _fell_silent(job), 0.0))
                    self.leases_lost += 1
                for row in (await conn.execute(select(*line.COLUMNS).where(over, here).limit(_BATCH))).all():
                    job = line.to_job(row)
                    await conn.execute(update(jobs).where(jobs.c.id == job.id).values(not_before=None))
                    await line.enter(conn, service, job.owner, job.weight, clock, fresh=False, counted=True)
                    changed.append(job)
            self._wake[service].set()
        return changed

    # ── retention ───────────────────────────────────────────────────────────────────────────────────────────

    async def purge(self, older_than: float) -> int:
        """Forget jobs that finished before `older_than`, and what hangs on nothing; how many jobs."""
        now, gone = time.time(), 0
        while True:
            async with self._db.write() as conn:
                old = select(jobs.c.id).where(jobs.c.finished_at < older_than).limit(_BATCH)
                ids = (await conn.execute(old)).scalars().all()
                if ids:
                    await conn.execute(delete(webhooks).where(webhooks.c.job_id.in_(ids)))
                    await conn.execute(delete(jobs).where(jobs.c.id.in_(ids)))
            gone += len(ids)
            if len(ids) < _BATCH:
                break
        async with self._db.write() as conn:
            await idempotent.forget(conn, now)
        async with self._db.read() as conn:
            services = (await conn.execute(select(lines.c.service))).scalars().all()
        for service in services:
            async with self._db.write() as conn:
                clock, _ = await line.lock(conn, service)
                # a lane that owes nothing would start at the clock anyway
                await conn.execute(
                    delete(lanes).where(
                        lanes.c.service == service, lanes.c.unfinished == 0, lanes.c.finish <= clock
                    )
                )
        return gone

    # ── inside submit's transaction

    async def _admit(self, conn: AsyncConnection, new: NewJob, queued: int) -> None:
        if queued >= self._settings.queue_limit:
            raise LineFull(f"{queued} jobs wait for {new.service} already.", retry_after=30)
        if (
            new.concurrent_jobs
            and (unfinished := await line.unfinished(conn, new.owner)) >= new.concurrent_jobs
        ):
            raise TooManyRequests(
                f"This key has {unfinished} unfinished jobs, and may have {new.concurrent_jobs}.",
                help="Wait until one of them is finished, or cancel one.",
                retry_after=5,
            )


def _held(claim: Claim) -> ColumnElement[bool]:
    return and_(jobs.c.id == claim.job.id, jobs.c.lease_token == claim.token, line.RUNNING)


def _fell_silent(job: Job) -> ServiceFault:
    return ServiceFault(
        f"The work was begun {job.attempt} times, and each time the one who did it fell silent.",
        help="Try again; if it stays, the operator finds why in the logs of the service.",
    )


async def _news(event: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return
    event.clear()
