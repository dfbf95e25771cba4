"""The boundary to httpx: a `Request` in, httpx's arguments out; its exceptions become ours here and nowhere else."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx

from gateway.client.steps import Request, Unreachable
from services.errors import BadInput, DeadlineExceeded

DEFAULT_URL = "http://127.0.0.1:8080"
CONNECT_TIMEOUT = 5.0
IDLE_TIMEOUT = 30.0  # a stream of events is never silent for so long while it lives


def options(url: str | None, key: str | None, timeout: float) -> dict[str, Any]:
    """What both of httpx's clients are made with."""
    secret = key or os.environ.get("DARKROOM_KEY")
    return {
        "base_url": address(url),
        "timeout": httpx.Timeout(timeout, connect=CONNECT_TIMEOUT),
        "headers": {"authorization": f"Bearer {secret}"} if secret else {},
    }


def address(url: str | None) -> str:
    """Where Darkroom is: as said, else DARKROOM_URL, else this machine."""
    found = (url or os.environ.get("DARKROOM_URL") or DEFAULT_URL).rstrip("/")
    if not found.startswith(("http://", "https://")):
        raise BadInput(
            f"The address {found!r} must start with http:// or https://.", help=f"As {DEFAULT_URL}."
        )
    return found


def arguments(request: Request) -> dict[str, Any]:
    """For httpx's build_request."""
    found: dict[str, Any] = {
        "method": request.method,
        "url": request.path,
        "params": request.query,
        "headers": request.headers,
    }
    if request.stream:
        found["timeout"] = httpx.Timeout(IDLE_TIMEOUT, connect=CONNECT_TIMEOUT)
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
    except httpx.ReadTimeout as error:
        raise DeadlineExceeded(f"{where} did not answer in time.") from error
    except httpx.TransportError as error:
        raise Unreachable(f"Nothing answers at {where}: {error or type(error).__name__}.") from error
    except httpx.InvalidURL as error:
        raise Unreachable(f"{where!r} is no address: {error}.") from error
