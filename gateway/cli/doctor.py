"""`darkroom doctor`: looks at everything that Darkroom stands on; out comes a line each, and what to do.

OK is as it should be, WARN will hurt some day, FAIL keeps Darkroom from working; a FAIL makes the exit code 1.
"""

from __future__ import annotations

import asyncio
import os
import platform
import shutil
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Literal

from gateway.assets import Assets
from gateway.cli.config import load_settings
from gateway.cli.console import FAILED, Stop, out
from gateway.cli.plan import get
from gateway.cli.processes import noted, port_taken
from gateway.keys import Keys
from gateway.local import address_of, holder
from gateway.settings import Settings
from gateway.store.database import Database
from services.errors import DarkroomError, UnknownModel

Mark = Literal["OK", "WARN", "FAIL"]
Finding = tuple[Mark, str, str]  # how it is, what it is about, a sentence
PATIENCE = 20.0  # seconds that one check may take
LITTLE, TOO_LITTLE = 5 * 2**30, 200 * 2**20  # bytes of free disk
CLOCK_SKEW = 5.0
_COLOURS: dict[Mark, str] = {"OK": "green", "WARN": "yellow", "FAIL": "red"}
_PIXEL = bytes.fromhex(
    "89504e470d0a1a0a0000000d4948445200000001000000010804000000b51c0c02"
    "0000000b4944415478da6364f80f00010501012718e3660000000049454e44ae426082"
)


def doctor() -> int:
    """Prints its findings; the exit code of the command."""
    found = [_python()]
    _print(found[0])
    try:
        settings = load_settings()
    except Stop as stop:
        for sentence in stop.sentence.splitlines():
            _print(("FAIL", "settings", sentence))
        return FAILED
    found += asyncio.run(_examine(settings))
    failures = sum(mark == "FAIL" for mark, _, _ in found)
    warnings = sum(mark == "WARN" for mark, _, _ in found)
    out().print(
        f"\n{len(found)} checks: {failures} failed, {warnings} to look at."
        if failures + warnings
        else "\nAll is well."
    )
    return FAILED if failures else 0


async def _examine(settings: Settings) -> list[Finding]:
    found: list[Finding] = []

    def tell(finding: Finding) -> None:
        found.append(finding)
        _print(finding)

    tell(("OK", "settings", "They can be read and fit together."))
    data = _data_folder(settings)
    tell(data)
    if data[0] != "FAIL":
        tell(_port(settings))
        for finding in await _stored(settings):
            tell(finding)
    tell(await _guarded("Redis", lambda: _redis(settings)))
    async for finding in _services(settings):
        tell(finding)
    return found


def _python() -> Finding:
    version = platform.python_version()
    if not (3, 11) <= sys.version_info[:2] < (3, 13):
        return (
            "FAIL",
            "Python",
            f"It is {version}; Darkroom needs 3.11 or 3.12. Make the environment anew with one.",
        )
    return "OK", "Python", f"{version} on {platform.system()} {platform.machine()}, {os.cpu_count()} cores."


def _data_folder(settings: Settings) -> Finding:
    data = settings.data.absolute()
    probe = data / f".doctor-{os.getpid()}"
    try:
        data.mkdir(parents=True, exist_ok=True)
        probe.write_bytes(b"\0" * 4096)
        probe.unlink()
    except OSError as error:
        return (
            "FAIL",
            "data folder",
            f"{data} cannot be written ({error.strerror}): set DARKROOM_DATA to another.",
        )
    free = shutil.disk_usage(data).free
    sentence = f"{data} can be written, {free / 2**30:.1f} GiB are free"
    if free < TOO_LITTLE:
        return "FAIL", "data folder", f"{sentence}: free some, nothing more can be kept."
    if free < LITTLE:
        return (
            "WARN",
            "data folder",
            f"{sentence}: that is little for pictures; DARKROOM_KEEP_ASSETS keeps them shorter.",
        )
    return "OK", "data folder", f"{sentence}."


def _port(settings: Settings) -> Finding:
    held = holder(settings.data)
    if held is not None:
        status, _ = get(str(held.get("address") or address_of(settings)), f"{settings.root_path}/healthz")
        if status == 200:
            return (
                "OK",
                "gateway",
                f"It runs at {held.get('address')}, under the supervisor {held.get('pid')}.",
            )
        return (
            "WARN",
            "gateway",
            f"The supervisor {held.get('pid')} holds the folder, but {held.get('address')} does not answer: "
            f"look into {settings.data / 'logs' / 'gateway.log'}.",
        )
    if port_taken(settings.host, settings.port):
        return (
            "FAIL",
            "port",
            f"{settings.port} on {settings.host} is taken by another program: set DARKROOM_PORT.",
        )
    return (
        "OK",
        "port",
        f"{settings.port} on {settings.host} is free; Darkroom is not running on this folder.",
    )


async def _stored(settings: Settings) -> list[Finding]:
    """The database, its clock, the keys in it, and the pictures' store."""
    try:
        database = Database(settings.database)
        async with asyncio.timeout(PATIENCE):
            await database.open(patience=3)
    except (DarkroomError, TimeoutError) as error:
        advice = "check DARKROOM_DATABASE_URL, and that the server runs"
        return [("FAIL", "database", f"It cannot be used ({error}): {advice}.")]
    try:
        kind = "PostgreSQL" if database.postgres else "SQLite"
        found: list[Finding] = [("OK", "database", f"{kind} answers, and its schema is up to date.")]
        found.append(await _guarded("keys", lambda: _keys(settings, database)))
        found.append(await _guarded("storage", lambda: _storage(settings, database)))
        if database.postgres:
            found.append(await _guarded("clock", lambda: _clock(database)))
        return found
    finally:
        await database.close()


