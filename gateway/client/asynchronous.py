"""The client for asyncio: the same surface as sync.py, and the same steps."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any, TypeVar

import httpx

from gateway.client import steps
from gateway.client.answers import Asset, Result
from gateway.client.events import EventReader, ServerEvent
from gateway.client.steps import Pause, Reply, Request, Steps, Unreachable
from gateway.client.wire import arguments, options, translated
from services.errors import DarkroomError, DeadlineExceeded

T = TypeVar("T")


class AsyncDarkroom:
    """`AsyncDarkroom("http://host:8080", key="dk_...")`; without an address DARKROOM_URL, then this machine."""

    def __init__(
        self,
        url: str | None = None,
        key: str | None = None,
        *,
        timeout: float = 300.0,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._http = httpx.AsyncClient(**options(url, key, timeout), transport=transport)
        self.assets = AsyncAssets(self)

    async def __aenter__(self) -> AsyncDarkroom:
        return self

    async def __aexit__(self, *_error: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        await self._http.aclose()

    async def run(
        self, operation: str, /, *, on_progress: Callable[[ServerEvent], None] | None = None, **params: Any
    ) -> Result:
        """Ask for an operation and wait for it; `on_progress` hears of every step, preview and result."""
        if on_progress is None:
            return await self.drive(steps.run(operation, params))
        reply = await self.drive(steps.call(steps.asking(operation, params, accept=steps.EVENTS)))
        reader = EventReader()
        async for data in self._pieces(reply):
            for event in reader.feed(data):
                on_progress(event)
                if (document := steps.ended(event)) is not None:
                    return await self.drive(steps.result_of(document))
        raise Unreachable("The connection broke before the work was done.")

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
        made = steps.submit(
            operation, params, priority=priority, webhook=webhook, idempotency_key=idempotency_key
        )
        return AsyncJob(self, await self.drive(made))

    async def job(self, job_id: str) -> AsyncJob:
        return AsyncJob(self, await self.drive(steps.get_job(job_id)))

    async def jobs(self, **query: Any) -> list[AsyncJob]:
        """The newest first; `state`, `operation`, `before` and `limit` narrow it down."""
        return [AsyncJob(self, document) for document in await self.drive(steps.list_jobs(query))]

    async def operations(self) -> list[dict[str, Any]]:
        return await self.drive(steps.catalogue("/v1/operations", "operations"))

    async def models(self) -> list[dict[str, Any]]:
        return await self.drive(steps.catalogue("/v1/models", "data"))

    async def admin(self, method: str, path: str, body: Any = None) -> Any:
        return await self.drive(steps.admin(method, path, body))

    # ── the driver ───────────────────────────────────────────────────────────────────────────────────────

    async def drive(self, work: Steps[T]) -> T:
        """Do what `work` yields until it returns."""
        try:
            item = next(work)
            while True:
                if isinstance(item, Pause):
                    await asyncio.sleep(item.seconds)
                    item = next(work)
                    continue
                try:
                    reply = await self._send(item)
                except (Unreachable, DeadlineExceeded) as error:
                    item = work.throw(error)
                else:
                    item = work.send(reply)
        except StopIteration as stop:
            value: T = stop.value
            return value

    async def _send(self, request: Request) -> Reply:
        with translated(str(self._http.base_url)):
            response = await self._http.send(self._http.build_request(**arguments(request)), stream=True)
            headers = dict(response.headers)
            if request.stream and response.status_code < 400:
                return Reply(response.status_code, headers, stream=response)
            try:
                return Reply(response.status_code, headers, await response.aread())
            finally:
                await response.aclose()

    async def _pieces(self, reply: Reply) -> AsyncIterator[bytes]:
        with translated(str(self._http.base_url)):
            try:
                async for data in reply.stream.aiter_bytes():
                    yield data
            finally:
                await reply.stream.aclose()

    async def follow(self, job_id: str, last_event_id: str | None = None) -> AsyncIterator[ServerEvent]:
        """A job's events to the end, over as many connections as it takes."""
        following = steps.Following(job_id, last_event_id)
        while not following.ended:
            try:
                async for data in self._pieces(await self.drive(following.connect())):
                    for event in following.feed(data):
                        yield event
            except (Unreachable, DeadlineExceeded):
                await asyncio.sleep(following.broken())
            else:
                if not following.ended:
                    await asyncio.sleep(following.broken())


class AsyncJob:
    """A job that the gateway keeps; `document` is how it stood when last looked at."""

    def __init__(self, darkroom: AsyncDarkroom, document: dict[str, Any]) -> None:
        self._darkroom, self.document = darkroom, document

    @property
    def id(self) -> str:
        return str(self.document["id"])

    @property
    def state(self) -> str:
        return str(self.document["state"])

    async def refresh(self) -> AsyncJob:
        self.document = await self._darkroom.drive(steps.get_job(self.id))
        return self

    async def wait(self, timeout: float | None = None) -> Result:
        """Its result when it has succeeded; its error is raised."""
        try:
            result = await self._darkroom.drive(steps.wait_for(self.id, timeout))
        except DarkroomError:
            await self.refresh()
            raise
        self.document = result.document
        return result

    async def result(self) -> Result:
        """The pictures of a job that has ended."""
        return await self._darkroom.drive(steps.result_of(self.document))

    def events(self, last_event_id: str | None = None) -> AsyncIterator[ServerEvent]:
        return self._darkroom.follow(self.id, last_event_id)

    async def cancel(self) -> AsyncJob:
        self.document = await self._darkroom.drive(steps.cancel_job(self.id))
        return self


class AsyncAssets:
    """Pictures that the gateway keeps."""

    def __init__(self, darkroom: AsyncDarkroom) -> None:
        self._darkroom = darkroom

    async def put(self, picture: Any) -> Asset:
        return await self._darkroom.drive(steps.put_asset(picture))

    async def get(self, asset: Asset | str) -> bytes:
        return await self._darkroom.drive(steps.get_asset(getattr(asset, "id", str(asset))))

    async def list(self, **query: Any) -> list[Asset]:
        return await self._darkroom.drive(steps.list_assets(query))

    async def delete(self, asset: Asset | str) -> None:
        await self._darkroom.drive(steps.delete_asset(getattr(asset, "id", str(asset))))
