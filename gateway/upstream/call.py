"""What the gateway asks of a service: one operation, its pictures, for whom, and until when."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from gateway.blobs import Blob
from gateway.callers import Caller
from services.operations import Operation


@dataclass(slots=True)
class Call:
    """`parts` has a blob for every picture of `ask`, whose reference is then `part:` and that name."""

    ask: Operation
    parts: Mapping[str, Blob]
    caller: Caller
    deadline: float  # on the event loop's clock
    request_id: str
    headers: dict[str, str] = field(default_factory=dict)  # traceparent, for one

    _json: bytes | None = field(default=None, init=False, repr=False, compare=False)

    def ask_json(self) -> bytes:
        """The operation as a service reads it and as a job document shows it; made once."""
        if self._json is None:
            self._json = self.ask.model_dump_json(exclude_none=True).encode()
        return self._json

    @property
    def service(self) -> str:
        return self.ask.performed_by()
