"""Which endpoint is next: those that are up go in, one that is free comes out.

A service has one track, `stable`, or two. The **canary** gets its share of the calls, evenly spread and never more:
where all of stable is busy a call waits for it, so that a canary meets under load what it was given. Only where nothing
of stable is up does the canary answer everything: a service that is there comes before a trial that is pure. A busy or
absent canary leaves its calls to stable.

Within a track, endpoints of one weight form a class. Between classes calls are shared by weight (stride scheduling);
within a class the one with the fewest calls in flight is taken, and among equals the one that was not taken for
longest. A class without a free slot gives its share to the others.
"""

from __future__ import annotations

from collections.abc import Sequence

from gateway.upstream.endpoint import Endpoint

_ALMOST = 1 - 1e-9  # ten tenths of a call are one call


class Share:
    """Which of many calls are the canary's: every tenth of a share of 0.1, whatever their rate."""

    def __init__(self) -> None:
        self._owed = 0.0

    def due(self, share: float) -> bool:
        """Whether the next call is the canary's."""
        return self._owed + share >= _ALMOST

    def placed(self, share: float, *, at_canary: bool) -> None:
        """A call went to one of the two; what a canary could not take it is owed once, not for ever."""
        self._owed = self._owed + share - 1 if at_canary else min(1.0, self._owed + share)


class Chooser:
    def __init__(self) -> None:
        self._count = 0
        self._share = Share()
        self._strides = {"stable": _Strides(), "canary": _Strides()}

    def choose(self, up: Sequence[Endpoint]) -> Endpoint | None:
        """`up` may have no free slot; nothing when the call has to wait."""
        canary = [endpoint for endpoint in up if endpoint.track == "canary"]
        if not canary:
            return self._within("stable", up)
        stable = [endpoint for endpoint in up if endpoint.track == "stable"]
        if not stable:
            return self._within("canary", canary)
        share, chosen = canary[0].weight, None
        if self._share.due(share):
            chosen = self._within("canary", canary)
        if chosen is None:
            chosen = self._within("stable", stable)
        if chosen is not None:
            self._share.placed(share, at_canary=chosen.track == "canary")
        return chosen

    def _within(self, track: str, endpoints: Sequence[Endpoint]) -> Endpoint | None:
        free = [endpoint for endpoint in endpoints if endpoint.free]
        if not free:
            return None
        first = free[0].weight
        of_class = free if all(e.weight == first for e in free) else self._strides[track].next(free)
        chosen = min(of_class, key=_load)
        self._count += 1
        chosen.last_taken = self._count
        return chosen


class _Strides:
    """Classes of weights, and how far each has come."""

    def __init__(self) -> None:
        self._passes: dict[float, float] = {}
        self._now = 0.0

    def next(self, free: Sequence[Endpoint]) -> list[Endpoint]:
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
