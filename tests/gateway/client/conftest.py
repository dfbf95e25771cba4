"""A small real server that speaks the gateway's contract, and can be told to misbehave."""

from __future__ import annotations

import asyncio
import base64
import json
import socket
import threading
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from services.errors import BadInput, DarkroomError, NotFound

PNG = bytes.fromhex(
    "89504e470d0a1a0a0000000d4948445200000001000000010804000000b51c0c02"
    "0000000b4944415478da6364f80f00010501012718e3660000000049454e44ae426082"
)


def problem(error: DarkroomError, **headers: str) -> Response:
    return JSONResponse(error.problem(), error.status, headers, "application/problem+json")


def sse(kind: str, data: dict[str, Any], event_id: str | None = None) -> bytes:
    head = f"id: {event_id}\n" if event_id else ""
    return f"{head}event: {kind}\ndata: {json.dumps(data)}\n\n".encode()


@dataclass
class Server:
    """What it was asked, and what it still refuses."""

    url: str = ""
    asked: list[dict[str, Any]] = field(default_factory=list)
    refusals: list[Response] = field(default_factory=list)
    jobs: dict[str, dict[str, Any]] = field(default_factory=dict)
    looks: int = 0
    events_from: list[str | None] = field(default_factory=list)
    work: float = 0.0  # seconds that a run takes
    under_way: int = 0
    most_under_way: int = 0
    pages: list[dict[str, str]] = field(default_factory=list)

    def document(self, **more: Any) -> dict[str, Any]:
        picture = {"id": "pic1", "url": "/v1/assets/pic1", "role": "picture", "media_type": "image/png"}
        picture |= {"width": 1, "height": 1, "bytes": len(PNG), "seed": 7}
        return {
            "id": "job1",
            "operation": "cleanup",
            "state": "succeeded",
            "model": "telea",
            "pictures": [picture],
            "data": None,
            "error": None,
            "progress": None,
            "timing": {"total_ms": 1.5},
            "created_at": "2026-01-01T00:00:00.000Z",
        } | more

    async def take(self, request: Request) -> None:
        form = {}
        if request.headers.get("content-type", "").startswith("multipart/"):
            # a picture's field names its part, which has the same name: here the part counts
            async with request.form() as read:
                pairs = read.multi_items()
                form = {name: value for name, value in pairs if isinstance(value, str)}
                form |= {name: await value.read() for name, value in pairs if not isinstance(value, str)}
        elif body := await request.body():
            form = json.loads(body)
        self.asked.append({"path": request.url.path, "headers": dict(request.headers), "form": form})

    async def run(self, request: Request) -> Response:
        await self.take(request)
        if self.refusals:
            return self.refusals.pop(0)
        if request.headers["accept"] != "text/event-stream":
            self.under_way += 1
            self.most_under_way = max(self.most_under_way, self.under_way)
            await asyncio.sleep(self.work)
            self.under_way -= 1
            return JSONResponse(self.document())
        if request.path_params["operation"] == "caption":
            broken = [sse("accepted", {}), sse("error", BadInput("No such thing.", field="image").problem())]
            return StreamingResponse(_each(broken), media_type="text/event-stream")
        events = [
            b": alive\n\n",
            sse("accepted", {"model": "telea"}),
            sse("progress", {"step": 1, "total": 2}),
        ]
        if request.path_params["operation"] == "inpaint":
            shown = base64.b64encode(PNG).decode()
            preview = {"picture": f"data:image/png;base64,{shown}", "media_type": "image/png", "width": 1}
            return StreamingResponse(
                _each([*events, sse("preview", preview)]), media_type="text/event-stream"
            )
        whole = b"".join(
            [*events, sse("result", self.document()["pictures"][0]), sse("done", self.document())]
        )
        # in pieces that end anywhere
        pieces = [whole[at : at + 7] for at in range(0, len(whole), 7)]
        return StreamingResponse(_each(pieces), media_type="text/event-stream")

    async def submit(self, request: Request) -> Response:
        await self.take(request)
        if self.refusals:
            return self.refusals.pop(0)
        key = request.headers["idempotency-key"]
        self.jobs.setdefault(key, self.document(id=f"job{len(self.jobs) + 1}", state="queued", pictures=[]))
        return JSONResponse(self.jobs[key], 202)

    async def job(self, request: Request) -> Response:
        if request.path_params["id"] == "none":
            return problem(NotFound("There is no job 'none'."))
        self.looks += 1
        if request.method == "DELETE":
            return JSONResponse(self.document(state="cancelled"))
        if request.path_params["id"] == "failing":
            error = BadInput("Too odd.", field="mask").problem()
            return JSONResponse(self.document(id="failing", state="failed", error=error, pictures=[]))
        if request.path_params["id"] in ENDLESS:
            job_id = request.path_params["id"]
            return JSONResponse(self.document(id=job_id, state="running", pictures=[]))
        return JSONResponse(
            self.document(state="running", pictures=[]) if self.looks < 3 else self.document()
        )

    async def events(self, request: Request) -> Response:
        """Breaks off in the middle of an event, once, and goes on where the reader was."""
        after = request.headers.get("last-event-id")
        self.events_from.append(after)
        told = [sse("progress", {"step": step, "total": 3}, f"1.{step}") for step in (1, 2, 3)]
        if request.path_params["id"] in ENDLESS:
            pieces = _endless(request.path_params["id"], [told[0]] if after is None else [])
            return StreamingResponse(pieces, media_type="text/event-stream")
        told.append(sse("done", self.document(), "1.4"))
        if after is None:
            return StreamingResponse(_broken([told[0], told[1][:20]]), media_type="text/event-stream")
        return StreamingResponse(_each(told[int(after.split(".")[1]) :]), media_type="text/event-stream")

    async def asset(self, request: Request) -> Response:
        if request.method == "DELETE":
            return Response(status_code=204)
        if request.path_params["id"] == "dripping":
            return StreamingResponse(_dripping(PNG), media_type="image/png")
        return Response(PNG, media_type="image/png")

    async def link(self, request: Request) -> Response:
        url = f"/v1/assets/{request.path_params['id']}?seconds={request.query_params['seconds']}"
        return JSONResponse({"url": url, "expires_at": ""})

    async def assets(self, request: Request) -> Response:
        await self.take(request)
        document = {"id": "pic9", "media_type": "image/png"}
        if request.method == "GET":
            return JSONResponse({"assets": [document], "next": None})
        return JSONResponse(document, 201)

    async def lists(self, request: Request) -> Response:
        self.pages.append(dict(request.query_params))
        if self.refusals:
            return self.refusals.pop(0)
        if request.query_params.get("state") == "many":  # 450 of them
            start = int(request.query_params.get("before", "job0").removeprefix("job"))
            ids = range(start + 1, min(start + int(request.query_params["limit"]), 450) + 1)
            after = None if ids[-1] == 450 else f"job{ids[-1]}"
            return JSONResponse({"jobs": [self.document(id=f"job{at}") for at in ids], "next": after})
        return JSONResponse(
            {"operations": [{"name": "cleanup"}], "data": [{"id": "telea"}], "jobs": [self.document()]}
        )

    def app(self) -> Starlette:
        return Starlette(
            routes=[
                Route("/v1/operations", self.lists),
                Route("/v1/models", self.lists),
                Route("/v1/jobs", self.lists),
                Route("/v1/jobs", self.submit, methods=["POST"]),
                Route("/v1/jobs/{id}", self.job, methods=["GET", "DELETE"]),
                Route("/v1/jobs/{id}/events", self.events),
                Route("/v1/assets", self.assets, methods=["GET", "POST"]),
                Route("/v1/assets/{id}/link", self.link, methods=["POST"]),
                Route("/v1/assets/{id}", self.asset, methods=["GET", "DELETE"]),
                Route("/v1/{operation}", self.run, methods=["POST"]),
            ]
        )


