"""The Model Context Protocol, asked by its official client, and by hand where no client would ask so.

Each row of the table in docs/doors.md is held by the tests that `row` marks with its first cell.
"""

from __future__ import annotations

import asyncio
import base64
import io
import json
import re
import secrets
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

import anyio
import httpx
import httpx2
import pytest
from mcp import Client, MCPError
from mcp.client.streamable_http import streamable_http_client
from mcp_types import CallToolResult, ImageContent, ResourceLink, TextContent
from PIL import Image, ImageDraw

ROOT = Path(__file__).parents[3]
SAMPLE = ROOT / "docs" / "samples" / "astronaut.jpg"
BOTH = {"accept": "application/json, text/event-stream"}
LEGACY, MODERN = "2025-11-25", "2026-07-28"
pytestmark = pytest.mark.anyio

Test = TypeVar("Test", bound=Callable[..., Any])
HELD: set[str] = set()


def row(*cells: str) -> Callable[[Test], Test]:
    """This test holds the rows of the page's table that begin so."""
    HELD.update(cells)
    return lambda test: test


# ── who asks ──────────────────────────────────────────────────────────────────────────────────────────────────


@asynccontextmanager
async def client(url: str, mode: str = "auto", key: str = "") -> AsyncIterator[Client]:
    headers = {"authorization": f"Bearer {key}"} if key else {}
    async with httpx2.AsyncClient(headers=headers, timeout=60) as http:
        transport = streamable_http_client(f"{url}/mcp", http_client=http)
        async with Client(transport, mode=mode) as connected:
            yield connected


def post(url: str, message: Any, *, timeout: float = 60, **headers: str) -> httpx.Response:
    body = message if isinstance(message, bytes) else json.dumps(message).encode()
    known = BOTH | {"content-type": "application/json"} | headers
    return httpx.post(f"{url}/mcp", content=body, headers=known, timeout=timeout)


def request(method: str, params: dict[str, Any] | None = None, own_id: Any = 1) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": own_id, "method": method} | ({} if params is None else {"params": params})


def initialize(version: str = LEGACY) -> dict[str, Any]:
    about = {
        "protocolVersion": version,
        "capabilities": {},
        "clientInfo": {"name": "a test", "version": "1"},
    }
    return request("initialize", about, 0)


def call(tool: str, arguments: dict[str, Any], own_id: Any = 1, **meta: Any) -> dict[str, Any]:
    return request("tools/call", {"name": tool, "arguments": arguments, "_meta": meta}, own_id)


def error(answer: httpx.Response) -> tuple[int, int]:
    """Its status and the error's code."""
    document = answer.json()
    assert document["jsonrpc"] == "2.0", document
    assert document["error"]["message"]
    assert "Traceback" not in answer.text
    return answer.status_code, document["error"]["code"]


def text(result: CallToolResult) -> str:
    return next(one.text for one in result.content if isinstance(one, TextContent))


def seen(result: CallToolResult) -> Image.Image:
    """The first picture that a model gets to see."""
    assert not result.is_error, text(result)
    content = next(one for one in result.content if isinstance(one, ImageContent))
    image = Image.open(io.BytesIO(base64.b64decode(content.data)))
    image.load()
    assert Image.MIME[str(image.format)] == content.mime_type
    return image


def first(result: CallToolResult) -> dict[str, Any]:
    """What is said of the first picture."""
    assert not result.is_error, text(result)
    told: dict[str, Any] = result.structured_content["pictures"][0]
    return told


