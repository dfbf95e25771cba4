"""A foreign dialect: what a door that speaks somebody else's language is made of.

    Front ──key, rate──> Dialect ──> its endpoint ──> Desk ──> operation
                            └ errors come back in the dialect's own form

A dialect has paths, a way to send a key, and a look of errors. Its endpoints turn a request into an operation's fields
and the outcome into an answer, and decide nothing.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import AsyncExitStack
from typing import Any, ClassVar

import orjson
from starlette.routing import BaseRoute, Route, Router
from starlette.types import Receive, Scope, Send

from gateway.desk import ANSWERING, Desk
from gateway.problems import encode
from services.errors import DarkroomError, Unauthorized

Refusal = tuple[int, list[tuple[bytes, bytes]], bytes]
BASIC = 'Basic realm="Darkroom", charset="UTF-8"'


class Dialect(ABC):
    """An ASGI application for the paths of one dialect."""

    name: ClassVar[str]  # as logs and metrics call it
    prefixes: ClassVar[tuple[str, ...]] = ()  # whole families of paths that are the dialect's, known or not
    challenges: ClassVar[tuple[str, ...]] = (
        "Bearer",
    )  # ways to send a key, that of the original's clients first

    def __init__(self, desk: Desk) -> None:
        self.desk = desk
        routes = list(self.routes())
        self._paths = {route.path for route in routes if isinstance(route, Route)}
        self._router = Router(routes, redirect_slashes=False)

    @abstractmethod
    def routes(self) -> Sequence[BaseRoute]:
        """Its paths, each with the method that answers it."""

    def takes(self, path: str) -> bool:
        return path in self._paths or path.startswith(self.prefixes)

    def basic(self, user: str, password: str) -> str:
        """The key, where a client sends a name and a password: most dialects' clients put it into the password."""
        return password or user

    def status(self, error: DarkroomError) -> int:
        """The status that the original would answer with."""
        return error.status

    def document(self, error: DarkroomError, request_id: str) -> Any:
        """The body of an error's answer, as the original's clients read it."""
        return error.problem() | {"request_id": request_id}

    def refusal(self, error: DarkroomError, request_id: str) -> Refusal:
        """Status, headers and body of an error's answer."""
        _, headers, _ = encode(error, request_id)
        body = orjson.dumps(self.document(error, request_id), default=str)
        own = {b"content-type": b"application/json", b"content-length": str(len(body)).encode()}
        if isinstance(error, Unauthorized):
            own[b"www-authenticate"] = ", ".join(self.challenges).encode()
        kept = [(name, value) for name, value in headers if name not in own]
        return self.status(error), [*own.items(), *kept], body

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope["app"] = self  # so that Starlette raises what it finds wrong, and does not answer by itself
        async with AsyncExitStack() as answering:
            scope[ANSWERING] = answering
            await self._router(scope, receive, send)
