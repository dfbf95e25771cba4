"""The tracks of a service as they stand: endpoints go in, a `TrackStatus` for stable and one for a canary come out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import get_args

from gateway.upstream.endpoint import Endpoint, Health
from gateway.upstream.observe import Track
from gateway.upstream.status import TrackStatus

_MODELS = 64  # names of one track that are told; a catalogue may have many LoRAs


def tracks_of(endpoints: Sequence[Endpoint], canary_share: float) -> list[TrackStatus]:
    """A canary that the settings name is told also while it has no endpoint."""
    found = [_track("stable", endpoints, 1 - canary_share)]
    if canary_share:
        found.append(_track("canary", endpoints, canary_share))
    return found


def _track(track: Track, endpoints: Sequence[Endpoint], share: float) -> TrackStatus:
    own = [e for e in endpoints if e.track == track]
    known = [e for e in own if not e.leaving]
    up = [e for e in known if e.health == "up"]
    health = Counter(e.health for e in known)
    return TrackStatus(
        track,
        share,
        in_flight=sum(e.in_flight for e in own),
        capacity=sum(e.capacity for e in up),
        health={state: health[state] for state in get_args(Health)},
        models=sorted({str(m.get("name")) for e in up for m in e.models if m.get("loaded")})[:_MODELS],
        versions=sorted({e.version for e in known if e.version}),
    )
