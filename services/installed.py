"""Which services exist here: out goes, for each name, the module that performs it; none is imported.

Most are classes that `services.serve` hosts; one that is a server of its own kind is started by its own module.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

from services.operations import OPERATIONS, extensions

_HERE = Path(__file__).parent
# one process of the first performs all that the others do: together they hold their models once
STANDS_FOR = {"controlnet": ("sdxl",)}
SERVERS = {"pix2pix": "tf_serving.server"}


def installed() -> dict[str, str]:
    """`{"cleanup": "services.cleanup.service", ...}`, extensions included."""
    found = {
        path.parent.name: f"services.{path.parent.name}.service"
        for path in sorted(_HERE.glob("*/service.py"))
    }
    for package in extensions():
        if importlib.util.find_spec(f"{package}.service") is None:
            continue
        own = f"{package}.operations"
        for operation in OPERATIONS.values():
            if operation.__module__ == own:
                found.setdefault(operation.service, f"{package}.service")
    return found


def servers() -> dict[str, str]:
    """`{"pix2pix": "tf_serving.server"}`: services that are no class here, with the module that is run."""
    return {name: module for name, module in SERVERS.items() if _exists(module)}


def _exists(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # its package is not there either
        return False


def processes(names: list[str], *, apart: bool = False) -> dict[str, list[str]]:
    """For each process to start, the services that it performs; `apart` gives each service one of its own."""
    spared = {other for name in names for other in STANDS_FOR.get(name, ()) if not apart and other in names}
    return {
        name: [name, *(other for other in STANDS_FOR.get(name, ()) if other in spared)]
        for name in names
        if name not in spared
    }


def module_of(name: str) -> str:
    """The module for a service's name or an extension's package."""
    known = installed()
    if name in known:
        return known[name]
    if name in extensions():
        return f"{name}.service"
    if name in SERVERS:
        raise SystemExit(
            f"{name} is a server of its own: python -m {SERVERS[name]}, or `darkroom up {name}`."
        )
    raise SystemExit(
        f"There is no service {name!r} here; there are {', '.join(sorted(known))}. "
        "An extension's package must be named in DARKROOM_EXTENSIONS."
    )
