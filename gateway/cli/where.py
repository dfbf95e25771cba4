"""Where the command finds the gateway: an address that was said, or none, goes in; a client for it comes out."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gateway.client import Darkroom


def address(url: str | None) -> str:
    """As said, else DARKROOM_URL, else where the gateway of this machine is."""
    if found := url or os.environ.get("DARKROOM_URL"):
        return found
    from gateway.cli.config import load_settings
    from gateway.local import address as local

    return local(load_settings())


def darkroom_at(url: str | None, **options: Any) -> Darkroom:
    """A client; to be closed."""
    from gateway.client import Darkroom

    return Darkroom(address(url), **options)
