"""The Model Context Protocol message by message, over a toy whose steps can be counted: sessions, endings, mistakes."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterator
from typing import Any

import anyio
import httpx
import pytest
from mcp import MCPError

from tests.end_to_end.doors.mcp_asking import (
    BOTH,
    LEGACY,
    MODERN,
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
    seen,
    text,
    until,
)

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def house(begin_stack: Any, toy: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A gateway and a toy whose steps can be counted, of an extension."""
    started = begin_stack(tmp_path_factory.mktemp("mcp"), "gateway", "toy", also=toy)
    try:
        started.wait(lambda: "Darkroom is ready" in started.said)
        yield started
    finally:
        started.stop()


@row("versions", "`initialize`, `server/discover`", "`clientInfo`, `capabilities`", "`ping`")
@pytest.mark.parametrize(("mode", "version"), [("legacy", LEGACY), ("auto", MODERN)])
async def test_the_official_client_connects_in_either_era(house: Any, mode: str, version: str) -> None:
    async with client(house.url, mode) as door:
        assert door.protocol_version == version
        assert door.server_info is not None
        assert door.server_info.name == "darkroom"
        assert "darkroom://assets/" in (door.instructions or "")
        capabilities = door.server_capabilities
        assert capabilities.tools and capabilities.resources and capabilities.prompts
    if mode == "legacy":
        assert post(house.url, request("ping")).json()["result"] == {}


@row("versions", "`MCP-Protocol-Version: another version`")
@pytest.mark.parametrize("version", ["2024-11-05", "2025-03-26", "2025-06-18"])
def test_older_versions_are_spoken_and_unknown_ones_answered_with_ours(house: Any, version: str) -> None:
    answer = post(house.url, initialize(version)).json()["result"]
    assert answer["protocolVersion"] == version
    assert post(house.url, initialize("1999-01-01")).json()["result"]["protocolVersion"] == LEGACY
    about = {
        "io.modelcontextprotocol/protocolVersion": "1999-01-01",
        "io.modelcontextprotocol/clientCapabilities": {},
    }
    asked = request("tools/list", {"_meta": about})
    wrong = post(house.url, asked, **{"mcp-protocol-version": "1999-01-01", "mcp-method": "tools/list"})
    assert error(wrong) == (400, -32022)
    assert MODERN in wrong.json()["error"]["data"]["supported"]


@row("`tools/list`")
async def test_an_extensions_operation_is_a_tool_and_one_that_is_not_installed_is_none(house: Any) -> None:
    async with client(house.url) as door:
        tools = {tool.name: tool for tool in (await door.list_tools()).tools}
        assert tools.keys() == {"stamp"}
        assert tools["stamp"].description is not None
        assert "Paint a number" in tools["stamp"].description
        stamped = await door.call_tool("stamp", {"image": circle(), "number": 513})
        assert seen(stamped).getpixel((1, 1)) == (2, 1, 77)
        assert (await door.list_prompts()).prompts == []  # they would need tools that are not here


@row("answers")
def test_answers_are_json_or_events_as_the_client_takes_them(house: Any) -> None:
    asked = call("stamp", {"image": circle()}, progressToken="p")
    whole = post(house.url, asked, accept="application/json")
    assert whole.headers["content-type"].startswith("application/json")
    assert whole.json()["result"]["structuredContent"]["operation"] == "stamp"
    events = post(house.url, asked)
    assert events.headers["content-type"].startswith("text/event-stream")
    told = [json.loads(line[5:]) for line in events.text.splitlines() if line.startswith("data:")]
    assert [one.get("method") for one in told] == ["notifications/progress"] * 2 + [None]
    assert all(answer.headers["cache-control"] == "no-store" for answer in (whole, events))
    assert post(house.url, request("tools/list")).headers["content-type"].startswith("application/json")


