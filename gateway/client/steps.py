"""The core that both clients share: what to send, what to make of the reply, when to try again. It does no IO.

Each function is a generator: it yields a `Request` and is given the `Reply`, or yields a `Pause` and is given
nothing, and returns what the caller wanted. A driver (sync.py, asynchronous.py) does what is yielded, and throws
`Unreachable` or `DeadlineExceeded` back in when nothing came.
"""

from __future__ import annotations

import itertools
import random
import secrets
import time
from collections.abc import Generator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any, TypeVar

import orjson

from gateway.client.answers import Asset, Made, Result, finished, raise_if_failed
from gateway.client.events import EventReader, ServerEvent
from gateway.client.params import Part, gather, read_picture
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
AWAY = 30.0  # seconds that the gateway may be away while somebody waits for a job: it restarts, the job stays
BREAKS = 20  # connections in a row that bring no event before a stream is given up
PAGE = 200  # the most that one page of a list may have
JSON, EVENTS = "application/json", "text/event-stream"
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
Page = tuple[list[dict[str, Any]], str | None]


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


# ── operations ────────────────────────────────────────────────────────────────────────────────────────────


def asking(operation: str, params: dict[str, Any], *, accept: str = JSON) -> Request:
    """The request for one operation: a form where there are pictures, else JSON."""
    found = gather(operation, params)
    request = Request("POST", f"/v1/{operation}", headers={"accept": accept}, stream=accept == EVENTS)
    if found.parts:
        return replace(request, form=found.form(), parts=found.parts)
    return replace(request, json=found.fields)


def run(request: Request) -> Steps[Result]:
    reply = yield from call(request)
    return (yield from result_of(reply.json()))


def result_of(document: dict[str, Any]) -> Steps[Result]:
    """The pictures that a document names, fetched."""
    raise_if_failed(document)
    pictures = []
    for entry in document["pictures"]:
        content = yield from get_asset(str(entry["id"]))
        pictures.append(
            Made(
                content,
                entry["media_type"],
                entry.get("role", "picture"),
                entry.get("width"),
                entry.get("height"),
                entry.get("seed"),
                entry["id"],
            )
        )
    return Result(document, pictures)


def ended(event: ServerEvent) -> dict[str, Any] | None:
    """The document that the last event of a synchronous call brings; raises what an error event says."""
    if event.kind == "error":
        raise from_problem(event.data)
    return event.data if event.kind == "done" else None


def catalogue(path: str, of: str) -> Steps[list[dict[str, Any]]]:
    """The list `of` at `path`."""
    reply = yield from call(Request("GET", path, repeatable=True))
    found: list[dict[str, Any]] = reply.json()[of]
    return found


# ── jobs ──────────────────────────────────────────────────────────────────────────────────────────────────


def submitting(
    operation: str,
    params: dict[str, Any],
    *,
    priority: int = 0,
    webhook: str | None = None,
    idempotency_key: str | None = None,
) -> Request:
    """The request that makes a job."""
    found = gather(operation, params)
    body = {"operation": operation, "priority": priority, "webhook": webhook}
    # with a key of its own it may be sent again however the first attempt ended, and makes one job only
    request = Request(
        "POST",
        "/v1/jobs",
        headers={"idempotency-key": idempotency_key or secrets.token_urlsafe(18)},
        repeatable=True,
    )
    if found.parts:
        fields = {name: str(value) for name, value in body.items() if value is not None}
        form = fields | {"params": orjson.dumps(found.fields).decode()}
        return replace(request, form=form, parts=found.parts)
    given = {name: value for name, value in body.items() if value is not None}
    return replace(request, json=given | {"params": found.fields})


def told(request: Request) -> Steps[dict[str, Any]]:
    """The JSON document that a request is answered with."""
    document: dict[str, Any] = (yield from call(request)).json()
    return document


def get_job(job_id: str) -> Steps[dict[str, Any]]:
    return told(Request("GET", f"/v1/jobs/{job_id}", repeatable=True))


