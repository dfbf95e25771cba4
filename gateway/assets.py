"""Pictures that are kept: bytes in an object store (a folder or S3), what is known of them in the database.

An asset is immutable: a random id, an owner, the SHA-256 as its ETag. It is readable by its owner, by an admin
key, or by a signed link, and goes when its time is over.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import secrets
import time
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

import obstore
from obstore.store import LocalStore, ObjectStore, from_url
from sqlalchemy import delete, insert, select
from sqlalchemy.engine import RowMapping

from gateway.blobs import Blob, StoredBlob
from gateway.callers import Caller
from gateway.settings import Settings
from gateway.store.database import Database
from gateway.store.tables import assets as table
from services.errors import NotFound, Unavailable

log = logging.getLogger("darkroom.assets")

STORE_TIMEOUT = 60.0
_PIECE = 256 * 1024
_SMALL = 4 * 2**20  # put at once; larger pictures go up in pieces

AssetKind = Literal["input", "result", "preview"]


@dataclass(frozen=True, slots=True)
class Asset:
    id: str
    owner: str
    sha256: str
    media_type: str
    size: int
    width: int | None
    height: int | None
    seed: int | None
    operation: str | None
    job_id: str | None
    kind: str
    created_at: float
    expires_at: float

    @property
    def key(self) -> str:
        """Where its bytes are: spread over folders, so that no listing grows without end."""
        return f"{self.id[4:6]}/{self.id}"

    def document(self, base: str = "") -> dict[str, Any]:
        return {
            "id": self.id,
            "url": f"{base}/v1/assets/{self.id}",
            "media_type": self.media_type,
            "bytes": self.size,
            "width": self.width,
            "height": self.height,
            "seed": self.seed,
            "operation": self.operation,
            "job": self.job_id,
            "kind": self.kind,
            "sha256": self.sha256,
            "created_at": self.created_at,
            "expires_at": self.expires_at,
        }


class Assets:
    def __init__(
        self, settings: Settings, db: Database, fault: Callable[[str], None] = lambda _: None
    ) -> None:
        self._db, self._keep, self._fault = db, settings.keep_assets, fault
        self._store = _open(settings)

    async def put(
        self,
        pieces: AsyncIterator[bytes],
        *,
        owner: str,
        media_type: str,
        kind: AssetKind = "result",
        width: int | None = None,
        height: int | None = None,
        seed: int | None = None,
        operation: str | None = None,
        job_id: str | None = None,
    ) -> Asset:
        """Keep what `pieces` bring; the row is written last, so an asset that can be seen is whole."""
        now = time.time()
        asset_id = f"ast_{secrets.token_hex(13)}"
        counted = _Counted(pieces)
        key = f"{asset_id[4:6]}/{asset_id}"
        try:
            await self._bounded(
                obstore.put_async(self._store, key, counted, chunk_size=5 * 2**20, max_concurrency=2)
            )
        except FileNotFoundError as error:
            raise Unavailable(
                f"The picture store is not there: {_reason(error)}.",
                help="Make the bucket or folder that DARKROOM_STORAGE_URL names; `darkroom doctor` tries it.",
            ) from error
        asset = Asset(
            id=asset_id,
            owner=owner,
            sha256=counted.digest.hexdigest(),
            media_type=media_type,
            size=counted.size,
            width=width,
            height=height,
            seed=seed,
            operation=operation,
            job_id=job_id,
            kind=kind,
            created_at=now,
            expires_at=now + self._keep,
        )
        async with self._db.write() as connection:
            await connection.execute(
                insert(table).values({name: getattr(asset, name) for name in Asset.__slots__})
            )
        return asset

    async def get(self, asset_id: str, caller: Caller | None) -> Asset:
        """The asset, if `caller` may see it; None stands for the bearer of a signed link."""
        async with self._db.read() as connection:
            row = (await connection.execute(select(table).where(table.c.id == asset_id))).mappings().first()
        asset = _asset(row) if row else None
        if asset is None or asset.expires_at < time.time() or (caller and not caller.may_see(asset.owner)):
            raise NotFound(
                f"There is no asset {asset_id!r} that you may read; assets are kept for a set time."
            )
        return asset

    async def blob(self, asset_id: str, caller: Caller) -> Blob:
        asset = await self.get(asset_id, caller)
        return StoredBlob(asset.size, asset.media_type, lambda: self.read(asset))

    async def read(self, asset: Asset, start: int = 0, end: int | None = None) -> AsyncIterator[bytes]:
        """Its bytes from `start` up to, not with, `end`."""
        span = None if start == 0 and end is None else (start, asset.size if end is None else end)
        options: Any = {"range": span} if span else None
        try:
            result = await self._bounded(obstore.get_async(self._store, asset.key, options=options))
        except FileNotFoundError as error:
            raise NotFound(f"The bytes of asset {asset.id!r} are gone from the store.") from error
        return _pieces(result)

    async def page(self, owner: str | None, *, before: str | None, limit: int) -> list[Asset]:
        """Newest first; `before` is the id that the last page ended with."""
        query = select(table).where(table.c.expires_at >= time.time())
        if owner is not None:
            query = query.where(table.c.owner == owner)
        async with self._db.read() as connection:
            if before is not None:
                at = (
                    await connection.execute(select(table.c.created_at).where(table.c.id == before))
                ).scalar()
                if at is None:
                    raise NotFound(f"There is no asset {before!r} to go on from.")
                query = query.where(
                    (table.c.created_at < at) | ((table.c.created_at == at) & (table.c.id < before))
                )
            rows = await connection.execute(
                query.order_by(table.c.created_at.desc(), table.c.id.desc()).limit(limit)
            )
            return [_asset(row) for row in rows.mappings()]

    async def delete(self, asset_id: str, caller: Caller) -> None:
        asset = await self.get(asset_id, caller)
        await self._remove([asset])

    async def discard(self, asset_ids: list[str]) -> None:
        """Delete results that nobody shall see, as those of an attempt whose lease was lost."""
        async with self._db.read() as connection:
            rows = await connection.execute(select(table).where(table.c.id.in_(asset_ids)))
            found = [_asset(row) for row in rows.mappings()]
        await self._remove(found)

    async def discard_results(self, job_id: str, *, but: list[str]) -> None:
        """Delete a job's results except those that it ended with: an attempt that was killed cannot do it itself."""
        mine = (table.c.job_id == job_id) & (table.c.kind == "result") & table.c.id.not_in(but)
        async with self._db.read() as connection:
            rows = await connection.execute(select(table).where(mine))
            found = [_asset(row) for row in rows.mappings()]
        await self._remove(found)

    async def purge(self, limit: int = 500) -> int:
        """Delete what has expired, a batch at a time; says how many."""
        async with self._db.read() as connection:
            rows = await connection.execute(
                select(table).where(table.c.expires_at < time.time()).limit(limit)
            )
            found = [_asset(row) for row in rows.mappings()]
        await self._remove(found)
        return len(found)

    async def purge_strays(self, older_than: float = 86400.0) -> int:
        """Delete bytes that no row tells of: whoever wrote them was killed before it wrote the row. Says how many."""
        latest, gone = datetime.fromtimestamp(time.time() - older_than, UTC), 0
        listed = aiter(obstore.list(self._store, chunk_size=500))
        while (batch := await self._bounded(anext(listed, None))) is not None:
            old = {
                str(found["path"]).rpartition("/")[2]: str(found["path"])
                for found in batch
                if found["last_modified"] < latest
            }
            ids = [asset_id for asset_id in old if asset_id.startswith("ast_")]
            async with self._db.read() as connection:
                known = set(
                    (await connection.execute(select(table.c.id).where(table.c.id.in_(ids)))).scalars()
                )
            for asset_id in ids:
                if asset_id not in known:
                    with suppress(FileNotFoundError):
                        await self._bounded(obstore.delete_async(self._store, old[asset_id]))
                        gone += 1
        return gone

    async def check(self) -> None:
        """Write, read and delete a few bytes; raises where the store does not work."""
        key = f"check/{secrets.token_hex(8)}"
        await self._bounded(obstore.put_async(self._store, key, b"darkroom"))
        await self._bounded(obstore.get_async(self._store, key))
        await self._bounded(obstore.delete_async(self._store, key))

    async def _remove(self, found: list[Asset]) -> None:
        if not found:
            return
        # bytes first: a row without bytes is found again and cleaned, bytes without a row never are
        for asset in found:
            try:
                await self._bounded(obstore.delete_async(self._store, asset.key))
            except FileNotFoundError:
                continue
        async with self._db.write() as connection:
            await connection.execute(delete(table).where(table.c.id.in_([asset.id for asset in found])))

    async def _bounded(self, work: Any) -> Any:
        try:
            async with asyncio.timeout(STORE_TIMEOUT):
                return await work
        except TimeoutError as error:
            self._fault("storage")
            raise Unavailable(
                f"The picture store did not answer within {STORE_TIMEOUT:.0f} s.", retry_after=5
            ) from error
        except FileNotFoundError:
            raise
        except obstore.exceptions.BaseError as error:
            self._fault("storage")
            log.warning("the picture store refuses or cannot be reached: %s", _reason(error))
            raise Unavailable("The picture store does not take part just now.", retry_after=5) from error


