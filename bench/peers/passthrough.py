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


def application(upstream: str, client: str) -> Starlette:
    held: dict[str, aiohttp.ClientSession | httpx.AsyncClient] = {}

    async def by_aiohttp(request: Request) -> StreamingResponse:
        session = held["client"]
        assert isinstance(session, aiohttp.ClientSession)
        answer = await session.post(
            upstream + request.url.path,
            data=request.stream(),
            headers={
                k: request.headers[k] for k in ("content-type", "content-length") if k in request.headers
            },
        )

        async def body() -> AsyncIterator[bytes]:
            async with answer:
                async for piece in answer.content.iter_any():
                    yield piece

        return StreamingResponse(body(), answer.status, media_type=answer.content_type)

    async def by_httpx(request: Request) -> StreamingResponse:
        session = held["client"]
        assert isinstance(session, httpx.AsyncClient)
        sent = session.build_request(
            "POST",
            upstream + request.url.path,
            content=await request.body(),
            headers={"content-type": request.headers["content-type"]},
        )
        answer = await session.send(sent, stream=True)
        return StreamingResponse(
            answer.aiter_raw(), answer.status_code, media_type=answer.headers["content-type"]
        )

    @contextlib.asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        if client == "httpx":
            held["client"] = httpx.AsyncClient(timeout=60)
        else:
            held["client"] = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0))
        yield
        await (
            held["client"].aclose()
            if isinstance(held["client"], httpx.AsyncClient)
            else held["client"].close()
        )

    door = by_httpx if client == "httpx" else by_aiohttp
    return Starlette(routes=[Route("/{path:path}", door, methods=["POST"])], lifespan=lifespan)


if __name__ == "__main__":
    port, upstream, *rest = sys.argv[1:]
    uvicorn.run(
        application(upstream, rest[0] if rest else "aiohttp"),
        port=int(port), loop="uvloop", http="httptools", access_log=False, log_level="warning", backlog=4096,
    )  # fmt: skip
