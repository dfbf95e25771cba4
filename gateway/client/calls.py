"""One request to the gateway: what to send, what to make of the reply, when to try again. It does no IO.

`call` is a generator: it yields a `Request` and is given the `Reply`, or yields a `Pause` and is given nothing. A
driver (driving.py) does what is yielded; it throws `Unreachable` or `DeadlineExceeded` in when nothing came, and
`GiveUp` when there is no time for a pause.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Generator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, TypeVar

import orjson

from gateway.client.params import Part
from services.errors import (
    TYPE_PREFIX,
    BadInput,
    BadUpstream,
    Conflict,
    DarkroomError,
    DeadlineExceeded,
    Forbidden,
    NotFound,
    ServiceFault,
    TooLarge,
    TooManyRequests,
    Unauthorized,
    Unavailable,
    family,
    from_problem,
)

T = TypeVar("T")
UNREACHED = 3  # attempts where nothing answers at all
LONGEST = 8.0  # seconds of a pause where nobody says how long it should be
STATUSES: dict[int, type[DarkroomError]] = {
    401: Unauthorized,
    403: Forbidden,
    404: NotFound,
    409: Conflict,
    413: TooLarge,
    429: TooManyRequests,
    502: BadUpstream,
    503: Unavailable,
    504: DeadlineExceeded,
}


class Unreachable(Unavailable):
    """Nothing answers at the address, or the connection broke before the answer was whole."""

    slug, title = "unreachable", "Nothing answers at this address"
    help = "Start Darkroom with `make up`, or give its address with --url or DARKROOM_URL."


class Unsent(Unreachable):
    """No connection was made, so nothing arrived, and anything may be sent again."""


class GiveUp(Exception):
    """The driver's word to a generator that wants to pause: there is no time for it."""


@dataclass(frozen=True, slots=True)
class Request:
    method: str
    path: str
    query: dict[str, Any] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)
    json: Any = None
    form: dict[str, str] | None = None
    parts: dict[str, Part] = field(default_factory=dict)
    stream: bool = False
    repeatable: bool = False  # may be sent again when nobody knows whether it arrived


@dataclass(frozen=True, slots=True)
class Reply:
    status: int
    headers: dict[str, str]  # with lower-case names
    content: bytes = b""
    stream: Any = None  # the driver's open response

    def json(self) -> Any:
        try:
            return orjson.loads(self.content)
        except orjson.JSONDecodeError as error:
            raise BadUpstream(
                "The answer is not JSON; is there really a Darkroom at this address?"
            ) from error


@dataclass(frozen=True, slots=True)
class Pause:
    seconds: float
    attempt: int = 0  # before which another one comes; 0 where it is no matter of trying again


Steps = Generator[Request | Pause, Any, T]


def call(request: Request) -> Steps[Reply]:
    """One request, sent again while that helps and harms nobody, as long as the driver allows the pauses."""
    for attempt in itertools.count(1):
        try:
            reply: Reply = yield request
            if reply.status < 400:
                return reply
            error = _error(reply)
        except Unreachable as unreachable:
            error = unreachable
        if not _helps(error, request, attempt):
            raise error
        try:
            yield Pause(_pause(error, attempt), attempt)
        except GiveUp:
            raise error from None
    raise AssertionError("an attempt returns or raises")


def _helps(error: DarkroomError, request: Request, attempt: int) -> bool:
    """Whether the same may be sent again: it was refused before any work, or repeating it changes nothing."""
    if isinstance(error, Unreachable):
        return attempt < UNREACHED and (request.repeatable or isinstance(error, Unsent))
    if error.status in (429, 503):
        return error.retryable
    return request.repeatable and error.status in (502, 504)  # a proxy's, while what is behind it starts anew


def _pause(error: DarkroomError, attempt: int) -> float:
    """A little chance in it, so that callers who were refused together do not come back together."""
    if error.retry_after:
        return error.retry_after + random.uniform(0.0, min(1.0, 0.1 * error.retry_after))
    return min(LONGEST, 0.25 * 2.0 ** (attempt - 1)) * random.uniform(0.75, 1.25)


def _error(reply: Reply) -> DarkroomError:
    """The exception that an error reply stands for; a proxy's own page becomes one that names its status."""
    try:
        document = orjson.loads(reply.content)
    except orjson.JSONDecodeError:
        document = None
    told: dict[str, Any] = {
        "retry_after": _seconds(reply.headers.get("retry-after")),
        "request_id": reply.headers.get("x-request-id"),
    }
    told = {name: value for name, value in told.items() if value is not None}
    kind = STATUSES.get(reply.status, BadInput if reply.status < 500 else ServiceFault)
    if isinstance(document, dict) and str(document.get("type", "")).startswith(TYPE_PREFIX):
        known = any(document["type"] == TYPE_PREFIX + one.slug for one in family())
        # a type that a newer gateway has is at least what its status says
        return from_problem(told | document | ({} if known else {"type": TYPE_PREFIX + kind.slug}))
    return kind(f"The answer was HTTP {reply.status}, and not from a Darkroom.", **told)


def _seconds(value: str | None) -> float | None:
    """Retry-After, which is a number of seconds or a date."""
    if not value:
        return None
    try:
        return max(0.0, float(value)) if value[0].isdigit() else _until(parsedate_to_datetime(value))
    except ValueError:
        return None


def _until(moment: datetime) -> float:
    return max(0.0, (moment - datetime.now(UTC)).total_seconds())
