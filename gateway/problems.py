"""Errors on their way out over HTTP: an exception in, an `application/problem+json` answer out.

Also how they are documented: `documented(NotFound, ...)` is what a FastAPI route takes as `responses`.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator
from typing import Any

import orjson
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.routing import BaseRoute, Match, Route, Router

from services.errors import (
    PROBLEM_JSON,
    BadInput,
    DarkroomError,
    Forbidden,
    Malformed,
    MethodNotAllowed,
    NotFound,
    RateLimited,
    TooLarge,
    TooManyRequests,
    Unauthorized,
    Unavailable,
    UnsupportedMedia,
)

log = logging.getLogger("darkroom.gateway")

Responses = dict[int | str, dict[str, Any]]

MOST_TOLD = 16  # mistakes that one answer lists
CLIENT_GONE = 499  # who asked left before the answer, which is nobody's fault here

# what any call may be answered: the key, the rate, a fault of ours, a database that is away
ANYWHERE = (Unauthorized, Forbidden, TooManyRequests, DarkroomError, Unavailable)
_BY_STATUS: dict[int, type[DarkroomError]] = {
    kind.status: kind
    for kind in (Malformed, Unauthorized, NotFound, MethodNotAllowed, TooLarge, UnsupportedMedia)
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
    if isinstance(error, RateLimited) and (limit := error.extra.get("limit")) is not None:
        headers += [(b"ratelimit-limit", b"%d" % limit), (b"ratelimit-remaining", b"0")]
        headers.append((b"ratelimit-reset", b"%d" % math.ceil(error.retry_after or 1)))
    if isinstance(error, Unauthorized):
        headers.append((b"www-authenticate", b"Bearer"))
    return error.status, headers, body


def from_validation(
    error: ValidationError | RequestValidationError, prefix: tuple[str, ...] = ()
) -> BadInput:
    """The first mistake as the problem's field and detail, and all of them under `errors`."""
    found = []
    for item in error.errors()[:MOST_TOLD]:
        path = [str(part)[:80] for part in item["loc"] if not str(part).startswith("function-")]
        if path and path[0] in ("body", "query", "path", "header"):
            path = path[1:]
        if about := item.get("ctx", {}).get(
            "field"
        ):  # where a model's own validator says it (operations.misfit)
            path.append(str(about))
        found.append({"field": ".".join([*prefix, *path]), "detail": _sentence(item)})
    first = found[0]
    detail = f"{first['field']}: {first['detail']}" if first["field"] else first["detail"]
    if isinstance(error, RequestValidationError) and error.errors()[0]["type"] == "json_invalid":
        return Malformed("The body is not valid JSON.")
    return BadInput(detail, field=first["field"] or None, errors=found)


def _sentence(item: Any) -> str:
    message = str(item["msg"]).removeprefix("Value error, ")
    if item["type"] == "extra_forbidden":
        return "is not known here"
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


def install(app: FastAPI, beside: Callable[[DarkroomError, str], DarkroomError]) -> None:
    """Have every exception of a FastAPI route answered as a problem; `beside` may add to it what others than our own
    clients read at that path."""

    async def answer(request: Request, error: Exception) -> Response:
        if isinstance(error, HTTPException) and error.status_code == 404:
            error = NotFound(
                f"There is nothing at {request.url.path[:200]}; GET /v1/operations lists what can be asked."
            )
        problem = beside(translate(error), request.scope["path"])
        status, headers, body = encode(problem, request.scope.get("request_id", ""))
        if status == MethodNotAllowed.status:
            headers.append((b"allow", ", ".join(_allowed(app, request)).encode()))
        response = Response(body, status)
        response.raw_headers = headers
        return response

    for kind in (DarkroomError, RequestValidationError, ValidationError, HTTPException):
        app.add_exception_handler(kind, answer)

    async def hung_up(_request: Request, _error: Exception) -> Response:
        return Response(status_code=CLIENT_GONE)  # nobody reads it, but logs and metrics do

    app.add_exception_handler(ClientDisconnect, hung_up)


def _allowed(app: FastAPI, request: Request) -> list[str]:
    """Every method of this path: of routes that share it, each would name its own alone."""
    found: set[str] = set()
    for route in _routes(app.router):
        if isinstance(route, Route) and route.matches(request.scope)[0] is not Match.NONE:
            found |= route.methods or set()
    return sorted(found)


def _routes(router: Router) -> Iterator[BaseRoute]:
    for route in router.routes:
        # FastAPI keeps an included router as one route of its own
        included = getattr(route, "original_router", None)
        if included is None:
            yield route
        else:
            yield from _routes(included)
