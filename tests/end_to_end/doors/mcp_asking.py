"""How the tests of the Model Context Protocol's door ask: by the official client, and by hand where no client would ask
so; and which rows of the table in docs/doors.md each of them holds.
"""

from __future__ import annotations

import asyncio
import base64
import io
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import httpx
import httpx2
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from mcp_types import CallToolResult, ImageContent, TextContent
from PIL import Image, ImageDraw

BOTH = {"accept": "application/json, text/event-stream"}
LEGACY, MODERN = "2025-11-25", "2026-07-28"

Test = TypeVar("Test", bound=Callable[..., Any])
HELD: set[str] = set()


def row(*cells: str) -> Callable[[Test], Test]:
    """This test holds the rows of the page's table that begin so."""
    HELD.update(cells)
    return lambda test: test


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
