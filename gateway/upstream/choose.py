"""Which endpoint is next: free ones go in, one comes out.

Endpoints of one weight form a class. Between classes calls are shared by weight (stride scheduling, so that a canary
of weight 0.1 beside one of 1 gets each eleventh call, however few run at once); within a class the one with the
fewest calls in flight is taken, and among equals the one that was not taken for longest. A class without a free slot
gives its share to the others.
"""

from __future__ import annotations

from collections.abc import Sequence

from gateway.upstream.endpoint import Endpoint


class Chooser:
    def __init__(self) -> None:
        self._count = 0
        self._passes: dict[float, float] = {}  # how far each class has come, by its weight
        self._now = 0.0

    def choose(self, free: Sequence[Endpoint]) -> Endpoint | None:
        if not free:
            return None
        first = free[0].weight
        of_class = free if all(e.weight == first for e in free) else self._class(free)
        chosen = min(of_class, key=_load)
        self._count += 1
        chosen.last_taken = self._count
        return chosen

    def _class(self, free: Sequence[Endpoint]) -> list[Endpoint]:
        weights: dict[float, float] = {}
        for endpoint in free:
            weights[endpoint.weight] = weights.get(endpoint.weight, 0.0) + endpoint.weight
        # a class that was away begins where the others are, instead of catching up
        place = {weight: max(self._passes.get(weight, 0.0), self._now) for weight in weights}
        best = min(place, key=lambda weight: (place[weight], -weight))
        self._now = place[best]
        self._passes = place | {best: place[best] + 1 / weights[best]}
        return [endpoint for endpoint in free if endpoint.weight == best]


def _load(endpoint: Endpoint) -> tuple[int, int]:
    return endpoint.in_flight, endpoint.last_taken
