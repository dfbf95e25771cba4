"""One message of the Model Context Protocol: a request's body in; what it asks, and the rest of the body out.

A tool's arguments may carry pictures as base64. They go past the protocol's own code, which reads a message several
times over: it gets the message without them, and the tool takes them from here.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any

import orjson
from starlette.requests import Request
from starlette.types import Message as Asgi
from starlette.types import Receive

from gateway.desk import Desk
from services.errors import Malformed, UnsupportedMedia

RequestId = str | int


class NotAMessage(Malformed):
    """JSON, but no message of JSON-RPC."""

    help = 'Send one JSON-RPC 2.0 object: {"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {}}.'


@dataclass(slots=True)
class Message:
    method: str  # empty for an answer to us, which nobody asked for
    id: RequestId | None  # None for a notification
    params: dict[str, Any]
    body: bytes  # for the protocol's own code
    arguments: dict[str, Any] = field(default_factory=dict)

    def receive(self) -> Receive:
        """ASGI's `receive`, of the body; it never says that the client went away: that is watched elsewhere."""
        left = [self.body]

        async def receive() -> Asgi:
            if left:
                return {"type": "http.request", "body": left.pop(), "more_body": False}
            await asyncio.Event().wait()
            raise AssertionError

        return receive


async def read(desk: Desk, request: Request) -> Message:
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise UnsupportedMedia(
            f"The content type {kind[:80] or '(none)'!r} is not understood here.",
            help="Send application/json, and accept application/json and text/event-stream.",
        )
    return _message((await desk.form(request)).fields)


def _message(document: dict[str, Any]) -> Message:
    method, own_id, params = document.get("method", ""), document.get("id"), document.get("params")
    if document.get("jsonrpc") != "2.0" or not isinstance(method, str):
        raise NotAMessage('A message has `"jsonrpc": "2.0"` and the name of a method.')
    if not method and not document.keys() & {"result", "error"}:
        raise NotAMessage("The message names no method.")
    if "id" in document and (not isinstance(own_id, str | int) or isinstance(own_id, bool)):
        raise NotAMessage("A request's id is a text or a whole number.")
    if isinstance(own_id, str) and len(own_id) > 1000:
        raise NotAMessage("A request's id has 1000 characters at most.")
    if not isinstance(params, dict):
        params = {}
    arguments: dict[str, Any] = {}
    if method == "tools/call" and isinstance(params.get("arguments"), dict):
        arguments, params["arguments"] = params["arguments"], {}
    try:
        body = orjson.dumps(document)
    except orjson.JSONEncodeError as error:  # it was read, but is too deep to be written
        raise NotAMessage(f"The message is too deep: {error}.") from error
    return Message(method, own_id, params, body, arguments)