async def _keys(settings: Settings, database: Database) -> Finding:
    live = [key for key in await Keys(database, settings).list() if key.live]
    admins = sum("admin" in key.scopes for key in live)
    if not live and not settings.loopback and settings.admin_key is None:
        return (
            "FAIL",
            "keys",
            f"None, and {settings.host} is not loopback: `darkroom keys create NAME --scope admin`.",
        )
    if not live:
        return "OK", "keys", "None: whoever is on this machine may call, nobody else."
    if not admins:
        return (
            "WARN",
            "keys",
            f"{len(live)} live, none with the scope admin: `darkroom keys create NAME --scope admin`.",
        )
    return "OK", "keys", f"{len(live)} live, {admins} of them admin."


async def _storage(settings: Settings, database: Database) -> Finding:
    assets = Assets(settings, database)
    where = settings.storage_url or "a folder in the data folder"

    async def pieces() -> AsyncIterator[bytes]:
        yield _PIXEL

    asset = await assets.put(pieces(), owner="doctor", media_type="image/png", width=1, height=1)
    stored = b"".join([piece async for piece in await assets.read(asset)])
    await assets.discard([asset.id])
    if stored != _PIXEL:
        return "FAIL", "storage", f"{where} gave back other bytes than were written: do not use it."
    return "OK", "storage", f"{where} takes, gives back and deletes."


async def _clock(database: Database) -> Finding:
    from sqlalchemy import text

    async with database.read() as connection:
        theirs = float(
            (await connection.execute(text("SELECT extract(epoch FROM clock_timestamp())"))).scalar_one()
        )
    skew = abs(theirs - time.time())
    if skew > CLOCK_SKEW:
        return (
            "WARN",
            "clock",
            f"This machine and the database are {skew:.0f} s apart: leases suffer. Use NTP on both.",
        )
    return "OK", "clock", f"{skew:.1f} s from the database's."


async def _redis(settings: Settings) -> Finding:
    if settings.redis is None:
        return "OK", "Redis", "Not set: events and limits are in memory, which is right for one gateway."
    from redis.asyncio import from_url

    server = from_url(settings.redis, socket_timeout=5, socket_connect_timeout=5)
    try:
        version = (await server.info("server"))["redis_version"]
    finally:
        await server.aclose()
    return "OK", "Redis", f"{version} answers."


async def _services(settings: Settings) -> AsyncIterator[Finding]:
    """Those that run under this folder's supervisor, and those that the settings name."""
    here = {note["name"]: note["address"] for note in noted(settings.data) if note["name"] != "gateway"}
    places = {name: [address] for name, address in here.items()} | settings.services
    if not places:
        yield "OK", "services", "None runs now; `darkroom up` starts all that are installed."
    for name, addresses in places.items():
        for address in addresses:
            if address.startswith("dns+"):
                yield "OK", name, f"{address} is resolved by the gateway; /readyz tells how many answer."
                continue
            plain = address.partition("#")[0]
            if plain.startswith("grpc://"):
                yield await _guarded(name, lambda: _tensorflow_serving(name, plain, settings))  # noqa: B023 - awaited here
                continue
            yield await asyncio.to_thread(_service, name, plain)


def _service(name: str, address: str) -> Finding:
    status, document = get(address, "/darkroom/v1/describe")
    if status != 200:
        answered = f"answers {status}" if status else "does not answer"
        return (
            "FAIL",
            name,
            f"{address} {answered}: start it (`darkroom up {name}`), and look into logs/{name}.log.",
        )
    if not document.get("ready"):
        return "WARN", name, f"{address} is not ready: {document.get('reason') or 'it is loading'}."
    return "OK", name, f"{address} is ready, for {document.get('capacity')} calls at once."


async def _tensorflow_serving(name: str, address: str, settings: Settings) -> Finding:
    """It is asked for each model that the settings name; a FAIL where it has none of them, a WARN where one is away."""
    from tf_serving.client import Client

    client = Client(address.removeprefix("grpc://"))
    found, away = [], []
    try:
        for model in settings.pix2pix_models:
            try:
                versions = await client.status(model, seconds=3)
            except UnknownModel:
                away.append(f"{model} is unknown to it")
                continue
            available = [str(version.number) for version in versions if version.state == "AVAILABLE"]
            if available:
                found.append(f"{model} ({', '.join(available)})")
            else:
                newest = versions[0]
                away.append(f"{model} is {newest.state.lower()} {newest.error}".strip())
    finally:
        await client.close()
    sentence = f"{address} has {', '.join(found) or 'no model'}"
    if not away:
        return "OK", name, f"{sentence}."
    mark: Mark = "WARN" if found else "FAIL"
    return (
        mark,
        name,
        f"{sentence}; {'; '.join(away)}: look into logs/{name}.log and DARKROOM_PIX2PIX_MODELS.",
    )


async def _guarded(about: str, check: Callable[[], Awaitable[Finding]]) -> Finding:
    """A check that breaks has found something, too."""
    import redis.exceptions

    try:
        async with asyncio.timeout(PATIENCE):
            return await check()
    except TimeoutError:
        return "FAIL", about, f"It did not answer within {PATIENCE:g} s: check its address and the network."
    except DarkroomError as error:
        return "FAIL", about, f"{error.detail} {error.what_to_do}"
    except (redis.exceptions.RedisError, OSError) as error:
        return "FAIL", about, f"It cannot be used ({error}): check its address, and that it runs."


def _print(finding: Finding) -> None:
    mark, about, sentence = finding
    out().print(f"[{_COLOURS[mark]}]{mark:<4}[/] {about:<12} ", end="")
    out().print(sentence, markup=False)
