"""Where a service's endpoints are: an address of the settings goes in, the addresses to call come out.

`http://host:port` is one endpoint; `dns+http://name:port` stands for every A and AAAA record of the name.
`grpc://host:port` is TensorFlow Serving, which performs `sketch-to-image` and nothing else. `#track=canary&weight=0.1`
makes it the canary, which gets a tenth of the calls; a weight without a track is an endpoint's beside its siblings.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from urllib.parse import parse_qs, urlsplit

from gateway.upstream.observe import Track
from services.errors import NotConfigured
from services.operations import SketchToImage

Resolve = Callable[[str, int], Awaitable[list[str]]]
_TRACKS: dict[str, Track] = {"stable": "stable", "canary": "canary"}
_PORTS = {"http": 80, "https": 443, "grpc": 8500}


@dataclass(frozen=True, slots=True)
class Origin:
    """One address of the settings, read."""

    scheme: str
    host: str
    port: int
    path: str
    weight: float
    resolved: bool
    track: Track = "stable"

    def address(self, host: str) -> str:
        return f"{self.scheme}://{f'[{host}]' if ':' in host else host}:{self.port}{self.path}"


def read_origins(service: str, texts: list[str]) -> list[Origin]:
    """All addresses of one service, which speak one protocol."""
    origins = [read_origin(text) for text in texts]
    grpc = [origin.scheme == "grpc" for origin in origins]
    if any(grpc) and service != SketchToImage.service:
        raise NotConfigured(
            f"{service!r} has a grpc:// address, but TensorFlow Serving performs {SketchToImage.service!r} alone: "
            "write http://host:port"
        )
    if any(grpc) and not all(grpc):
        raise NotConfigured(f"The addresses of {service!r} must be all grpc:// or all http://.")
    canary = {origin.weight for origin in origins if origin.track == "canary"}
    if len(canary) > 1:
        raise NotConfigured(
            f"The canary of {service!r} has the weights {sorted(canary)}: it has one, which is its share of the calls"
        )
    if canary and all(origin.track == "canary" for origin in origins):
        raise NotConfigured(
            f"{service!r} has a canary and nothing beside it: name the stable endpoints too, or write them without "
            "#track=canary"
        )
    return origins


def read_origin(text: str) -> Origin:
    """An address as DARKROOM_SERVICES has it; one that cannot be read stops the start."""
    parts = urlsplit(text)
    scheme = parts.scheme.removeprefix("dns+")
    if scheme not in _PORTS or not parts.hostname:
        raise NotConfigured(
            f"{text!r} is no service's address: write http://host:port or dns+http://name:port"
        )
    if scheme == "grpc" and parts.path.strip("/"):
        raise NotConfigured(f"{text!r} has a path, and gRPC has none: write grpc://host:port")
    if parts.username or parts.query:
        raise NotConfigured(f"{text!r} is no service's address: it may have no user and no query")
    track, weight = _read_fragment(text, parts.fragment)
    try:
        port = parts.port or _PORTS[scheme]
    except ValueError as error:
        raise NotConfigured(f"{text!r} has a port that is no number from 1 to 65535") from error
    return Origin(
        scheme, parts.hostname, port, parts.path.rstrip("/"), weight, parts.scheme.startswith("dns+"), track
    )


def _read_fragment(text: str, fragment: str) -> tuple[Track, float]:
    """The track and the weight: of the canary its share of the calls, else an endpoint's beside its siblings."""
    if not fragment:
        return "stable", 1.0
    options = parse_qs(fragment, keep_blank_values=True)
    try:
        track: Track = _TRACKS[options.pop("track", ["stable"])[-1]]
        (weight,) = (float(value) for value in options.pop("weight", ["1"] if track == "stable" else []))
    except (KeyError, ValueError):
        track, weight = "stable", 0.0
    if options or not 0 < weight <= (1 if track == "canary" else 1000):
        raise NotConfigured(
            f"{text!r} has a fragment that is not understood: write #track=canary&weight=0.1, the share of the calls "
            "that the canary gets, or #weight=0.5, a number above 0"
        )
    return track, weight


async def system_resolver(name: str, port: int) -> list[str]:
    """Every address of a name, by the system's resolver in a thread."""
    found = await asyncio.get_running_loop().getaddrinfo(name, port, type=socket.SOCK_STREAM)
    return sorted({str(entry[4][0]) for entry in found})
