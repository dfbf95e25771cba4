"""Which request made which job, for a day: a repeat under the same Idempotency-Key finds its first job.

Every function works inside the transaction that submits the job, so the note and the job come together or not at all.
"""

from __future__ import annotations

from sqlalchemy import and_, delete, select
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.jobs import line
from gateway.jobs.job import Job, NewJob
from gateway.store.tables import idempotency, jobs
from services.errors import IdempotencyMismatch

SECONDS = 86_400.0


async def seen(conn: AsyncConnection, new: NewJob, now: float) -> Job | None:
    mine = and_(idempotency.c.key_id == new.owner, idempotency.c.idempotency_key == new.idempotency_key)
    row = (await conn.execute(select(idempotency).where(mine))).one_or_none()
    if row is None:
        return None
    found = (await conn.execute(select(*line.COLUMNS).where(jobs.c.id == row.job_id))).one_or_none()
    if found is None or row.created_at < now - SECONDS:
        await conn.execute(delete(idempotency).where(mine))
        return None
    if row.body_hash != new.body_hash:
        raise IdempotencyMismatch(f"This Idempotency-Key made the job {row.job_id} from another request.")
    return line.to_job(found)


async def remember(conn: AsyncConnection, new: NewJob, job: Job) -> None:
    note = line.insert_into(conn, idempotency).values(
        key_id=new.owner,
        idempotency_key=new.idempotency_key,
        body_hash=new.body_hash,
        job_id=job.id,
        created_at=job.created_at,
    )
    # a conflict can only come from another service's line, so from another request
    if not (await conn.execute(note.on_conflict_do_nothing())).rowcount:
        raise IdempotencyMismatch("This Idempotency-Key is just being used for another request.")


async def forget(conn: AsyncConnection, now: float) -> None:
    await conn.execute(delete(idempotency).where(idempotency.c.created_at < now - SECONDS))
