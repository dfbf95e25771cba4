"""`darkroom assets`: pictures that the gateway keeps."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gateway.cli.flags import URL

app = typer.Typer(help="Upload, fetch and delete kept pictures.", no_args_is_help=True)
AssetId = Annotated[str, typer.Argument(help="The asset's id.", metavar="ASSET")]


@app.command()
def put(
    files: Annotated[list[Path], typer.Argument(help="Pictures to upload.", exists=True, dir_okay=False)],
    url: URL = None,
) -> None:
    """Upload pictures; each line printed can stand for the picture in `darkroom run`."""
    from gateway.cli.console import answer
    from gateway.cli.where import darkroom_at

    with darkroom_at(url) as darkroom:
        for file in files:
            answer(f"asset:{darkroom.assets.put(file).id}")


@app.command()
def get(
    asset: AssetId,
    to: Annotated[str | None, typer.Option("-o", "--output", help="The file; stdout if absent.")] = None,
    url: URL = None,
) -> None:
    """Fetch a picture."""
    import sys

    from gateway.cli.where import darkroom_at

    with darkroom_at(url) as darkroom:
        content = darkroom.assets.get(asset.removeprefix("asset:"))
    if to in (None, "-"):
        sys.stdout.buffer.write(content)
    else:
        Path(str(to)).write_bytes(content)


@app.command("list")
def list_assets(
    limit: Annotated[int, typer.Option(min=1, max=200, help="How many.")] = 50, url: URL = None
) -> None:
    """List kept pictures, the newest first."""
    from gateway.cli.console import table
    from gateway.cli.where import darkroom_at

    with darkroom_at(url) as darkroom:
        found = [asset.document for asset in darkroom.assets.list(limit=limit)]
    rows = [
        [
            asset["id"],
            asset["media_type"],
            f"{asset['width']}x{asset['height']}" if asset["width"] else "",
            str(asset["bytes"]),
            asset["created_at"],
        ]
        for asset in found
    ]
    table("Assets", ["id", "type", "size", "bytes", "created"], rows)


@app.command()
def delete(
    assets: Annotated[list[str], typer.Argument(help="The assets' ids.", metavar="ASSET...")], url: URL = None
) -> None:
    """Delete pictures."""
    from gateway.cli.where import darkroom_at

    with darkroom_at(url) as darkroom:
        for asset in assets:
            darkroom.assets.delete(asset.removeprefix("asset:"))
