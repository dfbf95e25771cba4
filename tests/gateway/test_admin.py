"""`/v1/admin` over a real store: who may, what it answers, and that its OpenAPI says so."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from sqlalchemy import insert
from starlette.types import ASGIApp, Receive, Scope, Send

from gateway import problems
from gateway.assets import Assets
from gateway.callers import Caller
from gateway.doors import admin, openai_errors
from gateway.jobs.queue import JobQueue
from gateway.keys import Keys
from gateway.limits import Limits
from gateway.settings import Settings
from gateway.signing import Signer
from gateway.store import tables
from gateway.store.database import Database

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


class Keyed:
    """Does what the front of the gateway does for these routes: the caller of the key, and the state."""

    def __init__(self, app: ASGIApp, state: Any) -> None:
        self._app, self._state = app, state

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        given = dict(scope["headers"]).get(b"authorization", b"").decode().removeprefix("Bearer ")
        scope["caller"] = await self._state.keys.caller(given or None)
        scope["darkroom"] = self._state
        await self._app(scope, receive, send)


@pytest.fixture
async def state(database: Database, tmp_path: Path) -> AsyncIterator[Any]:
    settings = Settings(data=tmp_path, keep_assets=100, keep_jobs=100, _env_file=None)  # type: ignore[call-arg]
    made = SimpleNamespace(
        settings=settings,
        db=database,
        keys=Keys(database, settings),
        limits=Limits(database, settings),
        queue=JobQueue(database, settings),
        assets=Assets(settings, database),
        signer=Signer.open(settings),
    )
    yield made
    await made.keys.close()


@pytest.fixture
def app() -> FastAPI:
    made = FastAPI()
    made.include_router(admin.router)
    problems.install(made, openai_errors.beside)
    return made


@pytest.fixture
async def client(app: FastAPI, state: Any) -> AsyncIterator[httpx.AsyncClient]:
    _, secret = await state.keys.create("operator", ("admin",))
    headers = {"authorization": f"Bearer {secret}"}
    transport = httpx.ASGITransport(Keyed(app, state))
    async with httpx.AsyncClient(transport=transport, base_url="http://x", headers=headers) as made:
        yield made


@both
async def test_a_key_is_made_listed_used_and_revoked(client: httpx.AsyncClient, state: Any) -> None:
    answer = await client.post(
        "/v1/admin/keys", json={"name": "studio", "rate": 5, "expires_at": "2126-01-01T00:00:00Z"}
    )
    assert answer.status_code == 201
    made = answer.json()
    caller = await state.keys.find(made["secret"])
    assert (caller.key_id, caller.rate) == (made["id"], 5)
    assert made["expires_at"] == "2126-01-01T00:00:00.000Z"

    listed = (await client.get("/v1/admin/keys")).json()["keys"]
    assert [key["name"] for key in listed] == ["studio", "operator"]
    assert "secret" not in str(listed)

    revoked = await client.delete("/v1/admin/keys/studio")
    assert revoked.json()["live"] is False
    again = await client.delete("/v1/admin/keys/studio")
    assert again.status_code == 404
    assert again.headers["content-type"] == "application/problem+json"


async def test_a_key_without_the_scope_admin_may_nothing_of_it(client: httpx.AsyncClient, state: Any) -> None:
    _, secret = await state.keys.create("user")
    headers = {"authorization": f"Bearer {secret}"}
    for method, path in [
        ("GET", "/keys"), ("POST", "/keys"), ("DELETE", "/keys/operator"), ("GET", "/usage"),
        ("GET", "/retention"), ("POST", "/retention"), ("GET", "/webhook-secret"),
    ]:  # fmt: skip
        answer = await client.request(
            method, f"/v1/admin{path}", headers=headers, json={"name": "x"} if method == "POST" else None
        )
        assert answer.status_code == 403, path
        assert answer.json()["type"] == "urn:darkroom:problem:forbidden"


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "name"),
        ({"name": ""}, "name"),
        ({"name": "a\u0000b"}, "name"),
        ({"name": "a", "scopes": ["root"]}, "scopes.0"),
        ({"name": "a", "scopes": []}, "scopes"),
        ({"name": "a", "rate": -2}, "rate"),
        ({"name": "a", "rate": 1e300}, "rate"),
        ({"name": "a", "daily_pictures": 2**40}, "daily_pictures"),
        ({"name": "a", "weight": 0}, "weight"),
        ({"name": "a", "expires_at": "2001-01-01T00:00:00Z"}, "expires"),
        ({"name": "a", "expires_at": "tomorrow"}, "expires_at"),
        ({"name": "a", "colour": "red"}, "colour"),
    ],
)
async def test_a_key_that_makes_no_sense_is_422_and_names_the_field(
    client: httpx.AsyncClient, body: dict[str, Any], field: str
) -> None:
    answer = await client.post("/v1/admin/keys", json=body)
    assert answer.status_code == 422
    assert answer.json()["field"] == field


@both
async def test_words_that_a_database_could_choke_on_are_refused_or_not_found(
    client: httpx.AsyncClient,
) -> None:
    assert (await client.delete("/v1/admin/keys/%00")).status_code == 422
    assert (await client.get("/v1/admin/usage", params={"key": "a\x00"})).status_code == 422
    assert (await client.get("/v1/admin/usage", params={"days": 0})).status_code == 422
    assert (await client.delete("/v1/admin/keys/' OR 1=1 --")).status_code == 404


@both
async def test_usage_is_told_by_key_and_day(client: httpx.AsyncClient, state: Any) -> None:
    caller, _ = await state.keys.create("studio")
    await state.limits.admit(caller)
    state.limits.settle(await state.limits.reserve_pictures(caller, 3), 3)
    await state.limits.admit(Caller("gone", "gone"))
    report = (await client.get("/v1/admin/usage")).json()["usage"]
    today = time.strftime("%Y-%m-%d", time.gmtime())
    assert {"key_id": caller.key_id, "name": "studio", "day": today, "pictures": 3, "requests": 1} in report
    assert {"key_id": "gone", "name": None, "day": today, "pictures": 0, "requests": 1} in report
    only = (await client.get("/v1/admin/usage", params={"key": caller.key_id, "days": 1})).json()["usage"]
    assert [row["name"] for row in only] == ["studio"]


@both
async def test_retention_says_what_is_kept_and_removes_what_is_due(
    client: httpx.AsyncClient, state: Any, database: Database
) -> None:
    now = time.time()
    async with database.write() as connection:
        for name, age in (("old", 200.0), ("new", 1.0)):
            job = {
                "id": f"job_{name}", "owner": "k", "operation": "cleanup", "service": "cleanup", "state": "succeeded",
                "params": {}, "priority": 0, "weight": 1.0, "attempt": 1, "attempts_allowed": 3, "cancel_asked": False,
                "pictures": [], "request_id": "r", "created_at": now - age, "finished_at": now - age,
            }  # fmt: skip
            await connection.execute(insert(tables.jobs).values(job))
            asset = {
                "id": f"ast_{name}", "owner": "k", "kind": "result", "sha256": "0" * 64, "media_type": "image/png",
                "size": 10, "created_at": now - age, "expires_at": now - age + 100,
            }  # fmt: skip
            await connection.execute(insert(tables.assets).values(asset))
    before = (await client.get("/v1/admin/retention")).json()
    assert before["keep_jobs"] == before["keep_assets"] == 100
    assert (before["kept"]["jobs"], before["kept"]["assets"], before["kept"]["asset_bytes"]) == (2, 2, 20)
    assert (await client.post("/v1/admin/retention")).json() == {"jobs": 1, "assets": 1, "complete": True}
    after = (await client.get("/v1/admin/retention")).json()["kept"]
    assert (after["jobs"], after["assets"]) == (1, 1)


@both
async def test_an_empty_store_keeps_nothing(client: httpx.AsyncClient) -> None:
    kept = (await client.get("/v1/admin/retention")).json()["kept"]
    assert kept == {"jobs": 0, "assets": 0, "asset_bytes": 0, "oldest_job_at": None, "oldest_asset_at": None}


async def test_the_webhook_secret_verifies_what_the_signer_signs(
    client: httpx.AsyncClient, state: Any
) -> None:
    secret = (await client.get("/v1/admin/webhook-secret")).json()["secret"]
    assert secret == state.signer.webhook_secret


def test_the_openapi_says_which_errors_each_route_answers(app: FastAPI) -> None:
    paths = app.openapi()["paths"]
    for path, methods in paths.items():
        for method, route in methods.items():
            assert {"401", "403", "429", "500"} <= set(route["responses"]), (method, path)
            for status, answer in route["responses"].items():
                if status[0] in "45":
                    assert list(answer["content"]) == ["application/problem+json"], (method, path, status)
    assert {"201", "409", "422"} <= set(paths["/v1/admin/keys"]["post"]["responses"])
