"""One service's line of jobs in the store: who is next, who enters, leaves, is put back, or comes to an end.

Every function works inside the caller's transaction, and every one that changes a count wants the line locked
by `lock` before. So two changes to a line never meet half done, nor in a deadlock.
"""

from __future__ import annotations

import time
from dataclasses import fields
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import ColumnElement, Row, Table, and_, case, func, literal_column, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.jobs.job import Job, Outcome, new_id
from gateway.store.tables import jobs, lanes, lines, usage, webhooks
from services.errors import DarkroomError, ServiceFault
from services.operations import OPERATIONS

COLUMNS = [jobs.c[f.name] for f in fields(Job)]
# Written out, not bound: a partial index serves a query only where its condition is to be read in its text.
QUEUED: ColumnElement[bool] = jobs.c.state == literal_column("'queued'")
RUNNING: ColumnElement[bool] = jobs.c.state == literal_column("'running'")
READY = and_(QUEUED, jobs.c.not_before.is_(None))


async def lock(conn: AsyncConnection, service: str) -> tuple[float, int]:
    """The service's clock and how many jobs wait, both ours until the transaction ends."""
    query = select(lines.c.clock, lines.c.queued).where(lines.c.service == service).with_for_update()
    row = (await conn.execute(query)).one_or_none()
    if row is None:
        new = insert_into(conn, lines).values(service=service, clock=0.0, queued=0)
        await conn.execute(new.on_conflict_do_nothing())
        row = (await conn.execute(query)).one()
    return row.clock, row.queued


async def enter(
    conn: AsyncConnection,
    service: str,
    key_id: str,
    weight: float,
    clock: float,
    *,
    fresh: bool = True,
    counted: bool = False,
    refund: bool = False,
) -> None:
    """One more job is ready in this lane. `fresh`: it is a new one; `counted`: the line has it already."""
    later = case((lanes.c.finish > clock, lanes.c.finish), else_=clock)
    kept = lanes.c.start - 1 / lanes.c.weight if refund else lanes.c.start
    new = insert_into(conn, lanes).values(
        service=service, key_id=key_id, weight=weight, start=clock, finish=0.0, ready=1, unfinished=1
    )
    values: dict[str, Any] = {
        "start": case((lanes.c.ready == 0, later), else_=kept),
        "ready": lanes.c.ready + 1,
        "unfinished": lanes.c.unfinished + int(fresh),
    }
    if fresh:
        values["weight"] = weight
    await conn.execute(
        new.on_conflict_do_update(index_elements=[lanes.c.service, lanes.c.key_id], set_=values)
    )
    if not counted:
        await conn.execute(update(lines).where(lines.c.service == service).values(queued=lines.c.queued + 1))


async def leave(conn: AsyncConnection, job: Job) -> None:
    """A queued job is queued no more."""
    if job.not_before is None:
        await conn.execute(update(lanes).where(_lane(job)).values(ready=lanes.c.ready - 1))
    await conn.execute(update(lines).where(lines.c.service == job.service).values(queued=lines.c.queued - 1))


async def put_back(
    conn: AsyncConnection,
    job: Job,
    clock: float,
    costs_attempt: bool,
    reason: DarkroomError | None,
    pause: float,
) -> Job:
    if job.cancel_asked:
        return await end(conn, job, Outcome("cancelled"))
    if costs_attempt and job.attempt >= job.attempts_allowed:
        error = reason or ServiceFault("The last attempt was given up without a reason.")
        return await end(conn, job, Outcome("failed", error=error.problem()))
    job.state, job.progress = "queued", None
    job.attempt -= 0 if costs_attempt else 1
    job.not_before = time.time() + pause if pause else None
    await conn.execute(
        update(jobs)
        .where(jobs.c.id == job.id)
        .values(
            state="queued",
            attempt=job.attempt,
            not_before=job.not_before,
            progress=None,
            lease_token=None,
            lease_owner=None,
            lease_until=None,
        )
    )
    if job.not_before is None:
        await enter(conn, job.service, job.owner, job.weight, clock, fresh=False, refund=not costs_attempt)
    else:
        await conn.execute(
            update(lines).where(lines.c.service == job.service).values(queued=lines.c.queued + 1)
        )
    return job


async def end(conn: AsyncConnection, job: Job, outcome: Outcome) -> Job:
    """The job's last change: its outcome becomes visible, and its webhook due."""
    now = time.time()
    row = (
        await conn.execute(
            update(jobs)
            .where(jobs.c.id == job.id)
            .values(
                state=outcome.state,
                pictures=outcome.pictures,
                data=outcome.data,
                error=outcome.error,
                timing=outcome.timing,
                progress=jobs.c.progress if outcome.progress is None else outcome.progress,
                model=outcome.model or jobs.c.model,
                not_before=None,
                lease_until=None,
                finished_at=now,
            )
            .returning(*COLUMNS)
        )
    ).one()
    await conn.execute(update(lanes).where(_lane(job)).values(unfinished=lanes.c.unfinished - 1))
    if outcome.state != "succeeded":
        await _give_back(conn, job)
    if job.webhook:
        await conn.execute(
            webhooks.insert(),
            {
                "id": new_id("hook"),
                "job_id": job.id,
                "job_state": outcome.state,
                "url": job.webhook,
                "attempts": 0,
                "not_before": now,
                "created_at": now,
            },
        )
    return to_job(row)


async def _give_back(conn: AsyncConnection, job: Job) -> None:
    """The pictures that were counted for its key when it was submitted, and that it did not make."""
    operation = OPERATIONS.get(job.operation)
    if operation is None or operation.answers != "pictures":
        return
    day = datetime.fromtimestamp(job.created_at, UTC).strftime("%Y-%m-%d")
    counted = and_(usage.c.key_id == job.owner, usage.c.day == day)
    unmade = int(job.params.get("count", 1))
    await conn.execute(update(usage).where(counted).values(pictures=usage.c.pictures - unmade))


async def next_lane(conn: AsyncConnection, service: str) -> Row[Any] | None:
    return (
        await conn.execute(
            select(lanes)
            .where(lanes.c.service == service, lanes.c.ready > literal_column("0"))
            .order_by(lanes.c.start, lanes.c.key_id)
            .limit(1)
        )
    ).one_or_none()


async def unfinished(conn: AsyncConnection, key_id: str) -> int:
    total = select(func.coalesce(func.sum(lanes.c.unfinished), 0)).where(lanes.c.key_id == key_id)
    return int((await conn.execute(total)).scalar_one())


def _lane(job: Job) -> ColumnElement[bool]:
    return and_(lanes.c.service == job.service, lanes.c.key_id == job.owner)


def to_job(row: Any) -> Job:
    return Job(*row[: len(COLUMNS)])


def insert_into(conn: AsyncConnection, table: Table) -> Any:
    """The dialect's own INSERT, which knows ON CONFLICT; the two databases say it alike."""
    return (postgresql if conn.dialect.name == "postgresql" else sqlite).insert(table)
