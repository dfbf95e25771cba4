"""The id that ties a request's log lines, its answer and its trace together: the caller's own if it is well formed."""

from __future__ import annotations

import random
import re
from contextvars import ContextVar

HEADER = b"x-request-id"
# 64 characters that are safe in a header, a log line, a file name and a shell
_WELL_FORMED = re.compile(rb"[A-Za-z0-9][A-Za-z0-9._-]{0,63}\Z")

# an id tells requests apart and keeps no secret; the system's own randomness would cost it a call to the kernel
_numbers = random.Random()

_current: ContextVar[str] = ContextVar("darkroom_request_id", default="")


def make() -> str:
    return f"{_numbers.getrandbits(64):016x}"


def choose(given: bytes | None) -> str:
    """What the caller sent, where it is well formed; else a new one."""
    if given is not None and _WELL_FORMED.match(given):
        return given.decode("ascii")
    return make()


def current() -> str:
    """The id of the request that this task works for; empty outside of one."""
    return _current.get()


def enter(request_id: str) -> None:
    """Make `request_id` the current one of this task and the tasks it starts."""
    _current.set(request_id)
