"""The outermost layer: gives a request its id, and tells logs and metrics how it went.

    request ──> id, in flight ──> the app ──> status, bytes, seconds ──> access line, metrics ──> x-request-id

What only a door knows (operation, key, service, endpoint) it adds by `logs.tell(...)`.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway import logs, request_id
from gateway.metrics import Metrics
from gateway.problems import CLIENT_GONE

# asked for every few seconds by machines; their lines show at debug only
QUIET = frozenset({"/healthz", "/readyz", "/metrics"})


class Access:
    def __init__(self, app: ASGIApp, log: logs.Logs | None, metrics: Metrics) -> None:
        self._app, self._log, self._metrics = app, log, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            if scope["type"] == "websocket":
                request_id.enter(request_id.make())
            await self._app(scope, receive, send)
            return
        began = time.perf_counter()
        given, received = None, 0
        for name, value in scope["headers"]:
            if name == request_id.HEADER:
                given = value
            elif name == b"content-length" and value.isdigit():
                received = int(value[:18])
        own_id = request_id.choose(given)
        request_id.enter(own_id)
        scope["request_id"] = own_id
        about = logs.begin()
        header = (request_id.HEADER, own_id.encode())
        status = sent = 0

        async def counted(message: Message) -> None:
            nonlocal status, sent
            if message["type"] == "http.response.body":
                sent += len(message.get("body", b""))
            elif message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", ()), header]
            await send(message)

        self._metrics.request_began()
        try:
            await self._app(scope, receive, counted)
        except asyncio.CancelledError:
            status = status or CLIENT_GONE
            raise
        except BaseException:
            status = status or 500
            raise
        finally:
            seconds = time.perf_counter() - began
            self._ended(scope, about, own_id, status or CLIENT_GONE, seconds, received, sent)

    def _ended(
        self,
        scope: Scope,
        about: dict[str, Any],
        own_id: str,
        status: int,
        seconds: float,
        received: int,
        sent: int,
    ) -> None:
        operation, door = about.get("operation", ""), about.get("door", "")
        self._metrics.request_ended(operation, door, status, seconds, received, sent)
        if self._log is not None:
            path, client = scope["path"], scope.get("client")
            line = {
                "request_id": own_id,
                # the query is left out: it may carry a signature
                "message": f"{scope['method']} {path} {status}",
                "method": scope["method"],
                "path": path,
                "status": status,
                "ms": round(seconds * 1000, 2),
                "in": received,
                "out": sent,
                "client": client[0] if client else "",
                **about,
            }
            self._log.access(line, quiet=path in QUIET and status < 400)
