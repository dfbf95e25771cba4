"""The ledger of schemas: `python -m services.schemas` writes each operation's digest, and the one before it.

A service accepts both, so that gateway and services may be rolled out one after the other. Run it when an
operation's fields change; a test fails until it was run.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from services.operations import OPERATIONS, ledger

LEDGER = Path(__file__).with_name("schemas.json")


def rewritten(now: dict[str, str], before: dict[str, list[str]]) -> dict[str, list[str]]:
    """The current digest first, then the one that it replaced."""
    new: dict[str, list[str]] = {}
    for name, digest in sorted(now.items()):
        old = before.get(name, [])
        new[name] = old if old[:1] == [digest] else [digest, *old[:1]]
    return new


def ours() -> dict[str, str]:
    """The digests of the operations declared here; an extension's are its own affair."""
    return {
        name: kind.digest() for name, kind in OPERATIONS.items() if kind.__module__ == "services.operations"
    }


def main() -> None:
    new = rewritten(ours(), ledger())
    changed = [name for name, digests in new.items() if ledger().get(name) != digests]
    LEDGER.write_text(json.dumps(new, indent=2) + "\n")
    sys.stdout.write(f"{LEDGER.name}: {', '.join(changed) or 'nothing'} changed.\n")


if __name__ == "__main__":
    main()
