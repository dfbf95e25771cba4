"""The Model Context Protocol behind keys, before pages of other origins, and with several gateways."""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from mcp import MCPError

from tests.end_to_end.doors.mcp_asking import (
    call,
    circle,
    client,
    error,
    first,
    in_flight,
    initialize,
    post,
    request,
    row,
    until,
)

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def keys() -> dict[str, str]:
    return {"admin": f"dk_{secrets.token_urlsafe(32)}"}


@pytest.fixture(scope="module")
def locked(
    begin_stack: Any, toy: dict[str, str], keys: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Any]:
    """The same behind keys; the one of `ann` may make a few pictures a day."""
    data = tmp_path_factory.mktemp("locked")
    started = begin_stack(data, "gateway", "toy", also=toy, admin_key=keys["admin"])
    try:
        started.wait(lambda: "Darkroom is ready" in started.said)
        for name in ("ann", "bob"):
            made = httpx.post(
                f"{started.url}/v1/admin/keys",
                json={"name": name, "daily_pictures": 3},
                headers={"x-api-key": keys["admin"]},
            )
            assert made.status_code == 201, made.text
            keys[name] = made.json()["secret"]
        yield started
    finally:
        started.stop()


@row("keys")
async def test_keys_and_their_limits_hold_here_as_everywhere(locked: Any, keys: dict[str, str]) -> None:
    for headers in ({}, {"authorization": "Bearer dk_wrong"}, {"authorization": "Digest x"}):
        answer = post(locked.url, initialize(), **headers)
        assert error(answer) == (401, -32600)
        assert answer.headers["www-authenticate"].startswith("Bearer")
    assert post(locked.url, request("ping"), **{"x-api-key": keys["ann"]}).status_code == 200
    async with client(locked.url, key=keys["ann"]) as door:
        told = [first(await door.call_tool("stamp", {"image": circle()})) for _ in range(3)]
        over = await door.call_tool("stamp", {"image": circle()})
        assert over.is_error
        assert (over.meta or {})["darkroom/problem"]["type"] == "urn:darkroom:problem:quota-exceeded"
    async with client(locked.url, key=keys["bob"]) as other:
        assert [one.uri for one in (await other.list_resources()).resources] == ["darkroom://models"]
        with pytest.raises(MCPError):
            await other.read_resource(told[0]["uri"])
        assert (await other.call_tool("stamp", {"image": told[0]["uri"]})).is_error
    # a session is of the key that began it
    session = post(locked.url, initialize(), **{"x-api-key": keys["ann"]}).headers["mcp-session-id"]
    stolen = post(locked.url, request("ping"), **{"x-api-key": keys["bob"], "mcp-session-id": session})
    assert error(stolen)[0] == 404


@row("`Origin`")
def test_pages_of_another_origin_are_refused_with_and_without_keys(
    stack: Any, locked: Any, keys: dict[str, str]
) -> None:
    for asked, known in ((stack, {}), (locked, {"authorization": f"Bearer {keys['ann']}"})):
        for origin in ("https://evil.example", "null", "x", f"http://127.0.0.1:{asked.port + 1}"):
            assert post(asked.url, request("ping"), origin=origin, **known).status_code == 403, origin
        assert post(asked.url, request("ping"), origin=asked.url, **known).status_code == 200


@pytest.mark.slow
async def test_two_gateways_know_each_others_sessions(launch: Any) -> None:
    toy = launch("toy", capacity="4")
    shared = {"services": json.dumps({"toy": [toy.url]}), "secret": "s" * 32}
    one, two = launch("gateway", **shared), launch("gateway", **shared)
    named = {"mcp-session-id": post(one.url, initialize()).headers["mcp-session-id"]}
    answer = post(two.url, call("stamp", {"image": circle(), "number": 3}), **named)
    assert '"isError":false' in answer.text
    stranger = launch("gateway", services=shared["services"], secret="t" * 32)
    assert post(stranger.url, request("ping"), **named).status_code == 404


@pytest.mark.slow
async def test_a_call_in_flight_finishes_while_the_gateway_drains(launch: Any) -> None:
    toy = launch("toy", capacity="4")
    gateway = launch("gateway", services=json.dumps({"toy": [toy.url]}))
    asked = call("stamp", {"image": circle(), "steps": 40})
    running = asyncio.create_task(asyncio.to_thread(post, gateway.url, asked))
    await until(lambda: in_flight(gateway))
    gateway.signal(15)
    await asyncio.sleep(0.3)
    refused = post(gateway.url, call("stamp", {"image": circle()}))
    assert '"isError":true' in refused.text and "draining" in refused.text
    assert '"isError":false' in (await running).text
    assert await asyncio.to_thread(gateway.wait, 5) == 0
