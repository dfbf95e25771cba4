"""Keys: a secret in, the caller it stands for out.

A key is 256 random bits, shown once; only its SHA-256 is stored. A slow hash protects words that people choose, which
can be guessed; nobody guesses 256 random bits, so that one fast hash is enough and each request can afford it.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import RowMapping, func, insert, or_, select, update

from gateway.callers import LOCAL, Caller, Scope
from gateway.settings import Settings
from gateway.store.tables import keys as table
from services.errors import BadInput, Conflict, NotFound, Unauthorized, Unavailable

if TYPE_CHECKING:
    from gateway.metrics import Metrics
    from gateway.store.database import Database

log = logging.getLogger("darkroom.keys")

PREFIX = "dk_"
REMEMBERED = 5.0  # seconds until a key is read again: how long a revoked one may live on in this process
REMEMBERED_WITHOUT_DATABASE = 30.0  # seconds that a known key is good for while the database is away
LOOK_FOR_FIRST = 1.0  # seconds until "there is no key at all" is checked again
KNOWN = 10_000  # secrets remembered, good and bad together
LOOK_UP_DEADLINE = 5.0
LOOK_UPS_AT_ONCE = 4  # so that guessing keys cannot occupy the database
USED_EVERY = 60.0  # seconds between two notes of `last_used_at`
SHORTEST_ADMIN_KEY = 24
UNLIMITED = -1


class StartRefused(Exception):
    """The gateway does not start; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class Key:
    """A key as an operator sees it; limits as stored: 0 is the installation's default, -1 none."""

    id: str
    name: str
    scopes: tuple[Scope, ...]
    rate: float
    daily_pictures: int
    concurrent_jobs: int
    weight: float
    created_at: float
    expires_at: float | None
    revoked_at: float | None
    last_used_at: float | None

    @property
    def live(self) -> bool:
        return self.revoked_at is None and (self.expires_at is None or self.expires_at > time.time())


@dataclass(slots=True)
class _Known:
    caller: Caller | None  # None: this secret is no key
    read_at: float  # on the monotonic clock
    expires_at: float | None


def digest(secret: str) -> str:
    return hashlib.sha256(secret.encode(errors="surrogateescape")).hexdigest()


def check_exposure(settings: Settings, any_keys: bool) -> None:
    """Without any key the gateway is open to whoever reaches it, so that nobody but this machine may."""
    if not settings.loopback and not any_keys:
        raise StartRefused(
            f"Darkroom does not listen on {settings.host} without a key, because anybody who reaches it could use it. "
            "Make one with `darkroom keys create NAME --scope admin`, set DARKROOM_ADMIN_KEY, or listen on 127.0.0.1."
        )


