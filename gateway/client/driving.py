"""What does the IO: a generator of steps.py goes in, what it returns comes out; once by waiting, once for asyncio."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import aclosing
from typing import TypeVar

import httpx

from gateway.client import steps
from gateway.client.calls import GiveUp, Pause, Reply, Request, Steps, Unreachable
from gateway.client.events import ServerEvent
from gateway.client.limits import Clock, Limits
from gateway.client.wire import arguments, translated
from services.errors import DeadlineExceeded

T = TypeVar("T")
THROWN = (Unreachable, DeadlineExceeded)  # what a generator hears of when nothing came


class Driver:
    """For ordinary programs."""

    def __init__(self, http: httpx.Client, limits: Limits) -> None:
        self.http, self.limits = http, limits

    def drive(self, work: Steps[T], clock: Clock | None = None) -> T:
        """Do what `work` yields until it returns."""
        clock = clock or self.limits.begin(self.limits.timeout)
        try:
            item = next(work)
            while True:
                if isinstance(item, Pause):
                    if not clock.allows(item):
                        item = work.throw(GiveUp())
                        continue
                    time.sleep(item.seconds)
                    item = next(work)
                    continue
                try:
                    reply = self._send(item, clock)
                except THROWN as error:
                    item = work.throw(error)
                else:
                    item = work.send(reply)
        except StopIteration as stop:
            value: T = stop.value
            return value

    def _send(self, request: Request, clock: Clock) -> Reply:
        with translated(str(self.http.base_url)):
            built = self.http.build_request(**arguments(request, clock.left()))
            response = self.http.send(built, stream=True)
            headers = dict(response.headers)
            if request.stream and response.status_code < 400:
                return Reply(response.status_code, headers, stream=response)
            try:
                pieces = []
                for piece in response.iter_bytes():
                    pieces.append(piece)
                    clock.left()
                return Reply(response.status_code, headers, b"".join(pieces))
            finally:
                response.close()

    def pieces(self, reply: Reply, clock: Clock) -> Iterator[bytes]:
        """What arrives of a stream; closing this closes the connection."""
        with translated(str(self.http.base_url)):
            try:
                for data in reply.stream.iter_bytes():
                    yield data
                    clock.left()
            finally:
                reply.stream.close()

    def follow(
        self, job_id: str, last_event_id: str | None = None, timeout: float | None = None
    ) -> Iterator[ServerEvent]:
        """A job's events to the end, or for `timeout` seconds, over as many connections as it takes."""
        following = steps.Following(job_id, last_event_id)
        clock = self.limits.begin(timeout)
        while not following.ended:
            try:
                for data in self.pieces(self.drive(following.connect(), clock.attempt()), clock):
                    yield from following.feed(data)
            except THROWN:
                pass
            if not following.ended:
                if timeout is not None and clock.over:
                    raise steps.not_ended(job_id, "has not ended", timeout)
                time.sleep(clock.pause(following.broken()))


class AsyncDriver:
    """For asyncio."""

    def __init__(self, http: httpx.AsyncClient, limits: Limits) -> None:
        self.http, self.limits = http, limits

    async def drive(self, work: Steps[T], clock: Clock | None = None) -> T:
        """Do what `work` yields until it returns."""
        clock = clock or self.limits.begin(self.limits.timeout)
        try:
            item = next(work)
            while True:
                if isinstance(item, Pause):
                    if not clock.allows(item):
                        item = work.throw(GiveUp())
                        continue
                    await asyncio.sleep(item.seconds)
                    item = next(work)
                    continue
                try:
                    reply = await self._send(item, clock)
                except THROWN as error:
                    item = work.throw(error)
                else:
                    item = work.send(reply)
        except StopIteration as stop:
            value: T = stop.value
            return value

    async def _send(self, request: Request, clock: Clock) -> Reply:
        with translated(str(self.http.base_url)):
            built = self.http.build_request(**arguments(request, clock.left()))
            response = await self.http.send(built, stream=True)
            headers = dict(response.headers)
            if request.stream and response.status_code < 400:
                return Reply(response.status_code, headers, stream=response)
            try:
                pieces = []
                async for piece in response.aiter_bytes():
                    pieces.append(piece)
                    clock.left()
                return Reply(response.status_code, headers, b"".join(pieces))
            finally:
                await response.aclose()

    async def pieces(self, reply: Reply, clock: Clock) -> AsyncGenerator[bytes]:
        """What arrives of a stream; closing this closes the connection."""
        with translated(str(self.http.base_url)):
            try:
                async for data in reply.stream.aiter_bytes():
                    yield data
                    clock.left()
            finally:
                await reply.stream.aclose()

    async def follow(
        self, job_id: str, last_event_id: str | None = None, timeout: float | None = None
    ) -> AsyncIterator[ServerEvent]:
        """A job's events to the end, or for `timeout` seconds, over as many connections as it takes."""
        following = steps.Following(job_id, last_event_id)
        clock = self.limits.begin(timeout)
        while not following.ended:
            try:
                reply = await self.drive(following.connect(), clock.attempt())
                async with aclosing(self.pieces(reply, clock)) as pieces:
                    async for data in pieces:
                        for event in following.feed(data):
                            yield event
            except THROWN:
                pass
            if not following.ended:
                if timeout is not None and clock.over:
                    raise steps.not_ended(job_id, "has not ended", timeout)
                await asyncio.sleep(clock.pause(following.broken()))
