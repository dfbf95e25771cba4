"""What both clients can do, each as the steps that it takes. Nothing here does IO.

Each function is a generator like `call` (calls.py), made of it, and returns what the caller wanted; or it makes the
request that such a generator begins with.
"""

from __future__ import annotations

import secrets
import time
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

import orjson

from gateway.client.answers import Asset, Made, Result, finished, raise_if_failed
from gateway.client.calls import Pause, Reply, Request, Steps, Unreachable, call
from gateway.client.events import EventReader, ServerEvent
from gateway.client.params import gather, read_picture
from services.errors import BadInput, DeadlineExceeded, from_problem

Page = tuple[list[dict[str, Any]], str | None]
AWAY = 30.0  # seconds that the gateway may be away while somebody waits for a job: it restarts, the job stays
BREAKS = 20  # connections in a row that bring no event before a stream is given up
PAGE = 200  # the most that one page of a list may have
JSON, EVENTS = "application/json", "text/event-stream"

# ── operations ────────────────────────────────────────────────────────────────────────────────────────────


def asking(operation: str, params: dict[str, Any], *, accept: str = JSON) -> Request:
    """The request for one operation: a form where there are pictures, else JSON."""
    found = gather(operation, params)
    request = Request(
        "POST", f"/v1/{quote(operation, safe='')}", headers={"accept": accept}, stream=accept == EVENTS
    )
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


def _job(job_id: str) -> str:
    return f"/v1/jobs/{quote(job_id, safe='')}"


def _asset(asset_id: str) -> str:
    return f"/v1/assets/{quote(asset_id, safe='')}"


def get_job(job_id: str) -> Steps[dict[str, Any]]:
    return told(Request("GET", _job(job_id), repeatable=True))


def cancel_job(job_id: str) -> Steps[dict[str, Any]]:
    return told(Request("DELETE", _job(job_id), repeatable=True))


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
            raise not_ended(job_id, f"is still {document['state']}", timeout)
        yield Pause(pause)
        pause = min(1.0, pause * 1.5)


def not_ended(job_id: str, stands: str, timeout: float | None) -> DeadlineExceeded:
    """What whoever waits for a job is told when the time that they gave it is over."""
    return DeadlineExceeded(
        f"The job {job_id} {stands} after {timeout:g} s.", help="It goes on: wait again, or cancel it."
    )


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
        self._path = _job(job_id) + "/events"
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
    return (yield from call(Request("GET", _asset(asset_id), repeatable=True))).content


def link_asset(asset_id: str, seconds: int) -> Steps[str]:
    path = _asset(asset_id) + "/link"
    # each link is as good as another
    document = yield from told(Request("POST", path, query={"seconds": seconds}, repeatable=True))
    return str(document["url"])


def delete_asset(asset_id: str) -> Steps[None]:
    yield from call(Request("DELETE", _asset(asset_id), repeatable=True))


# ── for operators ─────────────────────────────────────────────────────────────────────────────────────────


def admin(method: str, path: str, body: Any = None) -> Steps[Any]:
    """One of the admin routes; needs a key with that scope."""
    reply = yield from call(Request(method, path, json=body, repeatable=method != "POST"))
    return reply.json() if reply.content else None
