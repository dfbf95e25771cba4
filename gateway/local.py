"""Where the gateway of this machine is: settings in, its address out. The command and the Python client ask here."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gateway.settings import Settings


def address(settings: Settings) -> str:
    """As these settings say; where they name no place, as the `darkroom up` that runs on their data folder noted."""
    where = address_of(settings)
    if not settings.model_fields_set & {"host", "port"}:
        noted = str((holder(settings.data) or {}).get("address", ""))
        where = noted if noted.startswith("http") else where
    return where + settings.root_path


def address_of(settings: Settings) -> str:
    """Where this machine reaches a gateway that has these settings."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(settings.host, settings.host)
    scheme = "https" if settings.tls_cert else "http"
    return f"{scheme}://[{host}]:{settings.port}" if ":" in host else f"{scheme}://{host}:{settings.port}"


def holder(data: Path) -> dict[str, object] | None:
    """Who holds the data folder now, or None."""
    import fcntl  # there is none on Windows, from where a gateway elsewhere may be called

    path = data / "lock"
    if not path.exists():
        return None
    descriptor = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return read_note(descriptor)
    finally:
        os.close(descriptor)
    return None


def read_note(descriptor: int) -> dict[str, object]:
    """What the holder of an open lock wrote of itself."""
    try:
        document = json.loads(os.pread(descriptor, 4096, 0))
    except ValueError:
        return {}  # its holder is just now writing it
    return document if isinstance(document, dict) else {}
