"""Many of one operation: things in, outcomes out as they are done, a few at once, and never more waiting than that."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import Any

from gateway.client.answers import Outcome, Result
from gateway.client.params import primary
from services.errors import BadInput, DarkroomError

Run = Callable[..., Result]
AsyncRun = Callable[..., Awaitable[Result]]


def asked(operation: str, one: Any, params: dict[str, Any]) -> dict[str, Any]:
    """One call's parameters: `one` is a mapping of its own ones, or stands for the picture or the words."""
    return params | (dict(one) if isinstance(one, Mapping) else {primary(operation): one})


def check(concurrency: int) -> int:
    if concurrency < 1:
        raise BadInput("concurrency: must be at least 1.", field="concurrency")
    return concurrency


def batch(
    run: Run, operation: str, given: Iterable[Any], concurrency: int, params: dict[str, Any]
) -> Iterator[Outcome]:
    """In the order in which they are done. Whoever stops reading waits for the calls that are under way."""

    def one(index: int, thing: Any) -> Outcome:
        try:
            return Outcome(index, thing, answer=run(operation, **asked(operation, thing, params)))
        except DarkroomError as error:
            return Outcome(index, thing, error=error)

    with ThreadPoolExecutor(check(concurrency), "darkroom-batch") as pool:
        running: set[Future[Outcome]] = set()
        for index, thing in enumerate(given):
            running.add(pool.submit(one, index, thing))
            while len(running) >= concurrency:
                done, running = wait(running, return_when=FIRST_COMPLETED)
                for future in done:
                    yield future.result()
        while running:
            done, running = wait(running, return_when=FIRST_COMPLETED)
            for future in done:
                yield future.result()


async def async_batch(
    run: AsyncRun, operation: str, given: Iterable[Any], concurrency: int, params: dict[str, Any]
) -> AsyncGenerator[Outcome]:
    """The same for asyncio; whoever stops reading cancels what is under way."""

    async def one(index: int, thing: Any) -> Outcome:
        try:
            return Outcome(index, thing, answer=await run(operation, **asked(operation, thing, params)))
        except DarkroomError as error:
            return Outcome(index, thing, error=error)

    check(concurrency)
    running: set[asyncio.Task[Outcome]] = set()
    try:
        for index, thing in enumerate(given):
            running.add(asyncio.create_task(one(index, thing)))
            while len(running) >= concurrency:
                done, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    yield task.result()
        while running:
            done, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                yield task.result()
    finally:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
