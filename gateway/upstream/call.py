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

    @property
    def service(self) -> str:
        return self.ask.performed_by()
