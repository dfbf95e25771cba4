"""The Model Context Protocol at `/mcp`, streamable HTTP: what agents speak; each operation is a tool.

A POST is one message and gets its own answer, as JSON or as events. What a client gets as `Mcp-Session-Id` is a name
that we can tell to be ours and its key's; nothing is kept under it but the calls that run, so that
`notifications/cancelled` finds the one that it means.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route
from starlette.types import Message as Asgi
from starlette.types import Receive, Scope, Send
from yarl import URL

from gateway.callers import Caller
from gateway.desk import Desk
from gateway.doors.dialect import Dialect, Refusal
from gateway.doors.mcp import message
from gateway.doors.mcp.message import Message, NotAMessage
from gateway.doors.mcp.running import Runnings
from services.errors import BadInput, DarkroomError, Forbidden, Malformed, MethodNotAllowed, NotFound

if TYPE_CHECKING:
    from gateway.doors.mcp.server import McpServer

SESSION = "mcp-session-id"
PARSE_ERROR, INVALID_REQUEST, INVALID_PARAMS, INTERNAL_ERROR = -32700, -32600, -32602, -32603


class ModelContext(Dialect):
    name = "mcp"
    prefixes = ("/mcp/",)

    def __init__(self, desk: Desk) -> None:
        super().__init__(desk)
        self._runnings = Runnings()
        self._server: McpServer | None = None
        self._importing = asyncio.Lock()

    def routes(self) -> Sequence[BaseRoute]:
        return [
            Route("/mcp", self.take, methods=["POST"]),
            Route("/mcp/", self.take, methods=["POST"]),
            Route("/mcp", self.end, methods=["DELETE"]),
            Route("/mcp/", self.end, methods=["DELETE"]),
        ]

    async def take(self, request: Request) -> Response:
        """One message."""
        self._check_origin(request)
        session, caller = self._session(request), request.scope["caller"]
        came = await message.read(self.desk, request)
        if came.method == "notifications/cancelled":
            self._runnings.cancel(session, came.params.get("requestId"))
        begun = self.desk.state.signer.session(caller.key_id) if came.method == "initialize" else ""
        return _Answer(self, await self._loaded(), came, session, begun)

    async def end(self, request: Request) -> Response:
        """The client leaves: what it has running ends."""
        self._check_origin(request)
        session = self._session(request)
        if not session:
            raise BadInput("The header Mcp-Session-Id says which session ends.")
        self._runnings.end(session)
        return Response(status_code=204)

    async def _loaded(self) -> McpServer:
        async with self._importing:
            if self._server is None:
                # half a second, which neither those who speak other dialects nor the event loop shall wait for
                module = await asyncio.to_thread(import_module, "gateway.doors.mcp.server")
                self._server = module.McpServer(self.desk)
        return self._server

    async def answer(
        self, server: McpServer, came: Message, session: str, scope: Scope, receive: Receive, send: Send
    ) -> None:
        from gateway.doors.mcp.server import Asked

        caller: Caller = scope["caller"]
        with self._runnings.call(session, came.id) as running:
            asked = Asked(came, running, caller, scope["request_id"], self._base(Request(scope)))
            await server.answer(asked, scope, receive, send)

    # ── who may ──────────────────────────────────────────────────────────────────────────────────────────────

    def _session(self, request: Request) -> str:
        """The session that the request says it is of; none is fine."""
        name, caller = request.headers.get(SESSION, ""), request.scope["caller"]
        if name and not self.desk.state.signer.is_session(name, caller.key_id):
            raise NotFound(
                "There is no such session under this key.", help="Begin a new one with `initialize`."
            )
        return name

    def _check_origin(self, request: Request) -> None:
        """The protocol wants it of every server, whether there are keys or not."""
        origin, settings = request.headers.get("origin", "").lower(), self.desk.state.settings
        if not origin or "*" in settings.cors_origins:
            return
        known = {request.headers.get("host", "").lower()}
        known |= {URL(url).authority.lower() for url in (*settings.cors_origins, settings.public_url) if url}
        scheme, _, authority = origin.partition("://")
        if scheme not in ("http", "https") or authority not in known:
            raise Forbidden(
                "Pages of another origin may not call this.",
                help="An operator can allow an origin with DARKROOM_CORS_ORIGINS.",
            )

    def _base(self, request: Request) -> str:
        settings = self.desk.state.settings
        if settings.public_url:
            return settings.public_base
        return f"{request.url.scheme}://{request.url.netloc}{settings.root_path}"

    # ── errors ───────────────────────────────────────────────────────────────────────────────────────────────

    def status(self, error: DarkroomError) -> int:
        return 400 if error.status == 422 else error.status

    def document(self, error: DarkroomError, request_id: str) -> Any:
        match error:
            case NotAMessage():
                code = INVALID_REQUEST
            case Malformed():
                code = PARSE_ERROR
            case BadInput():
                code = INVALID_PARAMS
            case _:
                code = INTERNAL_ERROR if error.status >= 500 else INVALID_REQUEST
        data = error.problem() | {"request_id": request_id}
        return {
            "jsonrpc": "2.0",
            "id": None,
            "error": {"code": code, "message": self.told(error), "data": data},
        }

    def refusal(self, error: DarkroomError, request_id: str) -> Refusal:
        status, headers, body = super().refusal(error, request_id)
        if isinstance(error, MethodNotAllowed):
            headers.append((b"allow", b"POST, DELETE"))
        return status, headers, body


class _Answer(Response):
    """An answer that the protocol's own code writes, with a session's name where one begins."""

    def __init__(
        self, door: ModelContext, server: McpServer, came: Message, session: str, begun: str
    ) -> None:
        self._door, self._server, self._came = door, server, came
        self._session, self._begun = session, begun

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def named(message: Asgi) -> None:
            if message["type"] == "http.response.start":
                more = [(b"cache-control", b"no-store")]
                if self._begun and message["status"] == 200:
                    more.append((SESSION.encode(), self._begun.encode()))
                kept = [pair for pair in message.get("headers", ()) if pair[0] != b"cache-control"]
                message["headers"] = [*kept, *more]
            await send(message)

        await self._door.answer(self._server, self._came, self._session, scope, receive, named)