@row("`resources/list`", "`resources/templates/list`", "`resources/read`")
@pytest.mark.parametrize(("mode", "missing"), [("legacy", -32002), ("auto", -32602)])
async def test_a_keys_pictures_are_resources_page_by_page(house: Any, mode: str, missing: int) -> None:
    async with client(house.url, mode) as door:
        made = [first(await door.call_tool("stamp", {"image": circle(), "steps": 0})) for _ in range(52)]
        page = await door.list_resources()
        assert page.resources[0].uri == "darkroom://models"
        newest = page.resources[1]
        assert (newest.uri, newest.mime_type, newest.size) == (
            made[-1]["uri"],
            "image/png",
            made[-1]["bytes"],
        )
        assert page.next_cursor
        rest = await door.list_resources(cursor=page.next_cursor)
        listed = [one.uri for one in (*page.resources[1:], *rest.resources)]
        assert listed[:52] == [one["uri"] for one in reversed(made)]
        (template,) = (await door.list_resource_templates()).resource_templates
        assert template.uri_template == "darkroom://assets/{id}"
        models = await door.read_resource("darkroom://models")
        assert "toy" in json.loads(models.contents[0].text)  # type: ignore[union-attr]
        for wrong in (
            "darkroom://assets/ast_" + "0" * 26,
            "darkroom://assets/../../x",
            "file:///etc/passwd",
            "x",
        ):
            with pytest.raises(MCPError) as refused:
                await door.read_resource(wrong)
            assert refused.value.code == missing
        with pytest.raises(MCPError):
            await door.list_resources(cursor="nonsense")


@row("`Mcp-Method`, `Mcp-Name`")
def test_headers_of_the_version_of_2026_agree_with_the_message(house: Any) -> None:
    about = {
        "io.modelcontextprotocol/protocolVersion": MODERN,
        "io.modelcontextprotocol/clientCapabilities": {},
    }
    asked = request("tools/call", {"name": "stamp", "arguments": {"image": circle()}, "_meta": about})
    right = {"mcp-protocol-version": MODERN, "mcp-method": "tools/call", "mcp-name": "stamp"}
    assert '"isError":false' in post(house.url, asked, **right).text
    for name in ("mcp-method", "mcp-name"):
        assert error(post(house.url, asked, **right | {name: "x"})) == (400, -32020)


@row(
    "`notifications/initialized`, `notifications/roots/list_changed`",
    "`sampling`, `roots`, `elicitation`",
    "`clientInfo`, `capabilities`",
)
def test_what_a_client_tells_or_answers_unasked_is_taken_and_changes_nothing(house: Any) -> None:
    able = {"sampling": {}, "roots": {"listChanged": True}, "elicitation": {}}
    asked = initialize()
    asked["params"] |= {"capabilities": able, "clientInfo": {"name": "another", "version": "9"}}
    assert post(house.url, asked).json() == post(house.url, initialize()).json()
    for method in ("notifications/initialized", "notifications/roots/list_changed", "notifications/x"):
        taken = post(house.url, {"jsonrpc": "2.0", "method": method})
        assert (taken.status_code, taken.content) == (202, b"")
    for answer in ({"result": {}}, {"error": {"code": 1, "message": "x"}}):
        assert post(house.url, {"jsonrpc": "2.0", "id": 1, **answer}).status_code == 202


@row("`task` of `tools/call`")
def test_a_call_that_asks_for_a_task_is_answered_when_it_is_done(house: Any) -> None:
    asked = call("stamp", {"image": circle()})
    asked["params"]["task"] = {"ttl": 60_000}
    answer = post(house.url, asked, accept="application/json").json()["result"]
    assert answer["structuredContent"]["operation"] == "stamp"


@row("`logging/setLevel`")
def test_a_log_level_is_taken_and_changes_nothing(house: Any) -> None:
    assert post(house.url, request("logging/setLevel", {"level": "debug"})).json()["result"] == {}
    assert error(post(house.url, request("logging/setLevel", {"level": "loud"})))[1] == -32602


@row("`resources/subscribe`, `subscriptions/listen`, `completion/complete`, `tasks/*`")
@pytest.mark.parametrize(
    "method", ["resources/subscribe", "completion/complete", "tasks/list", "subscriptions/listen", "x", ""]
)
def test_what_is_not_here_is_said_not_to_be(house: Any, method: str) -> None:
    ref = {"type": "ref/prompt", "name": "x"}
    params = {"uri": "x", "ref": ref, "argument": {"name": "a", "value": ""}}
    assert error(post(house.url, request(method, params)))[1] == (-32601 if method else -32600)


