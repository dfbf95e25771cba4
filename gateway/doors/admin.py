"""`/v1/admin`: keys, what they used, and how long things are kept; for keys with the scope `admin`."""

from __future__ import annotations

import asyncio
import time
from datetime import datetime
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Path, Query
from pydantic import AwareDatetime, Field
from sqlalchemy import func, select

from gateway import logs
from gateway.answers import instant
from gateway.documents import Document
from gateway.doors.deps import State, Who
from gateway.keys import Key
from gateway.problems import documented
from gateway.store import tables
from services.errors import BadInput, Conflict, Malformed, NotFound, Unavailable

PURGE_SECONDS = 30.0
_PURGE_BATCH = 200
_Word = r"^[^\x00-\x1f\x7f]+$"

Limit = Annotated[
    int,
    Field(
        strict=True, ge=-1, lt=2**31, description="0 takes the installation's default, -1 is without limit."
    ),
]


class KeyDocument(Document):
    id: str
    name: str
    scopes: list[Literal["use", "admin"]]
    rate: float = Field(description="Requests a second; 0 is the installation's default, -1 without limit.")
    daily_pictures: int
    concurrent_jobs: int
    weight: float = Field(description="Its share where keys wait for the same service.")
    live: bool = Field(description="Neither revoked nor expired.")
    created_at: str = Field(description="RFC 3339, UTC.")
    expires_at: str | None
    revoked_at: str | None
    last_used_at: str | None = Field(description="To the minute.")


class NewKeyDocument(KeyDocument):
    secret: str = Field(description="The key itself. It is shown this once and stored nowhere.")


class KeyList(Document):
    keys: list[KeyDocument]


class KeyRequest(Document):
    name: str = Field(min_length=1, max_length=120, pattern=_Word, examples=["studio"])
    scopes: list[Literal["use", "admin"]] = Field(["use"], min_length=1, max_length=2)
    rate: float = Field(
        0, strict=True, ge=-1, lt=2**31, allow_inf_nan=False, description="Requests a second."
    )
    daily_pictures: Limit = 0
    concurrent_jobs: Limit = 0
    weight: float = Field(1.0, strict=True, ge=0.01, le=100, allow_inf_nan=False)
    expires_at: AwareDatetime | None = Field(None, description="RFC 3339, with a time zone.")


class UsageDocument(Document):
    key_id: str
    name: str | None = Field(description="Null for `local`, and for keys of which nothing is known any more.")
    day: str = Field(description="YYYY-MM-DD, UTC.")
    pictures: int
    requests: int


class UsageReport(Document):
    usage: list[UsageDocument]


class WebhookSecret(Document):
    secret: str = Field(
        description="What a receiver verifies `Darkroom-Signature` with; docs/security.md shows how."
    )


class Kept(Document):
    jobs: int
    assets: int
    asset_bytes: int
    oldest_job_at: str | None
    oldest_asset_at: str | None


class Retention(Document):
    keep_jobs: float = Field(description="Seconds that finished jobs are kept.")
    keep_assets: float = Field(description="Seconds that pictures are kept.")
    kept: Kept


class Purged(Document):
    jobs: int
    assets: int
    complete: bool = Field(description="False where more is left than could be removed in one call.")


async def _operator(who: Who) -> None:
    logs.tell(door="admin")
    who.needs("admin")


router = APIRouter(prefix="/v1/admin", tags=["admin"], dependencies=[Depends(_operator)])


@router.get("/keys", responses=documented(Unavailable))
async def list_keys(state: State) -> KeyList:
    """All keys that ever were, the newest first."""
    return KeyList(keys=[KeyDocument(**_document(key)) for key in await state.keys.list()])


