"""In front of all doors: who is calling and whether the key may, then the door; and the last catch of every error.

It is plain ASGI and cheap, since every request pays for it. Operations go to the hot route, all else to FastAPI.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable, Sequence

from fastapi import FastAPI
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway import logs
from gateway.callers import Caller
from gateway.doors import openai_errors
from gateway.doors.dialect import Dialect
from gateway.doors.native import RunDoor
from gateway.doors.watch import ClientGone
from gateway.forms import Reader
from gateway.intake import Intake
from gateway.problems import encode, translate
from gateway.state import GatewayState
from services.errors import NotFound, Unauthorized

_BEARER, _BASIC = b"bearer ", b"basic "
REFUSED = frozenset({401, 403, 429})
# else a browser guesses for how long what it was once told is true: a document changes, and only a picture says that it
# never does
_ELSEWHERE = (b"connection", b"close")
_ASK_AGAIN = (b"cache-control", b"no-cache")


class Front:
    """An ASGI application; it puts into the scope what the doors need."""

    def __init__(
        self,
        state: GatewayState,
        run: RunDoor,
        rest: FastAPI,
        reader: Reader,
        intake: Intake,
        dialects: Sequence[Dialect] = (),
    ) -> None:
        self._state, self._run, self._rest, self._dialects = state, run, rest, dialects
        self._root = state.settings.root_path
        self._tools = {"darkroom": state, "darkroom.reader": reader, "darkroom.intake": intake}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._rest(scope, receive, send)
            return
        path: str = scope["path"]
        if self._root and path.startswith(self._root + "/"):
            path = scope["path"] = path[len(self._root) :]
        scope.update(self._tools)
        answer, dialect = _Answer(send), None
        if self._state.draining:
            answer.more = [_ELSEWHERE]  # the next request of this client finds another gateway
        try:
            if "\0" in path:
                raise NotFound("No path has a null character.")
            if self._run.takes(path):
                door: ASGIApp = self._run
            else:
                dialect = next((one for one in self._dialects if one.takes(path)), None)
                door = dialect or self._rest
            if dialect is not None:
                await self._welcome(scope, dialect, answer)
            elif path.startswith("/v1/"):
                await self._admit(scope, path, answer)
            await door(scope, receive, answer.send)
        except (ClientGone, ClientDisconnect):
            return
        except Exception as error:
            if answer.begun:
                raise  # half an answer is out; only a broken connection can say that the rest will not come
            refusal = translate(error)
            if refusal.status in REFUSED:
                self._state.metrics.refused(refusal.slug)
            if dialect is None:
                status, headers, body = encode(openai_errors.beside(refusal, path), scope["request_id"])
            else:
                status, headers, body = dialect.refusal(refusal, scope["request_id"])
            await answer.send({"type": "http.response.start", "status": status, "headers": headers})
            await answer.send({"type": "http.response.body", "body": body})

    async def _welcome(self, scope: Scope, dialect: Dialect, answer: _Answer) -> None:
        """A foreign door's caller."""
        logs.tell(door=dialect.name)
        caller: Caller = await self._state.keys.caller(secret(scope["headers"], dialect))
        scope["caller"] = caller
        logs.tell(key=caller.key_id)
        if (standing := await self._state.limits.admit(caller)) is not None:
            answer.more = [*answer.more, *standing.headers()]

    async def _admit(self, scope: Scope, path: str, answer: _Answer) -> None:
        given = secret(scope["headers"])
        if given is None and _by_link(scope, path):
            scope["caller"] = None  # the bearer of a signed link, which the door checks
            return
        caller: Caller = await self._state.keys.caller(given)
        scope["caller"] = caller
        logs.tell(key=caller.key_id, door="admin" if path.startswith("/v1/admin") else "native")
        if (standing := await self._state.limits.admit(caller)) is not None:
            answer.more = [*answer.more, *standing.headers()]


class _Answer:
    """Knows whether an answer has begun; adds the key's standing, and how to cache it where the door says nothing."""

    __slots__ = ("_send", "begun", "more")

    def __init__(self, send: Send) -> None:
        self._send, self.begun = send, False
        self.more: list[tuple[bytes, bytes]] = []

    async def send(self, message: Message) -> None:
        if not self.begun:
            self.begun = True
            headers = message.get("headers", ())
            more = self.more
            if not any(name == b"cache-control" for name, _ in headers):
                more = [*more, _ASK_AGAIN]
            if more:
                message["headers"] = [*headers, *more]
        await self._send(message)


def _by_link(scope: Scope, path: str) -> bool:
    """A link opens a picture for reading, and nothing else."""
    reads = scope["method"] in ("GET", "HEAD") and path.startswith("/v1/assets/")
    return reads and b"signature=" in scope["query_string"]


def secret(headers: Iterable[tuple[bytes, bytes]], dialect: Dialect | None = None) -> str | None:
    """The key that a request brings, however it brings it."""
    given = other = None
    for name, value in headers:
        if name == b"authorization":
            given = value
        elif name == b"x-api-key":
            other = value
    if given is None:
        return None if other is None else other.decode("latin-1")
    if dialect is not None and given[:6].lower() == _BASIC:
        return dialect.basic(*_name_and_password(given[6:]))
    if given[:7].lower() != _BEARER:
        raise Unauthorized("The Authorization header must be `Bearer KEY`.")
    return str(given[7:].strip().decode("latin-1"))


def _name_and_password(coded: bytes) -> tuple[str, str]:
    try:
        user, _, password = base64.b64decode(coded.strip(), validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError) as error:
        raise Unauthorized("The Authorization header's name and password cannot be read.") from error
    return user, password
