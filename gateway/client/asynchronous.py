"""The client for asyncio: the same surface as sync.py, and the same steps."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable
from contextlib import aclosing, suppress
from types import TracebackType
from typing import Any

import httpx

from gateway.client import steps
from gateway.client.answers import Asset, Outcome, Result
from gateway.client.asks import AsyncOperations
from gateway.client.batch import async_batch
from gateway.client.calls import Unreachable, call
from gateway.client.driving import AsyncDriver
from gateway.client.events import EventReader, ServerEvent
from gateway.client.limits import Limits
from gateway.client.wire import options
from services.errors import DarkroomError


class AsyncDarkroom(AsyncOperations):
    """`AsyncDarkroom("http://host:8080", key="dk_...")`; without an address DARKROOM_URL, then the gateway of this
    machine.

    Each operation is an attribute: `(await darkroom.remove_background("photo.jpg", trim=True)).save("cut.png")`.
    A call ends within `timeout` seconds, its repeats and the pauses between them included.
    """

    def __init__(
        self,
        url: str | None = None,
        key: str | None = None,
        *,
        timeout: float | None = 300.0,
        retries: int = 4,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        http = httpx.AsyncClient(**options(url, key), transport=transport)
        self.driver = AsyncDriver(http, Limits(timeout, retries))
        self.assets = AsyncAssets(self.driver)

    async def __aenter__(self) -> AsyncDarkroom:
        return self

    async def __aexit__(self, *_error: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        await self.driver.http.aclose()

    def with_options(self, *, timeout: float | None = None, retries: int | None = None) -> AsyncDarkroom:
        """The same client over the same connections, with other limits: `darkroom.with_options(timeout=5).run(...)`."""
        other = copy.copy(self)
        other.driver = AsyncDriver(self.driver.http, self.driver.limits.but(timeout, retries))
        other.assets = AsyncAssets(other.driver)
        return other

    async def run(
        self, operation: str, /, *, on_progress: Callable[[ServerEvent], None] | None = None, **params: Any
    ) -> Result:
        """Ask for an operation by its name and wait for it; `on_progress` hears of every step, preview and result."""
        if on_progress is None:
            # files are read and Pillow's pictures are encoded beside the loop
            request = await asyncio.to_thread(steps.asking, operation, params)
            return await self.driver.drive(steps.run(request))
        async with self.stream(operation, **params) as events:
            async for event in events:
                on_progress(event)
            return await events.result()

    def stream(self, operation: str, /, **params: Any) -> AsyncStream:
        """The same, for reading its events as they come."""
        return AsyncStream(self.driver, operation, params)

    async def batch(
        self, operation: str, given: Iterable[Any], /, *, concurrency: int = 4, **params: Any
    ) -> AsyncIterator[Outcome]:
        """The operation for each of many, a few at once; outcomes come as they are done.

        One of `given` is the picture (or the words, where an operation takes none), or a dict of the parameters that
        are its own.
        """
        async with aclosing(async_batch(self.run, operation, given, concurrency, params)) as outcomes:
            async for outcome in outcomes:
                yield outcome

    async def submit(
        self,
        operation: str,
        /,
        *,
        priority: int = 0,
        webhook: str | None = None,
        idempotency_key: str | None = None,
        **params: Any,
    ) -> AsyncJob:
        """Hand an operation in as a job: when this returns, it is durable."""
        request = await asyncio.to_thread(
            steps.submitting,
            operation,
            params,
            priority=priority,
            webhook=webhook,
            idempotency_key=idempotency_key,
        )
        return AsyncJob(self.driver, await self.driver.drive(steps.told(request)))

    async def job(self, job_id: str) -> AsyncJob:
        return AsyncJob(self.driver, await self.driver.drive(steps.get_job(job_id)))

    async def jobs(
        self,
        *,
        state: str | None = None,
        operation: str | None = None,
        before: str | None = None,
        limit: int | None = None,
    ) -> AsyncIterator[AsyncJob]:
        """The newest first, `limit` at most; pages are fetched as they are read."""
        query = {"state": state, "operation": operation}
        async for document in _listed(self.driver, "/v1/jobs", "jobs", query, before, limit):
            yield AsyncJob(self.driver, document)

    async def operations(self) -> list[dict[str, Any]]:
        return await self.driver.drive(steps.catalogue("/v1/operations", "operations"))

    async def models(self) -> list[dict[str, Any]]:
        return await self.driver.drive(steps.catalogue("/v1/models", "data"))

    async def admin(self, method: str, path: str, body: Any = None) -> Any:
        return await self.driver.drive(steps.admin(method, path, body))


class AsyncStream:
    """A call's events, to be read once; closed before its end, it ends the work."""

    def __init__(self, driver: AsyncDriver, operation: str, params: dict[str, Any]) -> None:
        self._driver, self._clock = driver, driver.limits.begin(driver.limits.timeout)
        self._document: dict[str, Any] | None = None
        self._events = self._read(operation, params)

    async def __aenter__(self) -> AsyncStream:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    def __aiter__(self) -> AsyncIterator[ServerEvent]:
        return self._events

    async def aclose(self) -> None:
        await self._events.aclose()

    async def result(self) -> Result:
        """The result, when the events that are left have passed."""
        async for _ in self._events:
            pass
        if self._document is None:
            raise Unreachable(
                "The events were closed before the work was done.", help="Read them to the end."
            )
        return await self._driver.drive(steps.result_of(self._document), self._clock)

    async def _read(self, operation: str, params: dict[str, Any]) -> AsyncGenerator[ServerEvent]:
        request = await asyncio.to_thread(steps.asking, operation, params, accept=steps.EVENTS)
        reader = EventReader()
        reply = await self._driver.drive(call(request), self._clock)
        async with aclosing(self._driver.pieces(reply, self._clock)) as pieces:
            async for data in pieces:
                for event in reader.feed(data):
                    self._document = steps.ended(event)
                    yield event
                    if self._document is not None:
                        return
        raise Unreachable("The connection broke before the work was done.", help="Ask again.")


