"""`darkroom operations`: what can be asked of a running gateway."""

from __future__ import annotations

from typing import Annotated

import typer

from gateway.cli.flags import URL

AsJson = Annotated[bool, typer.Option("--json", help="As JSON.")]


def operations(document: AsJson = False, url: URL = None) -> None:
    """List the operations, and whether each can be asked for now."""
    from gateway.cli.console import as_json, table
    from gateway.cli.where import darkroom_at

    with darkroom_at(url) as darkroom:
        found = darkroom.operations()
    if document:
        as_json(found)
        return
    rows = [
        [one["name"], one["service"], "yes" if one["available"] else str(one["reason"]), one["summary"]]
        for one in found
    ]
    table("Operations", ["name", "service", "available", "what it does"], rows)
