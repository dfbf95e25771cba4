"""Who goes next: in goes the line of those that wait for a step, out come those that share the next call.

The one that has waited longest leads, and those that may share its call join it in the order of their waiting. Whoever
has stepped goes to the end of the line. So nobody waits for more calls than it takes to move each of those before it
once: a request of four steps is not held up by one of fifty.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from typing import Protocol, TypeVar


class Waiting(Protocol):
    """Something that waits for a step; those of equal keys may share a call, in which each takes its rows."""

    @property
    def key(self) -> Hashable: ...

    @property
    def rows(self) -> int: ...


W = TypeVar("W", bound=Waiting)


def next_call(line: Iterable[W], most_rows: Callable[[W], int]) -> list[W]:
    """Those that step together now, of a line with the longest waiting first.

    `most_rows` is asked for the leader, when there is somebody to join it. It leads even if it alone has more rows than
    that: whether a single one fits is for the device to say.
    """
    chosen: list[W] = []
    rows = limit = 0
    for one in line:
        if not chosen:
            chosen, rows = [one], one.rows
        elif one.key == chosen[0].key:
            limit = limit or most_rows(chosen[0])
            if rows + one.rows > limit:
                break  # a smaller one behind it must not overtake it again and again
            chosen.append(one)
            rows += one.rows
    return chosen