class Keys:
    def __init__(self, db: Database, settings: Settings, metrics: Metrics | None = None) -> None:
        self._db, self._settings, self._metrics = db, settings, metrics
        # Looked up by its hash, a secret needs no comparison in constant time: how long a look-up takes tells
        # something about the hash of a guess, and from that nobody gets to the hash of a key, nor from it to the key.
        self._known: dict[str, _Known] = {}
        self._asking: dict[str, asyncio.Task[Caller | None]] = {}
        self._look_ups = asyncio.Semaphore(LOOK_UPS_AT_ONCE)
        self._exist = False
        self._exist_read_at = float("-inf")
        self._noting: set[asyncio.Task[None]] = set()

    # ── for each request ─────────────────────────────────────────────────────────────────────────────────────

    async def caller(self, secret: str | None) -> Caller:
        """Who sends `secret` (None: nothing was sent). While there is no key at all, everybody is LOCAL."""
        if secret is not None and (known := self._fresh(secret)) is not None:
            return known
        if not await self.any_exist():
            # clients that cannot do without a key send just anything
            return LOCAL
        if secret is None:
            raise Unauthorized("This call needs a key.")
        return await self.find(secret)

    async def find(self, secret: str) -> Caller:
        """The caller of a live key; remembered, so that the hot path is a look-up in a dict."""
        known = self._fresh(secret)
        if known is not None:
            return known
        hashed = digest(secret)
        entry = self._known.get(hashed)
        if entry is not None and entry.caller is None and time.monotonic() - entry.read_at < REMEMBERED:
            raise Unauthorized("This key is not known here, or not valid any more.")
        # many requests with one key ask the database once
        asking = self._asking.get(hashed)
        if asking is None:
            asking = self._asking[hashed] = asyncio.create_task(self._look_up(hashed))
            asking.add_done_callback(lambda _: self._asking.pop(hashed, None))
        try:
            caller = await asyncio.shield(asking)
        except Unavailable:
            if self._metrics is not None:
                self._metrics.fault("database")
            # while the database restarts, a key that was good a moment ago stays good, for a short time that is known
            if (
                entry is None
                or entry.caller is None
                or time.monotonic() - entry.read_at > REMEMBERED_WITHOUT_DATABASE
            ):
                raise
            return entry.caller
        if caller is None:
            raise Unauthorized("This key is not known here, or not valid any more.")
        return caller

    def _fresh(self, secret: str) -> Caller | None:
        entry = self._known.get(digest(secret))
        if entry is None or entry.caller is None or time.monotonic() - entry.read_at > REMEMBERED:
            return None
        if entry.expires_at is not None and entry.expires_at <= time.time():
            return None
        return entry.caller

    async def _look_up(self, hashed: str) -> Caller | None:
        try:
            async with asyncio.timeout(LOOK_UP_DEADLINE), self._look_ups, self._db.read() as connection:
                row = (
                    (await connection.execute(select(table).where(table.c.hash == hashed))).mappings().first()
                )
        except TimeoutError as error:
            raise Unavailable("The key could not be looked up in time.", retry_after=1) from error
        key = _key(row) if row is not None else None
        caller = self._caller(key) if key is not None and key.live else None
        self._remember(hashed, _Known(caller, time.monotonic(), key.expires_at if key else None))
        if caller is not None and key is not None and time.time() - (key.last_used_at or 0) > USED_EVERY:
            noting = asyncio.create_task(self._note_use(key.id))
            self._noting.add(noting)
            noting.add_done_callback(self._noting.discard)
        return caller

    def _remember(self, hashed: str, entry: _Known) -> None:
        self._known.pop(hashed, None)
        while len(self._known) >= KNOWN:
            # the oldest reading goes first; wrong guesses push out at most what is read again in a moment
            del self._known[next(iter(self._known))]
        self._known[hashed] = entry

    async def _note_use(self, key_id: str) -> None:
        try:
            async with self._db.write() as connection:
                await connection.execute(
                    update(table).where(table.c.id == key_id).values(last_used_at=time.time())
                )
        except Unavailable as error:
            log.info("when the key %s was last used could not be noted: %s", key_id, error)

    async def any_exist(self) -> bool:
        """Whether there ever was a key. A revoked one counts: taking the last one away must not open the door."""
        if self._exist:
            return True
        now, before = time.monotonic(), self._exist_read_at
        if now - before >= LOOK_FOR_FIRST:
            known = before != float("-inf")
            if known:
                # one asks again; the others go on with what is known
                self._exist_read_at = now
            try:
                async with asyncio.timeout(LOOK_UP_DEADLINE), self._db.read() as connection:
                    found = (await connection.execute(select(table.c.id).limit(1))).first()
            except (Unavailable, TimeoutError) as error:
                # what was known a moment ago still holds; only a gateway that never knew cannot say
                if not known:
                    raise Unavailable("Whether there are keys could not be read.", retry_after=1) from error
                return self._exist
            self._exist = self._exist or found is not None
            self._exist_read_at = time.monotonic()
        return self._exist

    # ── for operators ────────────────────────────────────────────────────────────────────────────────────────

    async def create(
        self,
        name: str,
        scopes: Sequence[Scope] = ("use",),
        rate: float = 0,
        daily_pictures: int = 0,
        concurrent_jobs: int = 0,
        weight: float = 1.0,
        expires: float | None = None,
    ) -> tuple[Caller, str]:
        """The new caller and its secret, which is told this once. `expires` is a time; a limit of 0 takes the
        installation's default, and -1 is no limit."""
        secret = PREFIX + secrets.token_urlsafe(32)
        key = await self._insert(secret, name, scopes, rate, daily_pictures, concurrent_jobs, weight, expires)
        return self._caller(key), secret

    async def list(self) -> list[Key]:
        """All that ever were, the newest first."""
        async with self._db.read() as connection:
            rows = (
                (await connection.execute(select(table).order_by(table.c.created_at.desc(), table.c.id)))
                .mappings()
                .all()
            )
        return [_key(row) for row in rows]

    async def get(self, key_id: str) -> Key:
        async with self._db.read() as connection:
            row = (await connection.execute(select(table).where(table.c.id == key_id))).mappings().first()
        if row is None:
            raise NotFound(f"There is no key {key_id!r}.", help="`darkroom keys list` shows all keys.")
        return _key(row)

    async def revoke(self, id_or_name: str) -> Key:
        """The key ends here and now; other gateways learn of it within five seconds."""
        alive = table.c.revoked_at.is_(None)
        named = or_(table.c.id == id_or_name, table.c.name == id_or_name)
        async with self._db.write() as connection:
            statement = update(table).where(named, alive).values(revoked_at=time.time()).returning(*table.c)
            row = (await connection.execute(statement)).mappings().first()
        if row is None:
            raise NotFound(
                f"There is no live key {id_or_name!r}.", help="`darkroom keys list` shows all keys."
            )
        self._known.pop(row["hash"], None)
        return _key(row)

    async def seed(self) -> None:
        """Make settings.admin_key a key, if it is not one yet."""
        if self._settings.admin_key is None:
            return
        secret = self._settings.admin_key.get_secret_value()
        if len(secret) < SHORTEST_ADMIN_KEY:
            raise StartRefused(
                f"DARKROOM_ADMIN_KEY has {len(secret)} characters; it needs {SHORTEST_ADMIN_KEY} random ones at least. "
                "`openssl rand -hex 32` draws a good one."
            )
        async with self._db.read() as connection:
            known = (
                await connection.execute(select(table.c.id).where(table.c.hash == digest(secret)))
            ).first()
        if known is None:
            name = f"admin-{digest(secret)[:8]}"
            try:
                await self._insert(secret, name, ("use", "admin"), UNLIMITED, UNLIMITED, UNLIMITED, 1.0, None)
            except Conflict:
                return  # another gateway that starts at the same moment was first
            log.info("the key of DARKROOM_ADMIN_KEY was made", extra={"key": name})

    async def close(self) -> None:
        for task in [*self._noting, *self._asking.values()]:
            task.cancel()
        await asyncio.gather(*self._noting, *self._asking.values(), return_exceptions=True)

    async def _insert(
        self, secret: str, name: str, scopes: Sequence[Scope], rate: float, daily_pictures: int, concurrent_jobs: int,
        weight: float, expires: float | None,
    ) -> Key:  # fmt: skip
        _check(name, scopes, rate, daily_pictures, concurrent_jobs, weight, expires)
        values = {
            "id": f"key_{secrets.token_hex(6)}",
            "name": name,
            "hash": digest(secret),
            "scopes": sorted(set(scopes)),
            "rate": rate,
            "daily_pictures": daily_pictures,
            "concurrent_jobs": concurrent_jobs,
            "weight": weight,
            "created_at": time.time(),
            "expires_at": expires,
        }
        same = or_(table.c.hash == values["hash"], (table.c.name == name) & table.c.revoked_at.is_(None))
        async with self._db.write() as connection:
            if self._db.postgres:
                # SQLite's write transaction has the database for itself already
                await connection.execute(select(func.pg_advisory_xact_lock(0x6B657973)))
            if (await connection.execute(select(table.c.id).where(same))).first() is not None:
                raise Conflict(
                    f"There is a live key of the name {name!r} already.",
                    field="name",
                    help="Choose another name.",
                )
            row = (
                (await connection.execute(insert(table).values(values).returning(*table.c))).mappings().one()
            )
        # a secret that was refused a moment ago may be the one that is now good
        self._known.pop(digest(secret), None)
        self._exist = True
        return _key(row)

    def _caller(self, key: Key) -> Caller:
        return Caller(
            key_id=key.id,
            name=key.name,
            scopes=frozenset(key.scopes),
            rate=_limit(key.rate, self._settings.rate),
            daily_pictures=int(_limit(key.daily_pictures, self._settings.daily_pictures)),
            concurrent_jobs=int(_limit(key.concurrent_jobs, self._settings.concurrent_jobs)),
            weight=key.weight,
        )


def _limit(own: float, default: float) -> float:
    return max(0, own if own else default)


def _check(
    name: str, scopes: Sequence[str], rate: float, daily_pictures: int, concurrent_jobs: int, weight: float,
    expires: float | None,
) -> None:  # fmt: skip
    if not name.strip() or len(name) > 120 or not name.isprintable():
        raise BadInput("A key's name has 1 to 120 printable characters.", field="name")
    if not scopes or not set(scopes) <= {"use", "admin"}:
        raise BadInput("The scopes are use and admin; give at least one.", field="scopes")
    for field, value in (
        ("rate", rate),
        ("daily_pictures", daily_pictures),
        ("concurrent_jobs", concurrent_jobs),
    ):
        if not (value == UNLIMITED or 0 <= value < 2**31):
            raise BadInput(
                "0 is the installation's default, -1 no limit; else a positive number.", field=field
            )
    if not 0.01 <= weight <= 100:
        raise BadInput("A weight lies between 0.01 and 100.", field="weight")
    if expires is not None and expires <= time.time():
        raise BadInput("The key would have expired already.", field="expires")


def _key(row: RowMapping) -> Key:
    values = {name: row[name] for name in Key.__slots__}
    return Key(**values | {"scopes": tuple(values["scopes"])})