def test_the_access_line_and_the_metrics_name_the_door_and_the_operation(house: Any) -> None:
    post(house.url, call("stamp", {"image": circle()}))
    told = httpx.get(f"{house.url}/metrics").text
    assert re.search(r'darkroom_requests_total\{[^}]*door="mcp"[^}]*operation="stamp"', told), told[:3000]


# ── how a call ends ─────────────────────────────────────────────────────────────────────────────────────────────


@row("`notifications/cancelled`", "hanging up")
@pytest.mark.parametrize("mode", ["legacy", "auto"])
async def test_a_call_that_the_client_gives_up_ends_within_a_step(house: Any, mode: str) -> None:
    async with client(house.url, mode) as door:
        with anyio.move_on_after(1.5) as given_up:
            await door.call_tool("stamp", {"image": circle(), "steps": 1000})
        assert given_up.cancelled_caught
        assert await until(lambda: not in_flight(house)) < 1.0
        assert first(await door.call_tool("stamp", {"image": circle()}))  # and the client goes on


@row("`notifications/cancelled`", "`Mcp-Session-Id`")
async def test_a_cancelled_call_is_answered_as_cancelled_and_only_its_own_session_can_do_it(
    house: Any,
) -> None:
    mine, other = (post(house.url, initialize()).headers["mcp-session-id"] for _ in range(2))
    asked = call("stamp", {"image": circle(), "steps": 1000}, own_id=7)
    running = asyncio.create_task(asyncio.to_thread(post, house.url, asked, **{"mcp-session-id": mine}))
    await until(lambda: in_flight(house))
    cancel = {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 7}}
    for session in (other, ""):
        named = {"mcp-session-id": session} if session else {}
        assert (await asyncio.to_thread(post, house.url, cancel, **named)).status_code == 202
    await asyncio.sleep(0.3)
    assert in_flight(house)
    assert (await asyncio.to_thread(post, house.url, cancel, **{"mcp-session-id": mine})).status_code == 202
    answer = await running
    assert '"code":-32800' in answer.text
    assert await until(lambda: not in_flight(house)) < 1.0


@row("`DELETE /mcp`", "`Mcp-Session-Id`")
async def test_a_session_that_ends_takes_its_calls_with_it_and_is_no_secret_state(house: Any) -> None:
    mine = post(house.url, initialize()).headers["mcp-session-id"]
    named = {"mcp-session-id": mine}
    asked = call("stamp", {"image": circle(), "steps": 1000})
    running = asyncio.create_task(asyncio.to_thread(post, house.url, asked, **named))
    await until(lambda: in_flight(house))
    ended = await asyncio.to_thread(httpx.delete, f"{house.url}/mcp", headers=named)
    assert ended.status_code == 204
    assert '"code":-32800' in (await running).text
    assert error(httpx.delete(f"{house.url}/mcp"))[0] == 400
    for wrong in ("x", mine[:-1] + ("0" if mine[-1] != "0" else "1"), "-", "a" * 4000):
        answer = post(house.url, request("tools/list"), **{"mcp-session-id": wrong})
        assert error(answer) == (404, -32600)
    assert post(house.url, request("tools/list")).status_code == 200  # none is needed


@row("hanging up")
@pytest.mark.parametrize("accept", ["application/json", BOTH["accept"]])
async def test_who_hangs_up_ends_the_work(house: Any, accept: str) -> None:
    asked = call("stamp", {"image": circle(), "steps": 9, "pause": 9})
    with pytest.raises(httpx.ReadTimeout):
        await asyncio.to_thread(post, house.url, asked, timeout=1.5, accept=accept)
    assert await until(lambda: not in_flight(house)) < 1.0


# ── mistakes ────────────────────────────────────────────────────────────────────────────────────────────────────


