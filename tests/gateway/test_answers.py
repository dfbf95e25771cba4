"""What a service's events add up to."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from gateway.answers import collect
from services.frames import Event


def test_a_picture_that_the_safety_checker_withheld_is_told_as_such() -> None:
    async def events() -> AsyncIterator[Event | memoryview]:
        for withheld in (False, True):
            yield Event("result", {"withheld": True} if withheld else {}, size=3)
            yield memoryview(b"abc")
        yield Event("done", {"model": "micro"})

    async def keep(event: Event, pieces: AsyncIterator[bytes]) -> dict[str, Any]:
        return {"bytes": len(b"".join([piece async for piece in pieces]))}

    answer = asyncio.run(collect(events(), keep))
    assert answer.pictures == [{"bytes": 3}, {"bytes": 3, "withheld": True}]
