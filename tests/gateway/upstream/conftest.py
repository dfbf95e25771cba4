"""Stub services on real sockets, and an upstream over them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import pytest

from bench.stub import Behaviour, Stub
from gateway.blobs import Blob, MemoryBlob
from gateway.callers import LOCAL
from gateway.settings import Settings
from gateway.upstream import Call, Pool, Upstream
from services.frames import Event
from services.operations import Caption
from services.pictures import Picture
from tests.gateway.upstream.fake_serving import FakeServing

FAST: dict[str, Any] = {
    "health_interval": 0.1,
    "connect_timeout": 1.0,
    "first_byte_timeout": 8.0,
    "idle_timeout": 8.0,
    "breaker_pause": 0.3,
    "resolve_interval": 0.1,
}


@pytest.fixture
async def stub() -> AsyncIterator[Callable[..., Awaitable[Stub]]]:
    """`await stub(delay=0.1)` starts one; all stop at the end."""
    async with AsyncExitStack() as stack:

        async def start(*, keep_bodies: bool = False, port: int = 0, **behaviour: Any) -> Stub:
            stub = Stub(Behaviour(**behaviour), keep_bodies=keep_bodies)
            await stub.start(port)
            stack.push_async_callback(stub.stop)
            return stub

        yield start


@pytest.fixture
async def serving() -> AsyncIterator[Callable[..., Awaitable[FakeServing]]]:
    """`await serving(delay=0.1)` starts a fake TensorFlow Serving; all stop at the end."""
    async with AsyncExitStack() as stack:

        async def start(*, port: int = 0, **behaviour: Any) -> FakeServing:
            fake = FakeServing(**behaviour)
            await fake.start(port)
            stack.push_async_callback(fake.stop)
            return fake

        yield start


@pytest.fixture
async def upstream() -> AsyncIterator[Callable[..., Awaitable[Upstream]]]:
    """`await upstream({"caption": [stub]}, line_length=3)` starts one with impatient settings."""
    async with AsyncExitStack() as stack:

        async def start(
            services: dict[str, list[Any]], *, resolve: Any = None, metrics: Any = None, **settings: Any
        ) -> Upstream:
            addresses = {
                name: [getattr(s, "address", s) for s in several] for name, several in services.items()
            }
            more = {} if resolve is None else {"resolve": resolve}
            built = Upstream(
                Settings(_env_file=None, services=addresses, **{**FAST, **settings}), metrics, **more
            )
            stack.push_async_callback(built.close)
            await built.start()
            return built

        yield start


def call(*, seconds: float = 10.0, ask: Any = None, parts: dict[str, Blob] | None = None) -> Call:
    loop = asyncio.get_running_loop()
    return Call(
        ask or Caption(image=Picture("part:image")),
        {"image": MemoryBlob(b"picture")} if parts is None else parts,
        LOCAL,
        loop.time() + seconds,
        "request-1",
    )


async def run(
    pool: Pool, *, key: str = "a", seconds: float = 10.0, weight: float = 1.0, **more: Any
) -> tuple[list[Event], int, str]:
    """One whole call: its events, the bytes of its pictures, and the endpoint that answered."""
    asked = call(seconds=seconds, **more)
    events, size = [], 0
    async with (
        pool.turn(key_id=key, deadline=asked.deadline, weight=weight) as turn,
        turn.send(asked) as stream,
    ):
        async for item in stream:
            if isinstance(item, Event):
                events.append(item)
            else:
                size += len(item)
        assert stream.endpoint is not None
        return events, size, stream.endpoint.address.text


@pytest.fixture(name="run")
def _run() -> Any:
    return run


@pytest.fixture(name="call")
def _call() -> Any:
    return call


@pytest.fixture
def until() -> Callable[..., Awaitable[None]]:
    """`await until(lambda: condition)`, at most five seconds."""

    async def wait(condition: Callable[[], bool], seconds: float = 5.0) -> None:
        async with asyncio.timeout(seconds):
            while not condition():
                await asyncio.sleep(0.005)

    return wait
