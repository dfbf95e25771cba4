"""The boundary to httpx: a `Request` in, httpx's arguments out; its exceptions become ours here and nowhere else."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx

from gateway.client.steps import Request, Unreachable, Unsent
from services.errors import BadInput, DeadlineExceeded

CONNECT_TIMEOUT = 5.0
IDLE_TIMEOUT = 30.0  # a stream of events is never silent for so long while it lives


def options(url: str | None, key: str | None) -> dict[str, Any]:
    """What both of httpx's clients are made with."""
    secret = key or os.environ.get("DARKROOM_KEY")
    return {
        "base_url": address(url),
        "headers": {"authorization": f"Bearer {secret}"} if secret else {},
        # a call that has to wait for a connection has its own deadline for it
        "limits": httpx.Limits(max_connections=100, max_keepalive_connections=20),
    }


def address(url: str | None) -> str:
    """Where Darkroom is: as said, else DARKROOM_URL, else the gateway of this machine."""
    found = (url or os.environ.get("DARKROOM_URL") or _local()).rstrip("/")
    if not found.startswith(("http://", "https://")):
        raise BadInput(
            f"The address {found!r} must start with http:// or https://.", help="As http://127.0.0.1:8080."
        )
    return found


def _local() -> str:
    """As the command finds it; the settings are only read where nobody names an address."""
    from pydantic_settings import SettingsError

    from gateway.local import address as local
    from gateway.settings import Settings

    try:
        return local(Settings())
    except (ValueError, SettingsError) as error:
        raise BadInput(
            f"The settings here do not say where Darkroom is: {error}",
            help="Give an address, set DARKROOM_URL, or mend what `darkroom doctor` shows.",
        ) from error


def arguments(request: Request, left: float | None) -> dict[str, Any]:
    """For httpx's build_request; `left` are the seconds that the call still has."""
    idle = left if not request.stream else IDLE_TIMEOUT if left is None else min(left, IDLE_TIMEOUT)
    connect = CONNECT_TIMEOUT if left is None else min(left, CONNECT_TIMEOUT)
    found: dict[str, Any] = {
        "method": request.method,
        "url": request.path,
        "params": request.query,
        "headers": request.headers,
        "timeout": httpx.Timeout(idle, connect=connect, pool=left),
    }
    if request.parts:
        found |= {"data": request.form, "files": request.parts}
    elif request.json is not None:
        found["json"] = request.json
    return found


@contextmanager
def translated(where: str) -> Iterator[None]:
    """httpx's transport errors as the one that a caller of ours expects."""
    try:
        yield
    except (httpx.ConnectError, httpx.ConnectTimeout) as error:
        raise Unsent(f"Nothing answers at {where}: {error or type(error).__name__}.") from error
    except httpx.TimeoutException as error:
        raise DeadlineExceeded(f"{where} did not answer in time.") from error
    except httpx.TransportError as error:
        raise Unreachable(
            f"The connection to {where} broke: {error or type(error).__name__}.",
            help="Ask again; if it stays, look whether the gateway or a proxy before it ends connections.",
        ) from error
    except httpx.InvalidURL as error:
        raise Unreachable(f"{where!r} is no address: {error}.") from error
