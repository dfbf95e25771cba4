"""The client for ordinary programs: what can be asked, each with the steps that do it."""

from __future__ import annotations

import copy
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import suppress
from types import TracebackType
from typing import Any

import httpx

from gateway.client import steps
from gateway.client.answers import Asset, Outcome, Result
from gateway.client.asks import Operations
from gateway.client.batch import batch
from gateway.client.calls import Request, Unreachable, call
from gateway.client.driving import Driver
from gateway.client.events import EventReader, ServerEvent
from gateway.client.limits import Limits
from gateway.client.wire import options
from services.errors import DarkroomError


class Darkroom(Operations):
    """`Darkroom("http://host:8080", key="dk_...")`; without an address DARKROOM_URL, then the gateway of this machine.

    Each operation is an attribute: `darkroom.remove_background("photo.jpg", trim=True).save("cut.png")`.
    A call ends within `timeout` seconds, its repeats and the pauses between them included.
    """

    def __init__(
        self,
        url: str | None = None,
        key: str | None = None,
        *,
        timeout: float | None = 300.0,
        retries: int = 4,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self.driver = Driver(httpx.Client(**options(url, key), transport=transport), Limits(timeout, retries))
        self.assets = Assets(self.driver)

    def __enter__(self) -> Darkroom:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def close(self) -> None:
        self.driver.http.close()

    def with_options(self, *, timeout: float | None = None, retries: int | None = None) -> Darkroom:
        """The same client over the same connections, with other limits: `darkroom.with_options(timeout=5).run(...)`."""
        other = copy.copy(self)
        other.driver = Driver(self.driver.http, self.driver.limits.but(timeout, retries))
        other.assets = Assets(other.driver)
        return other

    def run(
        self, operation: str, /, *, on_progress: Callable[[ServerEvent], None] | None = None, **params: Any
    ) -> Result:
        """Ask for an operation by its name and wait for it; `on_progress` hears of every step, preview and result."""
        if on_progress is None:
            return self.driver.drive(steps.run(steps.asking(operation, params)))
        with self.stream(operation, **params) as events:
            for event in events:
                on_progress(event)
            return events.result()

    def stream(self, operation: str, /, **params: Any) -> Stream:
        """The same, for reading its events as they come."""
        return Stream(self.driver, steps.asking(operation, params, accept=steps.EVENTS))

    def batch(
        self, operation: str, given: Iterable[Any], /, *, concurrency: int = 4, **params: Any
    ) -> Iterator[Outcome]:
        """The operation for each of many, a few at once; outcomes come as they are done.

        One of `given` is the picture (or the words, where an operation takes none), or a dict of the parameters that
        are its own.
        """
        yield from batch(self.run, operation, given, concurrency, params)

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
        request = steps.submitting(
            operation, params, priority=priority, webhook=webhook, idempotency_key=idempotency_key
        )
        return Job(self.driver, self.driver.drive(steps.told(request)))

    def job(self, job_id: str) -> Job:
        return Job(self.driver, self.driver.drive(steps.get_job(job_id)))

    def jobs(
        self,
        *,
        state: str | None = None,
        operation: str | None = None,
        before: str | None = None,
        limit: int | None = None,
    ) -> Iterator[Job]:
        """The newest first, `limit` at most; pages are fetched as they are read."""
        query = {"state": state, "operation": operation}
        for document in _listed(self.driver, "/v1/jobs", "jobs", query, before, limit):
            yield Job(self.driver, document)

    def operations(self) -> list[dict[str, Any]]:
        return self.driver.drive(steps.catalogue("/v1/operations", "operations"))

    def models(self) -> list[dict[str, Any]]:
        return self.driver.drive(steps.catalogue("/v1/models", "data"))

    def admin(self, method: str, path: str, body: Any = None) -> Any:
        return self.driver.drive(steps.admin(method, path, body))


class Stream:
    """A call's events, to be read once; closed before its end, it ends the work."""

    def __init__(self, driver: Driver, request: Request) -> None:
        self._driver, self._clock = driver, driver.limits.begin(driver.limits.timeout)
        self._document: dict[str, Any] | None = None
        self._events = self._read(request)

    def __enter__(self) -> Stream:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __iter__(self) -> Iterator[ServerEvent]:
        return self._events

    def close(self) -> None:
        self._events.close()

    def result(self) -> Result:
        """The result, when the events that are left have passed."""
        for _ in self._events:
            pass
        if self._document is None:
            raise Unreachable(
                "The events were closed before the work was done.", help="Read them to the end."
            )
        return self._driver.drive(steps.result_of(self._document), self._clock)

    def _read(self, request: Request) -> Generator[ServerEvent]:
        reader = EventReader()
        reply = self._driver.drive(call(request), self._clock)
        for data in self._driver.pieces(reply, self._clock):
            for event in reader.feed(data):
                self._document = steps.ended(event)
                yield event
                if self._document is not None:
                    return
        raise Unreachable("The connection broke before the work was done.", help="Ask again.")


class Job:
    """A job that the gateway keeps; `document` is how it stood when last looked at."""

    def __init__(self, driver: Driver, document: dict[str, Any]) -> None:
        self._driver, self.document = driver, document

    def __repr__(self) -> str:
        return f"<Job {self.id}: {self.document.get('operation')}, {self.state}>"

    @property
    def id(self) -> str:
        return str(self.document["id"])

    @property
    def state(self) -> str:
        return str(self.document["state"])

    def refresh(self) -> Job:
        self.document = self._driver.drive(steps.get_job(self.id))
        return self

    def wait(self, timeout: float | None = None) -> Result:
        """Its result when it has succeeded; its error is raised."""
        try:
            endless = self._driver.limits.begin(None)
            result = self._driver.drive(steps.wait_for(self.id, timeout), endless)
        except DarkroomError:
            with suppress(DarkroomError):  # what was raised first says more
                self.refresh()
            raise
        self.document = result.document
        return result

    def result(self) -> Result:
        """The pictures of a job that has ended."""
        return self._driver.drive(steps.result_of(self.document))

    def events(self, last_event_id: str | None = None, timeout: float | None = None) -> Iterator[ServerEvent]:
        """Its events to the end; where a connection breaks, the next one goes on after the last event."""
        return self._driver.follow(self.id, last_event_id, timeout)

    def cancel(self) -> Job:
        self.document = self._driver.drive(steps.cancel_job(self.id))
        return self


class Assets:
    """Pictures that the gateway keeps."""

    def __init__(self, driver: Driver) -> None:
        self._driver = driver

    def put(self, picture: Any) -> Asset:
        return self._driver.drive(steps.put_asset(steps.uploading(picture)))

    def get(self, asset: Asset | str) -> bytes:
        return self._driver.drive(steps.get_asset(_id(asset)))

    def list(self, *, before: str | None = None, limit: int | None = None) -> Iterator[Asset]:
        """The newest first, `limit` at most; pages are fetched as they are read."""
        for document in _listed(self._driver, "/v1/assets", "assets", {}, before, limit):
            yield Asset(document["id"], document)

    def link(self, asset: Asset | str, seconds: int = 3600) -> str:
        """An address that shows the picture to whoever has it, for a time."""
        return self._driver.drive(steps.link_asset(_id(asset), seconds))

    def delete(self, asset: Asset | str) -> None:
        self._driver.drive(steps.delete_asset(_id(asset)))


def _id(asset: Asset | str) -> str:
    return asset.id if isinstance(asset, Asset) else asset.removeprefix("asset:")


def _listed(
    driver: Driver, path: str, of: str, query: dict[str, Any], before: str | None, limit: int | None
) -> Iterator[dict[str, Any]]:
    while limit is None or limit > 0:
        documents, before = driver.drive(steps.page(path, of, query, before, limit))
        yield from documents
        if before is None:
            return
        limit = None if limit is None else limit - len(documents)
