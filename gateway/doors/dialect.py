"""A foreign dialect: what a door that speaks somebody else's language is made of.

    Front ──key, rate──> Dialect ──> its endpoint ──> Desk ──> operation
                            └ errors come back in the dialect's own form

A dialect has paths, a way to send a key, and a look of errors. Its endpoints turn a request into an operation's fields
and the outcome into an answer, and decide nothing.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, contextmanager
from typing import Any, ClassVar

import orjson
from starlette.exceptions import HTTPException
from starlette.routing import BaseRoute, Route, Router
from starlette.types import Receive, Scope, Send

from gateway.desk import ANSWERING, Desk, sentence
from gateway.problems import encode
from services.errors import (
    BadInput,
    BadPicture,
    DarkroomError,
    DeadlineExceeded,
    Malformed,
    NotFound,
    TooSlow,
    Unauthorized,
    UnsupportedMedia,
)
from services.pictures import GIVEN

Refusal = tuple[int, list[tuple[bytes, bytes]], bytes]
BASIC = 'Basic realm="Darkroom", charset="UTF-8"'
# what to do, where the usual sentence names things that the clients of no dialect know
_WORDS: dict[type[DarkroomError], str] = {
    BadInput: "Correct the field that is named.",
    BadPicture: "Send a whole PNG, JPEG, WebP, GIF, BMP or TIFF picture.",
    Malformed: "Send a JSON object, as application/json.",
    UnsupportedMedia: "Send a JSON object, as application/json.",
    NotFound: "Darkroom's page docs/doors.md lists what is here of this interface.",
    TooSlow: "Send the body faster.",
    DeadlineExceeded: "Ask for less: fewer pictures, fewer steps, fewer pixels.",
}


class Dialect(ABC):
    """An ASGI application for the paths of one dialect."""

    name: ClassVar[str]  # as logs and metrics call it
    prefixes: ClassVar[tuple[str, ...]] = ()  # whole families of paths that are the dialect's, known or not
    challenges: ClassVar[tuple[str, ...]] = (
        "Bearer",
    )  # ways to send a key, that of the original's clients first

    words: ClassVar[Mapping[type[DarkroomError], str]] = {}  # what to do, as the original's clients can
    missing: ClassVar[Mapping[str, str]] = {}  # paths of the original that are not here: what is instead
    given: ClassVar[str] = "base64, a data URI or an address"  # how a picture goes in

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

    def what_to_do(self, error: DarkroomError) -> str:
        """The sentence that helps this dialect's clients: the error's own, or that of its kind here."""
        usual = type(error).help
        if error.what_to_do != usual:
            return error.what_to_do
        for kind in type(error).__mro__:
            if getattr(kind, "help", None) != usual:
                break
            if (found := self.words.get(kind) or _WORDS.get(kind)) is not None:
                return found
        return usual

    def detail(self, error: DarkroomError) -> str:
        """What is wrong; where a picture is, how one is given here."""
        return error.detail.replace(GIVEN, self.given)

    def told(self, error: DarkroomError) -> str:
        """What is wrong and what to do, in one line."""
        return sentence(error, self.what_to_do(error)).replace(GIVEN, self.given)

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
            try:
                await self._router(scope, receive, send)
            except HTTPException as error:
                if error.status_code != NotFound.status:
                    raise
                path = scope["path"]
                raise NotFound(
                    f"There is nothing at {path[:200]}.", help=self.missing.get(path.rstrip("/"))
                ) from error


@contextmanager
def called(theirs: Mapping[str, str]) -> Iterator[None]:
    """Errors that come out name the client's fields, and not ours."""
    try:
        yield
    except DarkroomError as error:
        if (name := theirs.get(error.field or "")) is not None:
            error.detail = error.detail.replace(f"{error.field}: ", f"{name}: ", 1)
            error.field = name
        raise