@row("a tool's errors")
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({}, "image"),
        ({"image": "nonsense"}, "image: is not a picture"),
        ({"image": None}, "image"),
        ({"image": 7}, "image"),
        ({"image": circle()[:40]}, "whole PNG"),
        ({"image": "darkroom://assets/ast_" + "0" * 26}, "no asset"),
        ({"image": "darkroom://assets/nobody"}, "no asset 'nobody'"),
        ({"image": "http://127.0.0.1:1/a.png"}, "The port"),
        ({"image": "http://169.254.169.254/latest"}, "169.254.169.254"),
        ({"image": "part:x"}, "'x'"),
        ({"image": circle(), "number": "many"}, "number"),
        ({"image": circle(), "nmber": 1}, "Did you mean 'number'?"),
        ({"image": circle(), "steps": 10**9}, "steps"),
        ({"image": circle(), "": {"a": [[[[[[[[[[[[[[]]]]]]]]]]]]]]}}, "''"),
    ],
)
async def test_what_is_wrong_with_arguments_is_the_tools_answer(
    house: Any, arguments: dict[str, Any], said: str
) -> None:
    async with client(house.url) as door:
        result = await door.call_tool("stamp", arguments)
    assert result.is_error
    assert said in text(result), text(result)
    assert (result.meta or {})["darkroom/problem"]["status"] in (413, 422)
    assert "Traceback" not in text(result)


@row("protocol errors", "`POST /mcp`")
async def test_an_unknown_tool_is_a_protocol_error_that_names_the_nearest(house: Any) -> None:
    async with client(house.url) as door:
        with pytest.raises(MCPError, match="Did you mean 'stamp'") as refused:
            await door.call_tool("stmp", {})
    assert refused.value.code == -32602


@row("protocol errors", "`POST /mcp`")
@pytest.mark.parametrize(
    ("body", "wanted"),
    [
        (b"", (400, -32700)),
        (b"{", (400, -32700)),
        (b"\xff\xfe", (400, -32700)),
        (b'"a"', (400, -32700)),
        (b"[" * 5000, (400, -32700)),
        (json.dumps([request("ping")]).encode(), (400, -32700)),
        (b"{}", (400, -32600)),
        (b'{"jsonrpc": "2.0"}', (400, -32600)),
        (b'{"jsonrpc": "1.0", "id": 1, "method": "ping"}', (400, -32600)),
        (b'{"jsonrpc": "2.0", "id": null, "method": "ping"}', (400, -32600)),
        (b'{"jsonrpc": "2.0", "id": {}, "method": "ping"}', (400, -32600)),
        (b'{"jsonrpc": "2.0", "id": 1, "method": 7}', (400, -32600)),
    ],
)
def test_what_is_no_message_is_refused_as_such(house: Any, body: bytes, wanted: tuple[int, int]) -> None:
    assert error(post(house.url, body)) == wanted


@row("protocol errors")
@pytest.mark.parametrize("params", [7, [], {"name": 7}, {"name": "stamp", "arguments": []}, {}, None])
def test_parameters_of_the_wrong_shape_are_refused(house: Any, params: Any) -> None:
    answer = post(house.url, {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params})
    document = json.loads(answer.text.partition("data: ")[2] or answer.text)
    assert document["error"]["code"] in (-32602, -32600)
    assert "Traceback" not in answer.text


@row("`POST /mcp`")
def test_other_content_types_and_accepts_and_sizes_are_refused(house: Any) -> None:
    assert error(post(house.url, request("ping"), **{"content-type": "text/plain"})) == (415, -32602)
    assert error(post(house.url, request("ping"), accept="image/png"))[0] == 406
    huge = call("stamp", {"image": "A" * (65 * 2**20)})
    assert post(house.url, huge).status_code == 413
    told = post(house.url, call("stamp", {"image": "A" * (50 * 2**20)})).text
    assert '"isError":true' in told and "bytes at most" in told


@row("`GET /mcp`, `Last-Event-ID`")
def test_other_methods_are_refused_with_those_that_are_right(house: Any) -> None:
    for method in ("GET", "PUT", "PATCH"):
        answer = httpx.request(method, f"{house.url}/mcp", headers=BOTH | {"last-event-id": "1"})
        assert error(answer)[0] == 405
        assert answer.headers["allow"] == "POST, DELETE"
    assert error(httpx.post(f"{house.url}/mcp/x", headers=BOTH))[0] == 404