def cancel_job(job_id: str) -> Steps[dict[str, Any]]:
    return told(Request("DELETE", f"/v1/jobs/{job_id}", repeatable=True))


def wait_for(job_id: str, timeout: float | None) -> Steps[Result]:
    """Look again and again, more and more seldom, until it has ended."""
    until = time.monotonic() + timeout if timeout is not None else None
    pause, seen = 0.05, time.monotonic()
    document: dict[str, Any] = {"state": "unknown"}
    while True:
        try:
            document = yield from get_job(job_id)
            seen = time.monotonic()
        except Unreachable:
            if time.monotonic() - seen > AWAY:
                raise
        if finished(document):
            return (yield from result_of(document))
        if until is not None and time.monotonic() + pause > until:
            raise DeadlineExceeded(
                f"The job {job_id} is still {document['state']} after {timeout:g} s.",
                help="It goes on: wait again, or cancel it.",
            )
        yield Pause(pause)
        pause = min(1.0, pause * 1.5)


def page(path: str, of: str, query: dict[str, Any], before: str | None, most: int | None) -> Steps[Page]:
    """The entries `of` the list at `path` that come after `before`, and where the next ones begin."""
    asked = {name: value for name, value in query.items() if value is not None}
    asked["limit"] = PAGE if most is None else min(PAGE, most)
    if before is not None:
        asked["before"] = before
    document = yield from told(Request("GET", path, query=asked, repeatable=True))
    return document[of], document.get("next")


class Following:
    """A job's events over as many connections as it takes; the state between them."""

    def __init__(self, job_id: str, last_event_id: str | None = None) -> None:
        self._path = f"/v1/jobs/{job_id}/events"
        self._reader = EventReader()
        self._reader.last_id = last_event_id
        self._breaks = 0

    @property
    def ended(self) -> bool:
        return self._reader.ended

    def connect(self) -> Steps[Reply]:
        headers = {"accept": EVENTS}
        if self._reader.last_id is not None:
            headers["last-event-id"] = self._reader.last_id
        return call(Request("GET", self._path, headers=headers, stream=True, repeatable=True))

    def feed(self, data: bytes) -> list[ServerEvent]:
        events = self._reader.feed(data)
        if events:
            self._breaks = 0
        return events

    def broken(self) -> float:
        """The connection went before the end: seconds until the next, or the end of patience."""
        self._reader.broken()
        self._breaks += 1
        if self._breaks > BREAKS:
            raise Unreachable(f"The events of {self._path} broke off {BREAKS} times without bringing any.")
        return min(2.0, 0.1 * 1.5**self._breaks)


# ── assets ────────────────────────────────────────────────────────────────────────────────────────────────


def uploading(picture: Any) -> Request:
    """The request that keeps a picture."""
    part = read_picture(Path(picture) if isinstance(picture, str) else picture, "file")
    if part is None:
        raise BadInput(
            f"A {type(picture).__name__} is no picture.", help="Give a path, bytes, a file or a Pillow image."
        )
    return Request("POST", "/v1/assets", form={}, parts={"file": part})


def put_asset(request: Request) -> Steps[Asset]:
    document = yield from told(request)
    return Asset(document["id"], document)


def get_asset(asset_id: str) -> Steps[bytes]:
    return (yield from call(Request("GET", f"/v1/assets/{asset_id}", repeatable=True))).content


def link_asset(asset_id: str, seconds: int) -> Steps[str]:
    path = f"/v1/assets/{asset_id}/link"
    # each link is as good as another
    document = yield from told(Request("POST", path, query={"seconds": seconds}, repeatable=True))
    return str(document["url"])


def delete_asset(asset_id: str) -> Steps[None]:
    yield from call(Request("DELETE", f"/v1/assets/{asset_id}", repeatable=True))


# ── for operators ─────────────────────────────────────────────────────────────────────────────────────────


def admin(method: str, path: str, body: Any = None) -> Steps[Any]:
    """One of the admin routes; needs a key with that scope."""
    reply = yield from call(Request(method, path, json=body, repeatable=method != "POST"))
    return reply.json() if reply.content else None
