"""The processor's cores: how many this process may use, and a pool of threads that shares them out.

A service answers as many calls at once as there are cores, each on one. Alone, a call can have all of them: what comes
in many small pieces, as a picture's tiles do, goes through the pool, which calls share.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import TypeVar

Piece = TypeVar("Piece")
FEW = 4  # pieces that are not worth handing out


def cores() -> int:
    """The processor cores that this process may use, a container's share included."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    with contextlib.suppress(OSError, ValueError):
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        if quota != "max":
            count = min(count, max(1, int(quota) // int(period)))
    return max(1, count)


def share_out(work: Callable[[Piece], object], pieces: Iterable[Piece]) -> None:
    """`work` on each of the pieces, on all cores; ends when all are done, and raises what one raised."""
    waiting = list(pieces)
    if len(waiting) <= FEW or cores() == 1:
        for piece in waiting:
            work(piece)
        return
    for _ in _pool().map(work, waiting):
        pass


@cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(cores(), thread_name_prefix="shared")
