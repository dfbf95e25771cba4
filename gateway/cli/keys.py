"""`darkroom keys`: on the database of this machine's settings, or with --url through a gateway's admin routes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from gateway.cli.flags import URL

if TYPE_CHECKING:
    from gateway.keys import Keys

T = TypeVar("T")
ROUTE = "/v1/admin/keys"

app = typer.Typer(help="Make, list and revoke keys.", no_args_is_help=True)


@app.command()
def create(
    name: Annotated[str, typer.Argument(help="Whose key it is.")],
    scope: Annotated[
        list[str] | None, typer.Option(help="use or admin; may be given twice. Default: use.")
    ] = None,
    rate: Annotated[float, typer.Option(help="Requests a second; 0: the default, -1: no limit.")] = 0,
    daily_pictures: Annotated[int, typer.Option(help="Pictures a day; 0: the default, -1: no limit.")] = 0,
    concurrent_jobs: Annotated[int, typer.Option(help="Unfinished jobs; 0: the default, -1: no limit.")] = 0,
    weight: Annotated[float, typer.Option(help="Its share of a busy service, beside other keys.")] = 1.0,
    days: Annotated[float | None, typer.Option(help="Days until it expires; never if absent.")] = None,
    url: URL = None,
) -> None:
    """Make a key and print it, this once."""
    from datetime import UTC, datetime, timedelta

    from gateway.cli.console import answer, say

    expires = datetime.now(UTC) + timedelta(days=days) if days is not None else None

    given: dict[str, Any] = {
        "name": name,
        "scopes": scope or ["use"],
        "rate": rate,
        "daily_pictures": daily_pictures,
        "concurrent_jobs": concurrent_jobs,
        "weight": weight,
    }
    if url:
        body = given | {"expires_at": expires.isoformat() if expires else None}
        answer(str(_admin(url, "POST", ROUTE, body)["secret"]))
    else:
        given["expires"] = expires.timestamp() if expires else None
        answer(_local(lambda keys: keys.create(**given))[1])
    say(f"This is the key of {name!r}. It is shown only now: keep it where secrets are kept.")
    say("From the first key on, every call needs one (DARKROOM_KEY, or `Authorization: Bearer KEY`).")


@app.command("list")
def list_keys(url: URL = None) -> None:
    """List all keys, revoked ones too."""
    from dataclasses import asdict

    from gateway.cli.console import table

    if url:
        found = _admin(url, "GET", ROUTE)["keys"]
    else:
        found = [asdict(key) | {"live": key.live} for key in _local(lambda keys: keys.list())]
    rows = [[key["id"], key["name"], " ".join(key["scopes"]), _limits(key), _state(key)] for key in found]
    table("Keys", ["id", "name", "scopes", "limits", "state"], rows)


@app.command()
def revoke(key: Annotated[str, typer.Argument(help="The key's id or name.")], url: URL = None) -> None:
    """End a key; gateways that run learn of it within five seconds."""
    from gateway.cli.console import say

    if url:
        _admin(url, "DELETE", f"{ROUTE}/{key}")
    else:
        _local(lambda keys: keys.revoke(key))
    say(f"The key {key!r} is revoked.")


def _admin(url: str, method: str, path: str, body: Any = None) -> Any:
    from gateway.client import Darkroom

    with Darkroom(url) as darkroom:
        return darkroom.admin(method, path, body)


def _local(work: Callable[[Keys], Awaitable[T]]) -> T:
    import asyncio

    from gateway.cli.config import load_settings
    from gateway.keys import Keys
    from gateway.store.database import Database

    settings = load_settings()

    async def with_database() -> T:
        settings.data.mkdir(parents=True, exist_ok=True)
        database = Database(settings.database)
        await database.open()
        try:
            keys = Keys(database, settings)
            try:
                return await work(keys)
            finally:
                await keys.close()
        finally:
            await database.close()

    return asyncio.run(with_database())


def _limits(key: dict[str, Any]) -> str:
    shown = {"rate": "/s", "daily_pictures": " pictures/day", "concurrent_jobs": " jobs"}
    return ", ".join(f"{key[name]:g}{unit}" for name, unit in shown.items() if key[name] > 0)


def _state(key: dict[str, Any]) -> str:
    if key["live"]:
        return "live"
    return "revoked" if key["revoked_at"] else "expired"
