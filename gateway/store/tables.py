"""Every table, as SQLAlchemy Core metadata, the same on SQLite and PostgreSQL.

Times are seconds since 1970 in UTC. A change here needs a migration in `migrations/versions`; a test compares
the two.
"""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Double,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    text,
)

metadata = MetaData()


def _json() -> JSON:
    return JSON(none_as_null=True)


# ── jobs ────────────────────────────────────────────────────────────────────────────────────────────────────

jobs = Table(
    "jobs",
    metadata,
    Column("id", String(64), primary_key=True),  # sorts by time of submission
    Column("owner", String(64), nullable=False),  # a key's id
    Column("operation", String(120), nullable=False),
    Column("service", String(120), nullable=False),
    Column("state", String(16), nullable=False),
    Column("params", _json(), nullable=False),
    Column("priority", Integer, nullable=False),
    Column("weight", Double, nullable=False),  # of the key, when the job was submitted
    Column("attempt", Integer, nullable=False),
    Column("attempts_allowed", Integer, nullable=False),
    Column("not_before", Double),  # a queued job that waits out a pause; null: it may be claimed
    Column("lease_token", String(64)),  # stays after the end, so that a repeated finish knows its own work
    Column("lease_owner", String(120)),
    Column("lease_until", Double),
    Column("cancel_asked", Boolean, nullable=False),
    Column("model", String(120)),
    Column("progress", _json()),
    Column("pictures", _json(), nullable=False),
    Column("data", _json()),
    Column("error", _json()),
    Column("timing", _json()),
    Column("webhook", Text),
    Column("request_id", String(120), nullable=False),
    Column("created_at", Double, nullable=False),
    Column("started_at", Double),
    Column("finished_at", Double),
)
Index(
    "jobs_ready",
    jobs.c.service,
    jobs.c.owner,
    jobs.c.priority.desc(),
    jobs.c.id,
    sqlite_where=text("state = 'queued' AND not_before IS NULL"),
    postgresql_where=text("state = 'queued' AND not_before IS NULL"),
)
Index(
    "jobs_queued",
    jobs.c.service,
    jobs.c.id,
    sqlite_where=text("state = 'queued'"),
    postgresql_where=text("state = 'queued'"),
)
Index(
    "jobs_paused",
    jobs.c.not_before,
    sqlite_where=text("not_before IS NOT NULL"),
    postgresql_where=text("not_before IS NOT NULL"),
)
Index(
    "jobs_leased",
    jobs.c.lease_until,
    sqlite_where=text("state = 'running'"),
    postgresql_where=text("state = 'running'"),
)
Index(
    "jobs_finished",
    jobs.c.finished_at,
    sqlite_where=text("finished_at IS NOT NULL"),
    postgresql_where=text("finished_at IS NOT NULL"),
)
Index("jobs_of_owner", jobs.c.owner, jobs.c.id)

# One row for each service: the virtual clock of its fair queue, and how many jobs wait. Whoever changes the
# service's counts locks this row first, so that two such changes never meet half done, nor in a deadlock.
lines = Table(
    "lines",
    metadata,
    Column("service", String(120), primary_key=True),
    Column("clock", Double, nullable=False),
    Column("queued", Integer, nullable=False),  # paused ones included
)

# One row for each key that has, or lately had, jobs at a service: its place in the fair queue.
lanes = Table(
    "lanes",
    metadata,
    Column("service", String(120), primary_key=True),
    Column("key_id", String(64), primary_key=True),
    Column("weight", Double, nullable=False),
    Column("start", Double, nullable=False),  # virtual time at which its next job's turn comes
    Column("finish", Double, nullable=False),  # virtual time at which its last claimed job is paid for
    Column("ready", Integer, nullable=False),  # jobs that may be claimed
    Column("unfinished", Integer, nullable=False),  # ready, paused and running
)
Index(
    "lanes_next",
    lanes.c.service,
    lanes.c.start,
    lanes.c.key_id,
    sqlite_where=text("ready > 0"),
    postgresql_where=text("ready > 0"),
)
Index("lanes_of_key", lanes.c.key_id)

idempotency = Table(
    "idempotency",
    metadata,
    Column("key_id", String(64), primary_key=True),
    Column("idempotency_key", String(255), primary_key=True),
    Column("body_hash", String(64), nullable=False),
    Column("job_id", String(64), nullable=False),
    Column("created_at", Double, nullable=False),
)
Index("idempotency_age", idempotency.c.created_at)

# What is to be told to whom, once for each job and final state.
webhooks = Table(
    "webhooks",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("job_id", String(64), nullable=False),
    Column("job_state", String(16), nullable=False),
    Column("url", Text, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("not_before", Double),  # null: delivered, or given up
    Column("lease_token", String(64)),
    Column("status", Integer),  # the last answer's
    Column("problem", Text),  # why the last attempt failed
    Column("created_at", Double, nullable=False),
    Column("delivered_at", Double),
    UniqueConstraint("job_id", "job_state", name="webhooks_once"),
)
Index(
    "webhooks_due",
    webhooks.c.not_before,
    sqlite_where=text("not_before IS NOT NULL"),
    postgresql_where=text("not_before IS NOT NULL"),
)

# ── keys ────────────────────────────────────────────────────────────────────────────────────────────────────

keys = Table(
    "keys",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("name", String(120), nullable=False),
    Column("hash", String(64), nullable=False),  # SHA-256 of the secret, in hex
    Column("scopes", _json(), nullable=False),
    Column("rate", Double, nullable=False),
    Column("daily_pictures", Integer, nullable=False),
    Column("concurrent_jobs", Integer, nullable=False),
    Column("weight", Double, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("expires_at", Double),
    Column("revoked_at", Double),
    Column("last_used_at", Double),
    UniqueConstraint("hash", name="keys_hash"),
)

usage = Table(
    "usage",
    metadata,
    Column("key_id", String(64), primary_key=True),
    Column("day", String(10), primary_key=True),  # 2026-11-21, UTC
    Column("pictures", Integer, nullable=False),
    Column("requests", Integer, nullable=False),
)
Index("usage_day", usage.c.day)

# ── pictures ────────────────────────────────────────────────────────────────────────────────────────────────

assets = Table(
    "assets",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("owner", String(64), nullable=False),
    Column("kind", String(16), nullable=False),  # input, result or preview
    Column("sha256", String(64), nullable=False),
    Column("media_type", String(120), nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("width", Integer),
    Column("height", Integer),
    Column("seed", BigInteger),
    Column("operation", String(120)),
    Column("job_id", String(64)),
    Column("created_at", Double, nullable=False),
    Column("expires_at", Double),
)
Index("assets_of_owner", assets.c.owner, assets.c.created_at)
Index("assets_of_job", assets.c.job_id)
Index(
    "assets_expiring",
    assets.c.expires_at,
    sqlite_where=text("expires_at IS NOT NULL"),
    postgresql_where=text("expires_at IS NOT NULL"),
)
