"""The core that both clients share: what to send, what to make of the reply, when to try again. It does no IO.

Each function is a generator: it yields a `Request` and is given the `Reply`, or yields a `Pause` and is given
nothing, and returns what the caller wanted. A driver (sync.py, asynchronous.py) does what is yielded, and throws
`Unreachable` or `DeadlineExceeded` back in when nothing came.
"""

from __future__ import annotations

import random
import secrets
import time
from collections.abc import Generator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

import orjson

from gateway.client.answers import Asset, Made, Result, finished, raise_if_failed
from gateway.client.events import EventReader, ServerEvent
from gateway.client.params import Part, gather, read_picture
from services.errors import (
    BadInput,
    BadUpstream,
    DarkroomError,
    DeadlineExceeded,
    ServiceFault,
    Unauthorized,
    Unavailable,
    from_problem,
)

T = TypeVar("T")
ATTEMPTS = 5
PATIENCE = 60.0  # seconds of pauses that one request may add up to
UNREACHED = 3  # attempts where nothing answers at all
AWAY = 30.0  # seconds that the gateway may be away while somebody waits for a job: it restarts, the job stays
BREAKS = 20  # connections in a row that bring no event before a stream is given up
JSON, EVENTS = "application/json", "text/event-stream"


class Unreachable(Unavailable):
    """Nothing answers at the address, or the connection broke before the answer was whole."""

    slug, title = "unreachable", "Nothing answers at this address"
    help = "Start Darkroom with `make up`, or give its address with --url or DARKROOM_URL."


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


Steps = Generator[Request | Pause, Any, T]


def call(request: Request) -> Steps[Reply]:
    """One request, sent again while the gateway says that waiting helps."""
    patience = PATIENCE
    for attempt in range(ATTEMPTS):
        try:
            reply: Reply = yield request
            if reply.status < 400:
                return reply
            error = _error(reply)
        except Unreachable as unreachable:
            error = unreachable
        last = attempt == ATTEMPTS - 1
        may = error.retryable and error.status in (429, 503)
        if isinstance(error, Unreachable):
            may = request.repeatable and attempt < UNREACHED - 1
        # a little chance, so that callers who were refused together do not come back together
        pause = error.retry_after or min(8.0, 0.25 * 2**attempt) * random.uniform(0.75, 1.25)
        if last or not may or pause > patience:
            raise error
        patience -= pause
        yield Pause(pause)
    raise AssertionError("the last attempt returns or raises")


def _error(reply: Reply) -> DarkroomError:
    """The exception that an error reply stands for; a proxy's own page becomes one that names its status."""
    try:
        document = orjson.loads(reply.content)
    except orjson.JSONDecodeError:
        document = None
    if isinstance(document, dict) and "type" in document:
        document.setdefault("retry_after", _seconds(reply.headers.get("retry-after")))
        return from_problem(document)
    kinds: dict[int, type[DarkroomError]] = {401: Unauthorized, 502: BadUpstream, 503: Unavailable}
    kind = kinds.get(reply.status, BadInput if reply.status < 500 else ServiceFault)
    return kind(
        f"The answer was HTTP {reply.status}, and not from a Darkroom.",
        retry_after=_seconds(reply.headers.get("retry-after")),
    )


def _seconds(value: str | None) -> float | None:
    return float(value) if value and value.replace(".", "", 1).isdigit() else None


# ── operations ────────────────────────────────────────────────────────────────────────────────────────────


def asking(operation: str, params: dict[str, Any], *, accept: str = JSON) -> Request:
    """The request for one operation: a form where there are pictures, else JSON."""
    found = gather(operation, params)
    request = Request("POST", f"/v1/{operation}", headers={"accept": accept}, stream=accept == EVENTS)
    if found.parts:
        return replace(request, form=found.form(), parts=found.parts)
    return replace(request, json=found.fields)


def run(operation: str, params: dict[str, Any]) -> Steps[Result]:
    reply = yield from call(asking(operation, params))
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


def submit(
    operation: str,
    params: dict[str, Any],
    *,
    priority: int = 0,
    webhook: str | None = None,
    idempotency_key: str | None = None,
) -> Steps[dict[str, Any]]:
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
        request = replace(request, form=form, parts=found.parts)
    else:
        given = {name: value for name, value in body.items() if value is not None}
        request = replace(request, json=given | {"params": found.fields})
    document: dict[str, Any] = (yield from call(request)).json()
    return document


def get_job(job_id: str) -> Steps[dict[str, Any]]:
    document: dict[str, Any] = (yield from call(Request("GET", f"/v1/jobs/{job_id}", repeatable=True))).json()
    return document


def cancel_job(job_id: str) -> Steps[dict[str, Any]]:
    document: dict[str, Any] = (
        yield from call(Request("DELETE", f"/v1/jobs/{job_id}", repeatable=True))
    ).json()
    return document


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


def list_jobs(query: dict[str, Any]) -> Steps[list[dict[str, Any]]]:
    given = {name: value for name, value in query.items() if value is not None}
    reply = yield from call(Request("GET", "/v1/jobs", query=given, repeatable=True))
    found: list[dict[str, Any]] = reply.json()["jobs"]
    return found


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


def put_asset(picture: Any) -> Steps[Asset]:
    part = read_picture(Path(picture) if isinstance(picture, str) else picture, "file")
    if part is None:
        raise BadInput(
            f"A {type(picture).__name__} is no picture.", help="Give a path, bytes, a file or a Pillow image."
        )
    reply = yield from call(Request("POST", "/v1/assets", form={}, parts={"file": part}))
    document = reply.json()
    return Asset(document["id"], document)


def get_asset(asset_id: str) -> Steps[bytes]:
    return (yield from call(Request("GET", f"/v1/assets/{asset_id}", repeatable=True))).content


def list_assets(query: dict[str, Any]) -> Steps[list[Asset]]:
    given = {name: value for name, value in query.items() if value is not None}
    reply = yield from call(Request("GET", "/v1/assets", query=given, repeatable=True))
    return [Asset(document["id"], document) for document in reply.json()["assets"]]


def delete_asset(asset_id: str) -> Steps[None]:
    yield from call(Request("DELETE", f"/v1/assets/{asset_id}", repeatable=True))


# ── for operators ─────────────────────────────────────────────────────────────────────────────────────────


def admin(method: str, path: str, body: Any = None) -> Steps[Any]:
    """One of the admin routes; needs a key with that scope."""
    reply = yield from call(Request(method, path, json=body, repeatable=method != "POST"))
    return reply.json() if reply.content else None
