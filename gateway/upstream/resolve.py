"""Where a service's endpoints are: an address of the settings goes in, the addresses to call come out.

`http://host:port` is one endpoint; `dns+http://name:port` stands for every A and AAAA record of the name.
`grpc://host:port` is TensorFlow Serving, which performs `sketch-to-image` and nothing else.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from urllib.parse import parse_qs, urlsplit

from services.errors import NotConfigured
from services.operations import SketchToImage

Resolve = Callable[[str, int], Awaitable[list[str]]]
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
    weight = 1.0
    if parts.fragment:
        options = parse_qs(parts.fragment, keep_blank_values=True)
        try:
            (weight,) = (float(value) for value in options.pop("weight", []))
        except ValueError:
            weight = 0.0
        if options or not 0 < weight <= 1000:
            raise NotConfigured(
                f"{text!r} has a fragment that is not understood: write #weight=0.1, a number above 0"
            )
    try:
        port = parts.port or _PORTS[scheme]
    except ValueError as error:
        raise NotConfigured(f"{text!r} has a port that is no number from 1 to 65535") from error
    return Origin(
        scheme, parts.hostname, port, parts.path.rstrip("/"), weight, parts.scheme.startswith("dns+")
    )


async def system_resolver(name: str, port: int) -> list[str]:
    """Every address of a name, by the system's resolver in a thread."""
    found = await asyncio.get_running_loop().getaddrinfo(name, port, type=socket.SOCK_STREAM)
    return sorted({str(entry[4][0]) for entry in found})
