"""The bounded, fair waiting line of one service: tickets go in by key, and come out in fair order.

Start-time fair queueing (Goyal, Vin, Cheng 1996) over keys with weights: a key's ticket starts at the later of the
line's virtual time and the finish of that key's ticket before it, and finishes 1/weight later; the earliest start is
next. A key that asks a thousand times therefore delays another key's single call by one place, not by a thousand.
Only the head of each key stands in the heap, so that a step costs O(log keys), and a ticket whose caller goes away
leaves at once and costs its key nothing.
"""

from __future__ import annotations

import asyncio
import heapq
from collections import OrderedDict
from collections.abc import Iterator
from typing import TYPE_CHECKING

from services.errors import LineFull

if TYPE_CHECKING:
    from gateway.upstream.endpoint import Endpoint, Slot


class Ticket:
    """A place in the line; `slot` resolves when it is its turn. `avoid` are endpoints that have failed this call."""

    __slots__ = ("avoid", "bounded", "key_id", "slot", "weight")

    def __init__(
        self, key_id: str, weight: float, *, bounded: bool, avoid: frozenset[Endpoint] = frozenset()
    ) -> None:
        self.key_id, self.weight, self.bounded, self.avoid = key_id, weight, bounded, avoid
        self.slot: asyncio.Future[Slot] = asyncio.get_running_loop().create_future()


class _Key:
    """One key's tickets, oldest first."""

    __slots__ = ("key_id", "order", "start", "tickets")

    def __init__(self, key_id: str, start: float, order: int) -> None:
        self.key_id, self.start, self.order = key_id, start, order
        self.tickets: OrderedDict[Ticket, None] = OrderedDict()

    def __lt__(self, other: _Key) -> bool:
        return (self.start, self.order) < (other.start, other.order)


class Line:
    def __init__(self, length: int) -> None:
        self._length = length
        self._keys: dict[str, _Key] = {}
        self._heap: list[_Key] = []
        self._returned: OrderedDict[Ticket, None] = OrderedDict()
        self._finish: dict[str, float] = {}  # of keys that are ahead of the virtual time
        self._now = 0.0
        self._order = 0
        self._size = 0
        self._bounded = 0

    def __len__(self) -> int:
        """How many wait, those who came back included."""
        return self._size + len(self._returned)

    def enter(self, key_id: str, weight: float, *, bounded: bool) -> Ticket:
        """A place at the end of the key's own line; `bounded=False` (a job, durable elsewhere) is never refused."""
        if bounded and self._bounded >= self._length:
            raise LineFull(
                f"{self._bounded} calls wait for this service, which is as many as may.",
                retry_after=1,
                help="Wait as long as Retry-After says, or submit it as a job: POST /v1/jobs.",
            )
        ticket = Ticket(key_id, max(weight, 1e-6), bounded=bounded)
        key = self._keys.get(key_id)
        if key is None:
            self._order += 1
            key = self._keys[key_id] = _Key(
                key_id, max(self._now, self._finish.get(key_id, 0.0)), self._order
            )
            heapq.heappush(self._heap, key)
        key.tickets[ticket] = None
        self._count(ticket, 1)
        return ticket

    def pass_by(self, key_id: str, weight: float) -> None:
        """A call that did not have to wait is charged like one that did."""
        self._serve(key_id, max(self._now, self._finish.get(key_id, 0.0)), max(weight, 1e-6))

    def come_back(self, key_id: str, weight: float, avoid: frozenset[Endpoint]) -> Ticket:
        """A place before all others, for a call that had its turn and could not use it."""
        ticket = Ticket(key_id, weight, bounded=False, avoid=avoid)
        self._returned[ticket] = None
        return ticket

    def returned(self) -> Iterator[Ticket]:
        for ticket in list(self._returned):
            if ticket.slot.done():
                del self._returned[ticket]
            else:
                yield ticket

    @property
    def fresh(self) -> int:
        """How many wait for their first turn."""
        return self._size

    def next(self) -> Ticket | None:
        """Takes out the ticket whose turn it is; none when all who stood here have just been cancelled."""
        while self._heap:
            key = self._heap[0]
            if not key.tickets:  # all its callers went away
                self._forget(heapq.heappop(self._heap))
                continue
            ticket, _ = key.tickets.popitem(last=False)
            self._count(ticket, -1)
            if (
                ticket.slot.done()
            ):  # its caller was cancelled in this very turn of the loop, and has not left yet
                continue
            self._serve(key.key_id, key.start, ticket.weight)
            if key.tickets:
                self._order += 1
                key.start, key.order = self._finish[key.key_id], self._order
                heapq.heapreplace(self._heap, key)
            else:
                self._forget(heapq.heappop(self._heap))
            return ticket
        return None

    def leave(self, ticket: Ticket) -> None:
        """The caller went away; safe to call for a ticket that has left already."""
        if ticket in self._returned:
            del self._returned[ticket]
            return
        key = self._keys.get(ticket.key_id)
        if key is not None and ticket in key.tickets:
            del key.tickets[ticket]
            self._count(ticket, -1)

    def empty(self) -> list[Ticket]:
        """Takes everybody out."""
        everybody = list(self._returned) + [ticket for key in self._keys.values() for ticket in key.tickets]
        self._returned.clear()
        self._keys.clear()
        self._heap.clear()
        self._size = self._bounded = 0
        return everybody

    def _count(self, ticket: Ticket, change: int) -> None:
        self._size += change
        self._bounded += change * ticket.bounded

    def _serve(self, key_id: str, start: float, weight: float) -> None:
        self._now = max(self._now, start)
        self._finish[key_id] = start + 1 / weight
        if len(self._finish) > 1024 + 2 * len(self._keys):
            self._finish = {k: f for k, f in self._finish.items() if f > self._now}

    def _forget(self, key: _Key) -> None:
        del self._keys[key.key_id]