class _Counted:
    """Passes pieces on, and knows their size and digest at the end."""

    def __init__(self, pieces: AsyncIterator[bytes]) -> None:
        self._pieces = pieces
        self.size = 0
        self.digest = hashlib.sha256()

    def __aiter__(self) -> _Counted:
        return self

    async def __anext__(self) -> bytes:
        piece = await anext(self._pieces)
        self.size += len(piece)
        self.digest.update(piece)
        return piece


async def _pieces(result: Any) -> AsyncIterator[bytes]:
    async for piece in result.stream(min_chunk_size=_PIECE):
        yield bytes(piece)


def _asset(row: RowMapping) -> Asset:
    return Asset(**{name: row[name] for name in Asset.__slots__})


# what concerns the connection instead of the store; obstore wants these apart
_CLIENT_OPTIONS = frozenset(
    ("allow_http", "allow_invalid_certificates", "connect_timeout", "timeout", "proxy_url", "user_agent")
)


def _reason(error: Exception) -> str:
    """obstore adds its debugging to what it says; the first line is the sentence."""
    return (str(error).splitlines() or [type(error).__name__])[0]


def _open(settings: Settings) -> ObjectStore:
    if settings.storage_url:
        options: dict[str, Any] = dict(settings.storage_options)
        client: Any = {name: options.pop(name) for name in _CLIENT_OPTIONS & options.keys()}
        try:
            # a folder that is not there yet is made, as the default one is
            here = {"mkdir": True} if settings.storage_url.startswith("file:") else {"client_options": client}
            return from_url(settings.storage_url, **options, **here)
        except (obstore.exceptions.BaseError, ValueError, TypeError) as error:
            raise Unavailable(
                f"DARKROOM_STORAGE_URL or DARKROOM_STORAGE_OPTIONS cannot be used: {_reason(error)}",
                help='Write s3://bucket/prefix, and options as {"endpoint": "https://...", "region": "..."}.',
            ) from error
    folder = settings.data / "assets"
    folder.mkdir(parents=True, exist_ok=True)
    return LocalStore(folder)