async def _each(pieces: list[bytes]) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield piece
        await asyncio.sleep(0)


ENDLESS = ("silent", "breaking", "babbling")  # jobs that never end


async def _endless(kind: str, pieces: list[bytes]) -> AsyncIterator[bytes]:
    for piece in pieces or [b": alive\n\n"]:
        yield piece
    for _ in range(100 if kind != "breaking" else 0):
        await asyncio.sleep(0.1)
        if kind == "babbling":
            yield b": alive\n\n"


async def _dripping(content: bytes) -> AsyncIterator[bytes]:
    for at in range(len(content)):
        yield content[at : at + 1]
        await asyncio.sleep(0.1)


async def _broken(pieces: list[bytes]) -> AsyncIterator[bytes]:
    """Ends as a proxy that is restarted ends it: cleanly for TCP, in the middle for the reader."""
    for piece in pieces:
        yield piece


@pytest.fixture
def server() -> Iterator[Server]:
    mine = Server()
    listening = socket.socket()
    listening.bind(("127.0.0.1", 0))
    mine.url = f"http://127.0.0.1:{listening.getsockname()[1]}"
    config = uvicorn.Config(mine.app(), log_level="warning", lifespan="off", timeout_graceful_shutdown=1)
    running = uvicorn.Server(config)
    thread = threading.Thread(target=lambda: asyncio.run(running.serve([listening])))
    thread.start()
    while not running.started:
        time.sleep(0.005)
    yield mine
    running.should_exit = True
    thread.join()
    listening.close()
