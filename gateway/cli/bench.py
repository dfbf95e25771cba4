"""`darkroom bench`: a small load on one operation; out come the times and the rate as a caller sees them."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from typing import Any

from gateway.cli.console import USAGE, Stop
from gateway.cli.flags import describe
from gateway.cli.run import picture
from gateway.cli.where import address
from gateway.client import AsyncDarkroom
from services.errors import DarkroomError
from services.operations import OPERATIONS


@dataclass(slots=True)
class Measured:
    """What one load came to; times in seconds, sorted."""

    times: list[float] = field(default_factory=list)
    pictures: int = 0
    errors: dict[str, int] = field(default_factory=dict)
    seconds: float = 0.0

    def at(self, share: float) -> float:
        """The time within which that share of the calls was answered."""
        return (
            self.times[min(len(self.times) - 1, int(len(self.times) * share))] if self.times else float("nan")
        )

    def lines(self) -> list[str]:
        shown = ", ".join(f"{name} {self.at(share) * 1000:.1f} ms" for name, share in _SHARES.items())
        rate = len(self.times) / self.seconds if self.seconds else 0.0
        found = [
            f"{len(self.times)} calls answered in {self.seconds:.2f} s: {shown}",
            f"{rate:.1f} calls/s, {self.pictures / self.seconds if self.seconds else 0.0:.1f} pictures/s",
        ]
        return found + [f"{count} failed: {what}" for what, count in sorted(self.errors.items())]


_SHARES = {"p50": 0.50, "p95": 0.95, "p99": 0.99}


def bench(url: str | None, operation: str, params: dict[str, Any], calls: int, concurrency: int) -> Measured:
    return asyncio.run(_load(url, operation, params, calls, concurrency))


async def _load(
    url: str | None, operation: str, params: dict[str, Any], calls: int, concurrency: int
) -> Measured:
    found, left = Measured(), iter(range(calls))

    async def caller(darkroom: AsyncDarkroom) -> None:
        for _ in left:
            began = time.perf_counter()
            try:
                result = await darkroom.run(operation, **params)
            except DarkroomError as error:
                found.errors[str(error)] = found.errors.get(str(error), 0) + 1
                continue
            found.times.append(time.perf_counter() - began)
            found.pictures += len(result.pictures)

    async with AsyncDarkroom(address(url)) as darkroom:
        began = time.perf_counter()
        await asyncio.gather(*(caller(darkroom) for _ in range(min(concurrency, calls))))
        found.seconds = time.perf_counter() - began
    found.times.sort()
    return found


def read_params(operation: str, typed: list[str]) -> dict[str, Any]:
    """NAME=VALUE pairs as the operation's flags would read them; a file that a picture stands in is a path."""
    kind = OPERATIONS.get(operation)
    if kind is None:
        raise Stop(f"There is no operation {operation!r}; these exist: {', '.join(OPERATIONS)}.", USAGE)
    flags = {flag.name: flag for flag in describe(operation, "", "", kind.json_schema()).flags}
    found: dict[str, Any] = {}
    for pair in typed:
        name, equals, value = pair.partition("=")
        if not equals or name not in flags:
            raise Stop(
                f"{pair!r} is no parameter: write NAME=VALUE; {operation} has {', '.join(flags)}.", USAGE
            )
        flag = flags[name]
        found[name] = picture(flag, value) if flag.picture else flag.read(value)
    return found
