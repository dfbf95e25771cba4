"""A job as everyone reads it: the row's values, and the document that callers and webhooks are shown."""

from __future__ import annotations

import secrets
import threading
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal

State = Literal["queued", "running", "succeeded", "failed", "cancelled"]
FINAL = frozenset({"succeeded", "failed", "cancelled"})


@dataclass(slots=True)
class NewJob:
    """What a door hands in. `body_hash` is of the whole request; it counts beside an `idempotency_key`."""

    owner: str
    operation: str
    service: str
    params: dict[str, Any]
    priority: int = 0
    weight: float = 1.0
    webhook: str | None = None
    request_id: str = ""
    idempotency_key: str | None = None
    body_hash: str = ""
    concurrent_jobs: int = 0  # how many unfinished jobs the key may have; 0: no limit


@dataclass(slots=True)
class Job:
    id: str
    owner: str
    operation: str
    service: str
    state: State
    params: dict[str, Any]
    priority: int
    weight: float
    attempt: int
    attempts_allowed: int
    not_before: float | None
    cancel_asked: bool
    model: str | None
    progress: dict[str, Any] | None
    pictures: list[dict[str, Any]]
    data: Any
    error: dict[str, Any] | None
    timing: dict[str, Any] | None
    webhook: str | None
    request_id: str
    created_at: float
    started_at: float | None
    finished_at: float | None

    @property
    def final(self) -> bool:
        return self.state in FINAL

    def document(self, base: str = "") -> dict[str, Any]:
        """The job document; its links start with `base`."""
        return {
            "id": self.id,
            "operation": self.operation,
            "service": self.service,
            "state": self.state,
            "params": self.params,
            "priority": self.priority,
            "attempt": self.attempt,
            "attempts_allowed": self.attempts_allowed,
            "model": self.model,
            "progress": self.progress,
            "pictures": [
                {**picture, "url": f"{base}/v1/assets/{picture['id']}"} for picture in self.pictures
            ],
            "data": self.data,
            "error": self.error,
            "created_at": rfc3339(self.created_at),
            "started_at": rfc3339(self.started_at),
            "finished_at": rfc3339(self.finished_at),
            "timing": self.timing or {},
            "webhook": self.webhook,
            "links": {"self": f"{base}/v1/jobs/{self.id}", "events": f"{base}/v1/jobs/{self.id}/events"},
        }


@dataclass(slots=True)
class Claim:
    """A job that is ours until the lease runs out; only this `token` may renew, finish or release it."""

    job: Job
    token: str
    owner: str


@dataclass(slots=True)
class Outcome:
    """How an attempt ended. A picture is {id, role, media_type, width, height, bytes, seed}."""

    state: Literal["succeeded", "failed", "cancelled"]
    pictures: list[dict[str, Any]] = field(default_factory=list)
    data: Any = None
    model: str | None = None
    error: dict[str, Any] | None = None
    timing: dict[str, Any] | None = None
    progress: dict[str, Any] | None = None  # how far it came, where that was told since the lease was renewed


@dataclass(slots=True)
class Depth:
    """What waits and runs at one service; `oldest_seconds` is the age in seconds of the job that waits longest."""

    queued: int
    running: int
    oldest_seconds: float


def rfc3339(at: float | None) -> str | None:
    if at is None:
        return None
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"  # Crockford's base32, which sorts as the number does
_lock = threading.Lock()
_latest = 0


def new_id(prefix: str = "job") -> str:
    """Sorts by time, in order within this process, and ends in 80 random bits that nobody guesses."""
    global _latest
    with _lock:
        _latest = max(_latest + 1, time.time_ns() // 1000)
        at = _latest
    return f"{prefix}_{_base32(at, 11)}{_base32(secrets.randbits(80), 16)}"


def _base32(number: int, digits: int) -> str:
    return "".join(_ALPHABET[(number >> 5 * place) & 31] for place in reversed(range(digits)))