class AsyncJob:
    """A job that the gateway keeps; `document` is how it stood when last looked at."""

    def __init__(self, driver: AsyncDriver, document: dict[str, Any]) -> None:
        self._driver, self.document = driver, document

    def __repr__(self) -> str:
        return f"<AsyncJob {self.id}: {self.document.get('operation')}, {self.state}>"

    @property
    def id(self) -> str:
        return str(self.document["id"])

    @property
    def state(self) -> str:
        return str(self.document["state"])

    async def refresh(self) -> AsyncJob:
        self.document = await self._driver.drive(steps.get_job(self.id))
        return self

    async def wait(self, timeout: float | None = None) -> Result:
        """Its result when it has succeeded; its error is raised."""
        try:
            endless = self._driver.limits.begin(None)
            result = await self._driver.drive(steps.wait_for(self.id, timeout), endless)
        except DarkroomError:
            with suppress(DarkroomError):  # what was raised first says more
                await self.refresh()
            raise
        self.document = result.document
        return result

    async def result(self) -> Result:
        """The pictures of a job that has ended."""
        return await self._driver.drive(steps.result_of(self.document))

    def events(
        self, last_event_id: str | None = None, timeout: float | None = None
    ) -> AsyncIterator[ServerEvent]:
        """Its events to the end; where a connection breaks, the next one goes on after the last event."""
        return self._driver.follow(self.id, last_event_id, timeout)

    async def cancel(self) -> AsyncJob:
        self.document = await self._driver.drive(steps.cancel_job(self.id))
        return self


class AsyncAssets:
    """Pictures that the gateway keeps."""

    def __init__(self, driver: AsyncDriver) -> None:
        self._driver = driver

    async def put(self, picture: Any) -> Asset:
        request = await asyncio.to_thread(steps.uploading, picture)
        return await self._driver.drive(steps.put_asset(request))

    async def get(self, asset: Asset | str) -> bytes:
        return await self._driver.drive(steps.get_asset(_id(asset)))

    async def list(self, *, before: str | None = None, limit: int | None = None) -> AsyncIterator[Asset]:
        """The newest first, `limit` at most; pages are fetched as they are read."""
        async for document in _listed(self._driver, "/v1/assets", "assets", {}, before, limit):
            yield Asset(document["id"], document)

    async def link(self, asset: Asset | str, seconds: int = 3600) -> str:
        """An address that shows the picture to whoever has it, for a time."""
        return await self._driver.drive(steps.link_asset(_id(asset), seconds))

    async def delete(self, asset: Asset | str) -> None:
        await self._driver.drive(steps.delete_asset(_id(asset)))


def _id(asset: Asset | str) -> str:
    return asset.id if isinstance(asset, Asset) else asset.removeprefix("asset:")


async def _listed(
    driver: AsyncDriver, path: str, of: str, query: dict[str, Any], before: str | None, limit: int | None
) -> AsyncIterator[dict[str, Any]]:
    while limit is None or limit > 0:
        documents, before = await driver.drive(steps.page(path, of, query, before, limit))
        for document in documents:
            yield document
        if before is None:
            return
        limit = None if limit is None else limit - len(documents)
