"""What carries calls to the endpoints of one service: the seam between the pool and a protocol.

The pool knows turns, endpoints, attempts and breakers; a carrier knows how a call is written down for its kind of
endpoint, and gives back a stream of frames, whatever it was that the endpoint spoke. `frames_http.py` speaks with our
own services, `tfserving.py` with TensorFlow Serving; the scheme of an address says which.
"""

from __future__ import annotations

from typing import Any, Protocol

from gateway.upstream.call import Call
from gateway.upstream.endpoint import Endpoint
from gateway.upstream.observe import Track
from services.errors import DarkroomError


class Packed(Protocol):
    """A call as it goes out; another attempt sends it again."""

    @property
    def size(self) -> int:
        """Bytes, about."""

    @property
    def track(self) -> Track | None:
        """The track on which it is done, where that is not its endpoint's."""

    @property
    def broken(self) -> DarkroomError | None:
        """What failed on our own side while it was sent, which says nothing of the endpoint."""


class Reply(Protocol):
    """What an endpoint that took the call answers: frames, in pieces."""

    def at_hand(self) -> bytes:
        """What has arrived and was not read yet; empty when there is nothing, which need not be the end."""

    async def piece(self) -> bytes:
        """What arrives next; empty at the end."""

    @property
    def at_end(self) -> bool: ...

    def close(self) -> None:
        """Hangs up, unless all of it was read."""


class Carrier(Protocol):
    accepts_at_once: bool  # whether an endpoint says `accepted` before it does the work

    async def open(self) -> None: ...

    async def close(self) -> None: ...

    def pack(self, call: Call) -> Packed: ...

    async def send(self, endpoint: Endpoint, packed: Any, seconds: float) -> Reply:
        """Returns when the endpoint has taken the call, whose deadline is in `seconds`; raises what it refuses with."""

    async def describe(self, endpoint: Endpoint) -> dict[str, Any]:
        """What the endpoint says of itself, in the form of a service's own description."""

    async def forget(self, endpoint: Endpoint) -> None:
        """The endpoint has left for good."""
