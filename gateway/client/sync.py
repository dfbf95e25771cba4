"""The client for ordinary programs: it does what steps.py yields, one thing after another."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import httpx

from gateway.client import steps
from gateway.client.answers import Asset, Result
from gateway.client.events import EventReader, ServerEvent
from gateway.client.steps import Pause, Reply, Request, Steps, Unreachable
from gateway.client.wire import arguments, options, translated
from services.errors import DarkroomError, DeadlineExceeded

T = TypeVar("T")


class Darkroom:
    """`Darkroom("http://host:8080", key="dk_...")`; without an address DARKROOM_URL, then this machine."""

    def __init__(
        self,
        url: str | None = None,
        key: str | None = None,
        *,
        timeout: float = 300.0,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self._http = httpx.Client(**options(url, key, timeout), transport=transport)
        self.assets = Assets(self)

    def __enter__(self) -> Darkroom:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def close(self) -> None:
        self._http.close()

    def run(
        self, operation: str, /, *, on_progress: Callable[[ServerEvent], None] | None = None, **params: Any
    ) -> Result:
        """Ask for an operation and wait for it; `on_progress` hears of every step, preview and result."""
        if on_progress is None:
            return self.drive(steps.run(operation, params))
        reply = self.drive(steps.call(steps.asking(operation, params, accept=steps.EVENTS)))
        reader = EventReader()
        for data in self._pieces(reply):
            for event in reader.feed(data):
                on_progress(event)
                if (document := steps.ended(event)) is not None:
                    return self.drive(steps.result_of(document))
        raise Unreachable("The connection broke before the work was done.")

    def submit(
        self,
        operation: str,
        /,
        *,
        priority: int = 0,
        webhook: str | None = None,
        idempotency_key: str | None = None,
        **params: Any,
    ) -> Job:
        """Hand an operation in as a job: when this returns, it is durable."""
        made = steps.submit(
            operation, params, priority=priority, webhook=webhook, idempotency_key=idempotency_key
        )
        return Job(self, self.drive(made))

    def job(self, job_id: str) -> Job:
        return Job(self, self.drive(steps.get_job(job_id)))

    def jobs(self, **query: Any) -> list[Job]:
        """The newest first; `state`, `operation`, `before` and `limit` narrow it down."""
        return [Job(self, document) for document in self.drive(steps.list_jobs(query))]

    def operations(self) -> list[dict[str, Any]]:
        return self.drive(steps.catalogue("/v1/operations", "operations"))

    def models(self) -> list[dict[str, Any]]:
        return self.drive(steps.catalogue("/v1/models", "data"))

    def admin(self, method: str, path: str, body: Any = None) -> Any:
        return self.drive(steps.admin(method, path, body))

    # ── the driver ───────────────────────────────────────────────────────────────────────────────────────

    def drive(self, work: Steps[T]) -> T:
        """Do what `work` yields until it returns."""
        try:
            item = next(work)
            while True:
                if isinstance(item, Pause):
                    time.sleep(item.seconds)
                    item = next(work)
                    continue
                try:
                    reply = self._send(item)
                except (Unreachable, DeadlineExceeded) as error:
                    item = work.throw(error)
                else:
                    item = work.send(reply)
        except StopIteration as stop:
            value: T = stop.value
            return value

    def _send(self, request: Request) -> Reply:
        with translated(str(self._http.base_url)):
            response = self._http.send(self._http.build_request(**arguments(request)), stream=True)
            headers = dict(response.headers)
            if request.stream and response.status_code < 400:
                return Reply(response.status_code, headers, stream=response)
            try:
                return Reply(response.status_code, headers, response.read())
            finally:
                response.close()

    def _pieces(self, reply: Reply) -> Iterator[bytes]:
        with translated(str(self._http.base_url)):
            try:
                yield from reply.stream.iter_bytes()
            finally:
                reply.stream.close()

    def follow(self, job_id: str, last_event_id: str | None = None) -> Iterator[ServerEvent]:
        """A job's events to the end, over as many connections as it takes."""
        following = steps.Following(job_id, last_event_id)
        while not following.ended:
            try:
                for data in self._pieces(self.drive(following.connect())):
                    yield from following.feed(data)
            except (Unreachable, DeadlineExceeded):
                time.sleep(following.broken())
            else:
                if not following.ended:
                    time.sleep(following.broken())


class Job:
    """A job that the gateway keeps; `document` is how it stood when last looked at."""

    def __init__(self, darkroom: Darkroom, document: dict[str, Any]) -> None:
        self._darkroom, self.document = darkroom, document

    @property
    def id(self) -> str:
        return str(self.document["id"])

    @property
    def state(self) -> str:
        return str(self.document["state"])

    def refresh(self) -> Job:
        self.document = self._darkroom.drive(steps.get_job(self.id))
        return self

    def wait(self, timeout: float | None = None) -> Result:
        """Its result when it has succeeded; its error is raised."""
        try:
            result = self._darkroom.drive(steps.wait_for(self.id, timeout))
        except DarkroomError:
            self.refresh()
            raise
        self.document = result.document
        return result

    def result(self) -> Result:
        """The pictures of a job that has ended."""
        return self._darkroom.drive(steps.result_of(self.document))

    def events(self, last_event_id: str | None = None) -> Iterator[ServerEvent]:
        return self._darkroom.follow(self.id, last_event_id)

    def cancel(self) -> Job:
        self.document = self._darkroom.drive(steps.cancel_job(self.id))
        return self


class Assets:
    """Pictures that the gateway keeps."""

    def __init__(self, darkroom: Darkroom) -> None:
        self._darkroom = darkroom

    def put(self, picture: Any) -> Asset:
        return self._darkroom.drive(steps.put_asset(picture))

    def get(self, asset: Asset | str) -> bytes:
        return self._darkroom.drive(steps.get_asset(getattr(asset, "id", str(asset))))

    def list(self, **query: Any) -> list[Asset]:
        return self._darkroom.drive(steps.list_assets(query))

    def delete(self, asset: Asset | str) -> None:
        self._darkroom.drive(steps.delete_asset(getattr(asset, "id", str(asset))))