def circle(mode: str = "RGB", side: int = 64, height: int = 0) -> str:
    image = Image.new(mode, (side, height or side), 0 if mode == "L" else (20, 60, 200))
    box = (side // 3, side // 3, 2 * side // 3, 2 * side // 3)
    ImageDraw.Draw(image).ellipse(box, fill=255 if mode == "L" else "red")
    out = io.BytesIO()
    image.save(out, "PNG")
    return base64.b64encode(out.getvalue()).decode()


@pytest.fixture(scope="module")
def house(begin_stack: Any, toy: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A gateway and a toy whose steps can be counted, of an extension."""
    started = begin_stack(tmp_path_factory.mktemp("mcp"), "gateway", "toy", also=toy)
    try:
        started.wait(lambda: "Darkroom is ready" in started.said)
        yield started
    finally:
        started.stop()


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


def in_flight(stack: Any) -> bool:
    told = httpx.get(f"{stack.url}/metrics").text
    lines = [line for line in told.splitlines() if line.startswith("darkroom_upstream_in_flight")]
    return any(not line.endswith(" 0.0") for line in lines)


async def until(holds: Callable[[], bool], seconds: float = 10) -> float:
    """How long it took to come to hold."""
    began = time.monotonic()
    while not await asyncio.to_thread(holds):
        assert time.monotonic() - began < seconds
        await asyncio.sleep(0.02)
    return time.monotonic() - began


# ── what there is ─────────────────────────────────────────────────────────────────────────────────────────────


@row("versions", "`initialize`, `server/discover`", "`ping`")
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


@row("versions")
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
async def test_each_operation_that_is_here_is_a_tool_with_schemas_and_true_hints(stack: Any) -> None:
    with httpx.Client(base_url=stack.url) as http:
        operations = {one["name"]: one for one in http.get("/v1/operations").json()["operations"]}
    async with client(stack.url) as door:
        tools = {tool.name: tool for tool in (await door.list_tools()).tools}
    assert tools.keys() == operations.keys()
    for name, tool in tools.items():
        asked = operations[name]["params"]
        assert tool.input_schema.get("required") == asked.get("required"), name
        assert tool.input_schema["properties"].keys() == asked["properties"].keys() - {"previews"}, name
        assert tool.title and tool.description and operations[name]["summary"] in tool.description
        hints = tool.annotations
        assert hints is not None
        assert (hints.destructive_hint, hints.open_world_hint) == (False, True)
        assert hints.read_only_hint == hints.idempotent_hint == (name == "caption")
        assert tool.output_schema is not None
        assert {"pictures", "model", "data"} <= tool.output_schema["properties"].keys()
    for said in (
        tools["cleanup"].input_schema["properties"][name]["description"] for name in ("image", "mask")
    ):
        assert "darkroom://assets/" in said and "part:" not in said
    assert "micro" in tools["text-to-image"].input_schema["properties"]["model"]["description"]


@row("`tools/list`")
async def test_an_extensions_operation_is_a_tool_and_one_that_is_not_installed_is_none(house: Any) -> None:
    async with client(house.url) as door:
        tools = {tool.name: tool for tool in (await door.list_tools()).tools}
        assert tools.keys() == {"stamp"}
        assert tools["stamp"].description is not None
        assert "Paint a number" in tools["stamp"].description
        stamped = await door.call_tool("stamp", {"image": circle(), "number": 513})
        assert seen(stamped).getpixel((1, 1)) == (2, 1, 77)


# ── each operation ────────────────────────────────────────────────────────────────────────────────────────────

SMALL: dict[str, Any] = {"prompt": "a red circle on a blue background", "steps": 3, "seed": 5}


@row("`tools/call`", "pictures in arguments", "pictures in answers")
async def test_an_agent_makes_a_picture_and_hands_it_from_tool_to_tool(stack: Any) -> None:
    async with client(stack.url) as door:
        made = await door.call_tool("text-to-image", SMALL)
        told = first(made)
        assert (told["width"], told["height"], told["seed"], told["role"]) == (128, 128, 5, "picture")
        assert made.structured_content["model"] == "micro"
        assert json.loads(text(made)) == made.structured_content
        assert seen(made).size == (128, 128)
        (link,) = [one for one in made.content if isinstance(one, ResourceLink)]
        assert (link.uri, link.mime_type, link.size) == (told["uri"], "image/png", told["bytes"])

        # by each of the names that the answer gives it
        for name in (told["uri"], told["url"], told["uri"].rpartition("/")[2]):
            assert seen(await door.call_tool("remove-background", {"image": name})).mode == "RGBA"
        again = await door.call_tool("image-to-image", SMALL | {"image": told["uri"], "strength": 0.5})
        assert first(again)["width"] == 128
        mask = circle("L", 128)
        painted = await door.call_tool("inpaint", SMALL | {"image": told["uri"], "mask": mask})
        assert seen(painted).getpixel((2, 2)) == seen(made).getpixel((2, 2))
        erased = await door.call_tool(
            "cleanup", {"image": told["uri"], "mask": f"data:image/png;base64,{mask}"}
        )
        assert seen(erased).getpixel((2, 2)) == seen(made).getpixel((2, 2))
        edges = await door.call_tool("preprocess", {"image": told["uri"], "kind": "canny"})
        controls = [{"image": first(edges)["uri"], "kind": "canny-map"}]
        led = await door.call_tool("control", SMALL | {"controls": controls})
        assert [one["role"] for one in led.structured_content["pictures"]] == ["picture", "map"]
        coloured = await door.call_tool("sketch-to-image", {"image": first(edges)["uri"]})
        assert seen(coloured).size == (128, 128)
        what = await door.call_tool("caption", {"image": told["uri"]})
        assert "caption" in what.structured_content["data"]
        assert what.structured_content["pictures"] == []


@row("`tools/call`")
async def test_a_portrait_of_a_photograph_that_came_as_base64(stack: Any) -> None:
    photo = base64.b64encode(SAMPLE.read_bytes()).decode()
    async with client(stack.url, "legacy") as door:
        made = await door.call_tool("portrait", {"image": photo, "size": "avatar", "side": 256})
        assert seen(made).size == (256, 256)


@row("pictures in answers")
async def test_large_pictures_are_shown_small_and_kept_whole(stack: Any) -> None:
    noise = Image.effect_noise((1600, 1200), 90).convert("RGB")
    out = io.BytesIO()
    noise.save(out, "PNG")
    picture = base64.b64encode(out.getvalue()).decode()
    async with client(stack.url) as door:
        mask = circle("L", 1600, 1200)
        cleaned = await door.call_tool("cleanup", {"image": picture, "mask": mask, "model": "telea"})
        told, image = first(cleaned), seen(cleaned)
        assert (told["width"], told["height"]) == (1600, 1200)
        assert max(image.size) <= 1024
        assert told["shown"].startswith(f"scaled to {image.width}x{image.height}, ")
        # the official client takes no event of more than this
        assert len(cleaned.model_dump_json()) < 2**20
        whole = await door.read_resource(told["uri"])
        data = base64.b64decode(whole.contents[0].blob)  # type: ignore[union-attr]
        assert Image.open(io.BytesIO(data)).size == (1600, 1200)
        assert httpx.get(told["url"]).content == data
        cut = await door.call_tool("remove-background", {"image": circle(side=1100)})
        assert (seen(cut).mode, max(seen(cut).size)) == ("RGBA", 1024)


@row("`notifications/progress`")
@pytest.mark.parametrize("mode", ["legacy", "auto"])
async def test_progress_tells_each_step_and_their_number(stack: Any, mode: str) -> None:
    told: list[tuple[float, float | None, str | None]] = []

    async def hear(step: float, total: float | None, message: str | None) -> None:
        told.append((step, total, message))

    async with client(stack.url, mode) as door:
        assert first(await door.call_tool("text-to-image", SMALL, progress_callback=hear))
    assert told == [(step, 3, f"step {step} of 3") for step in (1, 2, 3)]


@row("`notifications/progress`")
async def test_progress_of_a_chain_only_grows(stack: Any) -> None:
    steps: list[float] = []

    async def hear(step: float, _total: float | None, _message: str | None) -> None:
        steps.append(step)

    photo = base64.b64encode(SAMPLE.read_bytes()).decode()
    async with client(stack.url) as door:
        style = {
            "image": photo,
            "side": 128,
            "style": "a red circle",
            "style_strength": 0.1,
            "cutter": "none",
        }
        assert first(await door.call_tool("portrait", style, progress_callback=hear))
    assert steps == sorted(set(steps))
    assert len(steps) > 2


# ── how a call ends ───────────────────────────────────────────────────────────────────────────────────────────


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


# ── resources and prompts ─────────────────────────────────────────────────────────────────────────────────────


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


@row("`prompts/list`, `prompts/get`")
async def test_prompts_name_tools_that_are_here(stack: Any, house: Any) -> None:
    async with client(stack.url) as door:
        tools = {tool.name for tool in (await door.list_tools()).tools}
        for prompt in (await door.list_prompts()).prompts:
            given = {one.name: f"<{one.name}>" for one in prompt.arguments or [] if one.required}
            got = await door.get_prompt(prompt.name, given)
            words = got.messages[0].content.text  # type: ignore[union-attr]
            assert all(value in words for value in given.values())
            assert "$" not in words
            assert any(tool in words for tool in tools)
            with pytest.raises(MCPError, match="needs picture"):
                await door.get_prompt(prompt.name, {})
        with pytest.raises(MCPError, match="no prompt 'x'"):
            await door.get_prompt("x", {})
    async with client(house.url) as door:
        assert (await door.list_prompts()).prompts == []


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
    assert error(post(house.url, request(method, params)))[1] in (-32601, -32600)


# ── mistakes ──────────────────────────────────────────────────────────────────────────────────────────────────


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


@row("`GET /mcp`")
def test_other_methods_are_refused_with_those_that_are_right(house: Any) -> None:
    for method in ("GET", "PUT", "PATCH"):
        answer = httpx.request(method, f"{house.url}/mcp", headers=BOTH)
        assert error(answer)[0] == 405
        assert answer.headers["allow"] == "POST, DELETE"
    assert error(httpx.post(f"{house.url}/mcp/x", headers=BOTH))[0] == 404


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


@row("`Origin`")
def test_pages_of_another_origin_are_refused_with_and_without_keys(
    house: Any, locked: Any, keys: dict[str, str]
) -> None:
    for stack, known in ((house, {}), (locked, {"authorization": f"Bearer {keys['ann']}"})):
        for origin in ("https://evil.example", "null", "x", f"http://127.0.0.1:{stack.port + 1}"):
            assert post(stack.url, request("ping"), origin=origin, **known).status_code == 403, origin
        assert post(stack.url, request("ping"), origin=stack.url, **known).status_code == 200


# ── keys ──────────────────────────────────────────────────────────────────────────────────────────────────────


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


def test_the_access_line_and_the_metrics_name_the_door_and_the_operation(house: Any) -> None:
    post(house.url, call("stamp", {"image": circle()}))
    told = httpx.get(f"{house.url}/metrics").text
    assert re.search(r'darkroom_requests_total\{[^}]*door="mcp"[^}]*operation="stamp"', told), told[:3000]


def test_no_row_of_the_table_is_without_a_test() -> None:
    page = (ROOT / "docs" / "doors.md").read_text()
    section = re.split(r"^## ", page.partition("\n## Model Context Protocol\n")[2], flags=re.MULTILINE)[0]
    table = [
        line.split(" | ")[0].removeprefix("| ") for line in section.splitlines() if line.startswith("| ")
    ]
    assert table[0] == "of the protocol"
    assert set(table[1:]) == HELD
