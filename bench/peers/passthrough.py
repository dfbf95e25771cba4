"""The least that a gateway in Python can be: Starlette and aiohttp, bodies passed on as they come; no keys, no limits,
no metrics, no logs, no health, no line. What Darkroom costs above this is what it does.

    python -m bench.peers.passthrough PORT UPSTREAM [httpx]
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import AsyncIterator

import aiohttp
import httpx
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import StreamingResponse
from starlette.routing import Route
from starlette.types import Receive, Scope, Send


class PassOn:
    """By aiohttp: plain ASGI below Starlette's routing, since a StreamingResponse would cost it a task group a call."""

    def __init__(self, upstream: str) -> None:
        self._upstream = upstream
        self.session: aiohttp.ClientSession | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        assert self.session is not None
        body = await Request(scope, receive).body()
        kind = next(value for name, value in scope["headers"] if name == b"content-type").decode()
        sent = self.session.post(self._upstream + scope["path"], data=body, headers={"content-type": kind})
        async with sent as answer:
            headers = [(b"content-type", answer.headers["content-type"].encode())]
            await send({"type": "http.response.start", "status": answer.status, "headers": headers})
            async for piece in answer.content.iter_any():
                await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body", "body": b""})


def by_aiohttp(upstream: str) -> Starlette:
    door = PassOn(upstream)

    @contextlib.asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as door.session:
            yield

    return Starlette(routes=[Route("/{path:path}", door, methods=["POST"])], lifespan=lifespan)


def by_httpx(upstream: str) -> Starlette:
    client = httpx.AsyncClient(timeout=60)

    async def door(request: Request) -> StreamingResponse:
        headers = {"content-type": request.headers["content-type"]}
        sent = client.build_request(
            "POST", upstream + request.url.path, content=await request.body(), headers=headers
        )
        answer = await client.send(sent, stream=True)
        return StreamingResponse(
            answer.aiter_raw(), answer.status_code, media_type=answer.headers["content-type"]
        )

    return Starlette(routes=[Route("/{path:path}", door, methods=["POST"])])


if __name__ == "__main__":
    port, upstream, *rest = sys.argv[1:]
    uvicorn.run(
        by_httpx(upstream) if rest == ["httpx"] else by_aiohttp(upstream),
        port=int(port), loop="uvloop", http="httptools", access_log=False, log_level="warning", backlog=4096,
    )  # fmt: skip
