"""Errors on their way out over HTTP: an exception in, an `application/problem+json` answer out.

Also how they are documented: `documented(NotFound, ...)` is what a FastAPI route takes as `responses`.
"""

from __future__ import annotations

import logging
import math
from typing import Any

import orjson
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from services.errors import (
    PROBLEM_JSON,
    BadInput,
    DarkroomError,
    Forbidden,
    Malformed,
    MethodNotAllowed,
    NotFound,
    TooLarge,
    TooManyRequests,
    Unauthorized,
    UnsupportedMedia,
)

log = logging.getLogger("darkroom.gateway")

Responses = dict[int | str, dict[str, Any]]

# what any call may be answered: the key, the rate, a fault of ours
ANYWHERE = (Unauthorized, Forbidden, TooManyRequests, DarkroomError)
_BY_STATUS: dict[int, type[DarkroomError]] = {
    kind.status: kind
    for kind in (Malformed, Unauthorized, NotFound, MethodNotAllowed, TooLarge, UnsupportedMedia)
}

PROBLEM_SCHEMA: dict[str, Any] = {
    "title": "Problem",
    "type": "object",
    "description": "What went wrong and what to do about it (RFC 9457).",
    "required": ["type", "title", "status", "detail", "help"],
    "properties": {
        "type": {"type": "string", "description": "Stable; programs may match on it."},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "help": {"type": "string", "description": "What the reader can do."},
        "field": {"type": "string", "description": "The parameter at fault."},
        "retry_after": {"type": "number", "description": "Seconds after which to try again."},
        "request_id": {"type": "string"},
    },
}


def encode(error: DarkroomError, request_id: str = "") -> tuple[int, list[tuple[bytes, bytes]], bytes]:
    """Status, headers and body of the answer that tells of `error`."""
    document = error.problem()
    if request_id:
        document["request_id"] = request_id
    body = orjson.dumps(document, default=str)
    headers = [(b"content-type", PROBLEM_JSON.encode()), (b"content-length", str(len(body)).encode())]
    if error.retry_after is not None:
        headers.append((b"retry-after", str(max(1, math.ceil(error.retry_after))).encode()))
    if isinstance(error, Unauthorized):
        headers.append((b"www-authenticate", b"Bearer"))
    return error.status, headers, body


def from_validation(
    error: ValidationError | RequestValidationError, prefix: tuple[str, ...] = ()
) -> BadInput:
    """The first mistake as the problem's field and detail, and all of them under `errors`."""
    found = []
    for item in error.errors():
        path = [str(part) for part in item["loc"] if not str(part).startswith("function-")]
        if path and path[0] in ("body", "query", "path", "header"):
            path = path[1:]
        found.append({"field": ".".join([*prefix, *path]), "detail": _sentence(item)})
    first = found[0]
    detail = f"{first['field']}: {first['detail']}" if first["field"] else first["detail"]
    if isinstance(error, RequestValidationError) and error.errors()[0]["type"] == "json_invalid":
        return Malformed("The body is not valid JSON.")
    return BadInput(detail, field=first["field"] or None, errors=found)


def _sentence(item: Any) -> str:
    message = str(item["msg"]).removeprefix("Value error, ")
    if item["type"] == "extra_forbidden":
        return "is not a parameter of this operation"
    return message[:1].lower() + message[1:]


def documented(*kinds: type[DarkroomError], also: Responses | None = None) -> Responses:
    """The error answers of a route, for its OpenAPI; those that any call may get are always among them. `also` are
    answers of the route's own, which are no errors."""
    by_status: Responses = {}
    every: set[type[DarkroomError]] = {*kinds, *ANYWHERE}
    for kind in sorted(every, key=lambda k: k.status):
        titles = by_status.get(kind.status, {}).get("description")
        by_status[kind.status] = {
            "description": f"{titles}; {kind.title}" if titles else kind.title,
            "content": {PROBLEM_JSON: {"schema": {"$ref": "#/components/schemas/Problem"}}},
        }
    return {**(also or {}), **by_status}


def translate(error: Exception) -> DarkroomError:
    """The one place where another library's exception becomes ours."""
    match error:
        case DarkroomError():
            return error
        case RequestValidationError() | ValidationError():
            return from_validation(error)
        case HTTPException():
            kind = _BY_STATUS.get(error.status_code, DarkroomError if error.status_code >= 500 else BadInput)
            return kind()
        case _:
            log.error("unhandled", exc_info=error)
            return DarkroomError()


def install(app: FastAPI) -> None:
    """Have every exception of a FastAPI route answered as a problem."""

    async def answer(request: Request, error: Exception) -> Response:
        status, headers, body = encode(translate(error), request.scope.get("request_id", ""))
        response = Response(body, status)
        response.raw_headers = headers
        if (
            isinstance(error, HTTPException)
            and error.headers
            and "allow" in {k.lower() for k in error.headers}
        ):
            response.headers["allow"] = {k.lower(): v for k, v in error.headers.items()}["allow"]
        return response

    for kind in (DarkroomError, RequestValidationError, ValidationError, HTTPException):
        app.add_exception_handler(kind, answer)
