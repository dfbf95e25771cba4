"""Keys: made, found, remembered, revoked; and what happens without any."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from sqlalchemy import select, update

from gateway import keys as module
from gateway.callers import LOCAL
from gateway.keys import Keys, StartRefused, check_exposure, digest
from gateway.settings import Settings
from gateway.store.database import Database
from gateway.store.tables import keys as table
from services.errors import BadInput, Conflict, NotFound, Unauthorized, Unavailable

pytestmark = pytest.mark.anyio

# most of it is the same on any store, and a new database on PostgreSQL takes a second
both = pytest.mark.parametrize(
    "database_url", ["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)], indirect=True
)


@pytest.fixture
async def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if getattr(request, "param", "sqlite") == "postgres":
        return str(await request.getfixturevalue("postgres").create())
    return f"sqlite+aiosqlite:///{tmp_path / 'darkroom.db'}"


def settings(folder: Path, **given: object) -> Settings:
    return Settings(data=folder, _env_file=None, **given)  # type: ignore[arg-type]


@pytest.fixture
async def begin(database: Database, tmp_path: Path) -> AsyncIterator[Callable[..., Keys]]:
    """Makes the keys of another process, with settings of its own, and closes them before their database."""
    begun: list[Keys] = []

    def made(**given: object) -> Keys:
        begun.append(Keys(database, settings(tmp_path, **given)))
        return begun[-1]

    yield made
    for keys in begun:
        await keys.close()


@pytest.fixture
def keys(begin: Callable[..., Keys]) -> Keys:
    return begin()


@both
async def test_a_new_key_is_found_by_its_secret_and_only_its_hash_is_stored(
    keys: Keys, database: Database
) -> None:
    caller, secret = await keys.create("studio", ("use", "admin"), rate=2.5, daily_pictures=10, weight=3)
    assert re.fullmatch(r"dk_[A-Za-z0-9_-]{43}", secret)
    assert await keys.find(secret) == caller
    assert (caller.name, caller.rate, caller.daily_pictures, caller.weight) == ("studio", 2.5, 10, 3)
    async with database.read() as connection:
        row = (await connection.execute(select(table))).mappings().one()
    assert row["hash"] == digest(secret)
    assert not any(secret in str(value) for value in row.values())


async def test_an_unknown_secret_is_refused_and_so_is_none_once_a_key_exists(keys: Keys) -> None:
    await keys.create("studio")
    with pytest.raises(Unauthorized):
        await keys.find("dk_" + "x" * 43)
    with pytest.raises(Unauthorized):
        await keys.caller(None)


async def test_without_any_key_everybody_is_local_whatever_they_send(keys: Keys) -> None:
    assert await keys.caller(None) is LOCAL
    assert await keys.caller("sk-anything") is LOCAL


async def test_the_last_key_revoked_does_not_open_the_door(keys: Keys, begin: Callable[..., Keys]) -> None:
    _, secret = await keys.create("only")
    await keys.revoke("only")
    other_process = begin()
    for one in (keys, other_process):
        with pytest.raises(Unauthorized):
            await one.caller(None)
        with pytest.raises(Unauthorized):
            await one.caller(secret)


async def test_a_key_made_by_another_process_closes_the_door_within_a_second(
    keys: Keys, begin: Callable[..., Keys], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LOOK_FOR_FIRST", 0.05)
    assert await keys.caller(None) is LOCAL
    caller, secret = await begin().create("first")
    await asyncio.sleep(0.06)
    with pytest.raises(Unauthorized):
        await keys.caller(None)
    assert await keys.caller(secret) == caller


@both
async def test_a_revoked_key_ends_here_at_once_and_elsewhere_when_it_is_read_again(
    keys: Keys, begin: Callable[..., Keys], monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = begin()
    caller, secret = await keys.create("studio")
    assert await elsewhere.find(secret) == await keys.find(secret) == caller
    assert (await keys.revoke(caller.key_id)).revoked_at
    with pytest.raises(Unauthorized):
        await keys.find(secret)
    assert await elsewhere.find(secret) == caller
    monkeypatch.setattr(module, "REMEMBERED", 0.0)
    with pytest.raises(Unauthorized):
        await elsewhere.find(secret)
    with pytest.raises(NotFound):
        await keys.revoke("studio")


async def test_a_key_ends_when_it_expires_also_while_it_is_remembered(keys: Keys) -> None:
    _, secret = await keys.create("brief", expires=time.time() + 0.3)
    await keys.find(secret)
    await asyncio.sleep(0.35)
    with pytest.raises(Unauthorized):
        await keys.find(secret)


async def test_many_requests_at_once_with_one_key_ask_the_database_once(
    keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    caller, secret = await keys.create("studio")
    asked = 0
    look_up = keys._look_up

    async def counted(hashed: str) -> object:
        nonlocal asked
        asked += 1
        return await look_up(hashed)

    monkeypatch.setattr(keys, "_look_up", counted)
    found = await asyncio.gather(*(keys.find(secret) for _ in range(50)))
    assert found == [caller] * 50
    assert asked == 1


async def test_wrong_guesses_are_remembered_but_never_more_than_a_bound(
    keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "KNOWN", 10)
    await keys.create("studio")
    for n in range(30):
        with pytest.raises(Unauthorized):
            await keys.find(f"guess {n}")
    assert len(keys._known) <= 10


async def test_a_known_key_outlives_a_short_absence_of_the_database(
    keys: Keys, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    caller, secret = await keys.create("studio")
    await keys.find(secret)
    monkeypatch.setattr(module, "REMEMBERED", 0.0)

    async def away(_hashed: str) -> None:
        raise Unavailable("The database does not answer.")

    monkeypatch.setattr(keys, "_look_up", away)
    assert await keys.find(secret) == caller
    with pytest.raises(Unavailable):
        await keys.find("dk_" + "y" * 43)
    monkeypatch.setattr(module, "REMEMBERED_WITHOUT_DATABASE", 0.0)
    with pytest.raises(Unavailable):
        await keys.find(secret)


async def test_limits_of_zero_are_the_installations_and_minus_one_is_none(begin: Callable[..., Keys]) -> None:
    keys = begin(rate=5, daily_pictures=100, concurrent_jobs=3)
    usual, _ = await keys.create("usual")
    free, _ = await keys.create("free", rate=-1, daily_pictures=-1, concurrent_jobs=-1)
    assert (usual.rate, usual.daily_pictures, usual.concurrent_jobs) == (5, 100, 3)
    assert (free.rate, free.daily_pictures, free.concurrent_jobs) == (0, 0, 0)


@both
async def test_two_live_keys_never_share_a_name_but_a_name_may_be_used_again(keys: Keys) -> None:
    await keys.create("studio")
    with pytest.raises(Conflict):
        await keys.create("studio")
    await keys.revoke("studio")
    await keys.create("studio")
    assert [key.live for key in await keys.list()] in ([True, False], [False, True])


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({"name": " "}, "name"),
        ({"name": "a\x00b"}, "name"),
        ({"name": "a", "scopes": ("root",)}, "scopes"),
        ({"name": "a", "rate": -2}, "rate"),
        ({"name": "a", "rate": float("nan")}, "rate"),
        ({"name": "a", "daily_pictures": 2**40}, "daily_pictures"),
        ({"name": "a", "weight": 0}, "weight"),
        ({"name": "a", "expires": 1.0}, "expires"),
    ],
)
async def test_a_key_that_makes_no_sense_is_refused_by_the_field(
    begin: Callable[..., Keys], given: dict[str, object], field: str
) -> None:
    with pytest.raises(BadInput) as caught:
        await begin().create(**given)  # type: ignore[arg-type]
    assert caught.value.field == field


@both
async def test_the_admin_key_of_the_settings_is_made_once(begin: Callable[..., Keys]) -> None:
    secret = "a-secret-of-the-chart-0123456789"
    keys = begin(admin_key=secret)
    await asyncio.gather(keys.seed(), keys.seed())
    await keys.seed()
    (only,) = await keys.list()
    assert (await keys.find(secret)).key_id == only.id
    assert set(only.scopes) == {"admin", "use"}


async def test_a_short_admin_key_stops_the_start_with_a_sentence(begin: Callable[..., Keys]) -> None:
    with pytest.raises(StartRefused, match="openssl rand"):
        await begin(admin_key="admin").seed()


@both
async def test_when_a_key_was_last_used_is_noted(keys: Keys, database: Database) -> None:
    caller, secret = await keys.create("studio")
    await keys.find(secret)
    await asyncio.gather(*keys._noting)
    assert time.time() - ((await keys.get(caller.key_id)).last_used_at or 0) < 5


async def test_a_key_changed_in_the_store_is_seen_when_it_is_read_again(
    keys: Keys, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, secret = await keys.create("studio", weight=1)
    await keys.find(secret)
    async with database.write() as connection:
        await connection.execute(update(table).values(weight=4.0))
    monkeypatch.setattr(module, "REMEMBERED", 0.0)
    assert (await keys.find(secret)).weight == 4.0


@pytest.mark.parametrize(
    ("host", "any_keys", "starts"),
    [
        ("127.0.0.1", False, True),
        ("localhost", False, True),
        ("::1", False, True),
        ("0.0.0.0", True, True),
        ("0.0.0.0", False, False),
        ("192.168.1.2", False, False),
        ("::", False, False),
    ],
)
def test_only_loopback_is_served_without_a_key(
    tmp_path: Path, host: str, any_keys: bool, starts: bool
) -> None:
    given = settings(tmp_path, host=host)
    if starts:
        check_exposure(given, any_keys)
    else:
        with pytest.raises(StartRefused, match="darkroom keys create"):
            check_exposure(given, any_keys)