@router.post("/keys", status_code=201, responses=documented(BadInput, Malformed, Conflict, Unavailable))
async def create_key(state: State, ask: KeyRequest) -> NewKeyDocument:
    """Make a key; the answer is the only place where its secret ever shows."""
    caller, secret = await state.keys.create(
        ask.name,
        ask.scopes,
        ask.rate,
        ask.daily_pictures,
        ask.concurrent_jobs,
        ask.weight,
        _timestamp(ask.expires_at),
    )
    return NewKeyDocument(**_document(await state.keys.get(caller.key_id)), secret=secret)


@router.delete("/keys/{key}", responses=documented(BadInput, NotFound, Unavailable))
async def revoke_key(
    state: State,
    key: Annotated[str, Path(max_length=120, pattern=_Word, description="Its id, or its name.")],
) -> KeyDocument:
    """End a key; other gateways of the installation learn of it within five seconds."""
    return KeyDocument(**_document(await state.keys.revoke(key)))


@router.get("/usage", responses=documented(BadInput, Unavailable))
async def usage(
    state: State,
    key: Annotated[str | None, Query(max_length=64, pattern=_Word, description="A key's id.")] = None,
    days: Annotated[int, Query(ge=1, le=366, description="How many days back, today included.")] = 30,
) -> UsageReport:
    """Requests and pictures by key and day, the newest day first."""
    await state.limits.flush()
    names = {known.id: known.name for known in await state.keys.list()}
    found = await state.limits.usage(key, days)
    return UsageReport(
        usage=[
            UsageDocument(
                key_id=item.key_id,
                name=names.get(item.key_id),
                day=item.day,
                pictures=item.pictures,
                requests=item.requests,
            )
            for item in found
        ]
    )


@router.get("/webhook-secret", responses=documented())
async def webhook_secret(state: State) -> WebhookSecret:
    """What receivers of webhooks verify signatures with; the same for all webhooks of this installation."""
    return WebhookSecret(secret=state.signer.webhook_secret)


@router.get("/retention", responses=documented(Unavailable))
async def retention(state: State) -> Retention:
    """How long jobs and pictures are kept, and what there is now."""
    jobs, assets = tables.jobs, tables.assets
    async with state.db.read() as connection:
        job = (
            await connection.execute(select(func.count(), func.min(jobs.c.created_at)).select_from(jobs))
        ).one()
        asset = (
            await connection.execute(
                select(func.count(), func.min(assets.c.created_at), func.sum(assets.c.size)).select_from(
                    assets
                )
            )
        ).one()
    return Retention(
        keep_jobs=state.settings.keep_jobs,
        keep_assets=state.settings.keep_assets,
        kept=Kept(
            jobs=job[0],
            assets=asset[0],
            asset_bytes=int(asset[2] or 0),
            oldest_job_at=_instant(job[1]),
            oldest_asset_at=_instant(asset[1]),
        ),
    )


@router.post("/retention", responses=documented(Unavailable))
async def purge(state: State) -> Purged:
    """Remove now what has been kept for its time, instead of at the next regular round."""
    until = asyncio.get_running_loop().time() + PURGE_SECONDS
    jobs = await state.queue.purge(time.time() - state.settings.keep_jobs)
    assets, last = 0, _PURGE_BATCH
    while last == _PURGE_BATCH and asyncio.get_running_loop().time() < until:
        last = await state.assets.purge(_PURGE_BATCH)
        assets += last
    return Purged(jobs=jobs, assets=assets, complete=last < _PURGE_BATCH)


def _document(key: Key) -> dict[str, object]:
    return {
        "id": key.id,
        "name": key.name,
        "scopes": list(key.scopes),
        "rate": key.rate,
        "daily_pictures": key.daily_pictures,
        "concurrent_jobs": key.concurrent_jobs,
        "weight": key.weight,
        "live": key.live,
        "created_at": instant(key.created_at),
        "expires_at": _instant(key.expires_at),
        "revoked_at": _instant(key.revoked_at),
        "last_used_at": _instant(key.last_used_at),
    }


def _instant(at: float | None) -> str | None:
    return None if at is None else instant(at)


def _timestamp(at: datetime | None) -> float | None:
    return None if at is None else at.timestamp()
