"""`darkroom models`: list, pull, verify, remove, where."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gateway.cli.flags import URL

if TYPE_CHECKING:
    from gateway.cli.models.fetch import Piece, Report
    from gateway.cli.models.shelf import Catalogue
    from services.models import ModelEntry

app = typer.Typer(help="The models: what there are, and what of them is on this disk.", no_args_is_help=True)
AsJson = Annotated[bool, typer.Option("--json", help="As JSON.")]
Names = Annotated[list[str] | None, typer.Argument(help="Models of the catalogue, by name or alias.")]


@app.command("list")
def list_models(
    parts: Annotated[bool, typer.Option("--parts", help="Also what models are made of.")] = False,
    document: AsJson = False,
    url: URL = None,
) -> None:
    """List the models: of the catalogue here, and which of them a running Darkroom has loaded."""
    from gateway.cli.console import as_json, table
    from gateway.cli.models.shelf import written

    known = {model["id"]: model for model in _running(url)}
    held = _catalogue()
    found: list[dict[str, Any]] = []
    for entry in held.entries.values():
        if entry.kind == "part" and not parts:
            continue
        told = known.pop(entry.name, {})
        found.append(
            {
                "name": entry.name,
                "service": entry.service,
                "engine": entry.engine,
                "kind": entry.kind,
                "family": entry.family,
                "licence": entry.licence,
                "source": entry.source,
                "summary": entry.summary,
                "on_disk": held.present(entry),
                "bytes": held.size(entry),
                "loaded": bool(told.get("loaded")),
            }
        )
    # a Darkroom elsewhere may have more than the catalogue here
    found += [
        {"name": name, "service": told["service"], "engine": str(told.get("engine", "")), "kind": "model"}
        | {
            "licence": str(told.get("licence", "")),
            "on_disk": None,
            "bytes": 0,
            "loaded": bool(told.get("loaded")),
        }
        for name, told in known.items()
    ]
    if document:
        as_json(found)
        return
    rows = [
        [
            one["name"],
            one["service"],
            one["engine"],
            "yes" if one["loaded"] else "no",
            _where(one["on_disk"], one["bytes"], written),
            one["licence"],
        ]
        for one in found
    ]
    table("Models", ["name", "service", "engine", "loaded", "on disk", "licence"], rows)


def _where(on_disk: bool | None, size: int, written: Any) -> str:
    if on_disk is None:
        return "?"
    if on_disk:
        return str(written(size)) if size else "built in"
    return f"in part ({written(size)})" if size else "no"


def _running(url: str | None) -> list[dict[str, Any]]:
    """The models of a running gateway; none where no address was given and none runs here."""
    from gateway.cli.where import darkroom_at
    from services.errors import DarkroomError

    try:
        with darkroom_at(url) as darkroom:
            return darkroom.models()
    except DarkroomError:
        if url:
            raise
        return []


@app.command()
def pull(
    names: Names = None,
    all_of: Annotated[
        str | None, typer.Option("--all-of", help="Everything of this service: many gigabytes.")
    ] = None,
    all_parts: Annotated[
        bool,
        typer.Option("--all-parts", help="Their ControlNets and IP-Adapter too, not only what they need."),
    ] = False,
    at_once: Annotated[int, typer.Option("-j", "--at-once", min=1, max=16, help="Files at once.")] = 4,
) -> None:
    """Fetch models with what they need, checked by their checksums. What was interrupted goes on."""
    import asyncio

    from gateway.cli.console import Stop, say
    from gateway.cli.lock import FolderLock
    from gateway.cli.models import fetch
    from gateway.cli.models.hub import Hub
    from gateway.cli.models.shelf import written
    from gateway.local import holder
    from services.settings import HubSettings

    settings, held = HubSettings.from_environment(), _catalogue()
    asked = _asked(held, names, all_of)
    for entry in asked:
        if not entry.fetched and not entry.base:
            say(f"{entry.name} comes with Darkroom; there is nothing to fetch.")
    entries = [entry for entry in held.together(asked, all_parts=all_parts) if entry.fetched]

    async def work() -> None:
        async with Hub(settings.address, settings.token) as hub:
            told = await fetch.manifests(hub, held, entries)
            pieces = fetch.missing(held, entries, told)
            fetch.check_room(held, settings, pieces)
            for entry in entries:
                if not entry.revision:
                    say(f"{entry.name} is pinned to commit {told[entry.name].revision} of {entry.source}.")
            with _progress(pieces) as report:
                await fetch.fetch(hub, held, pieces, report, at_once=at_once)

    if entries:
        held.folder.mkdir(parents=True, exist_ok=True)
        if (other := holder(held.folder)) is not None:
            raise Stop(f"Another `darkroom models pull` is at work here (process {other.get('pid', '?')}).")
        with FolderLock(held.folder, "a `darkroom models pull`"):
            asyncio.run(work())
    for entry in entries:
        say(f"{entry.name}: {written(held.size(entry))} in {held.place(entry)} ({entry.licence})")


@app.command()
def wait(
    names: Annotated[list[str], typer.Argument(help="Models of the catalogue, by name or alias.")],
    seconds: Annotated[float, typer.Option(min=0, help="How long at most; 0: without an end.")] = 0,
) -> None:
    """Wait until models are whole on this disk, which another `darkroom models pull` puts there."""
    import time

    from gateway.cli.console import Stop, say

    held = _catalogue()
    entries = held.together([held[name] for name in names])
    until = time.monotonic() + seconds
    told: list[str] = []
    while missing := [entry.name for entry in entries if not held.present(entry)]:
        if seconds and time.monotonic() > until:
            raise Stop(
                f"After {seconds:g} s there is still no {', '.join(missing)} in {held.folder}: "
                f"`darkroom models pull {' '.join(missing)}` fetches what is missing."
            )
        if missing != told:
            say(f"Waiting for {', '.join(missing)} in {held.folder}.")
            told = missing
        time.sleep(1)
    say(f"In {held.folder}: {', '.join(entry.name for entry in entries)}.")


@app.command()
def verify(names: Names = None) -> None:
    """Read models' files anew and hold them against their checksums; without a name, of all on this disk."""
    from gateway.cli.console import FAILED, say
    from services.errors import DarkroomError
    from services.models_disk import Manifest

    held = _catalogue()
    asked = held.together([held[name] for name in names]) if names else held.on_disk()
    asked = [entry for entry in asked if entry.fetched or entry.folder]
    bad = 0
    with _reading(held, asked) as report:
        for entry in asked:
            place = held.place(entry)
            try:
                manifest = Manifest.read(place)
            except DarkroomError as error:
                faults: list[Any] = [error.detail]
            else:
                if entry.fetched and manifest is None:
                    faults = [f"{place} is missing, or was not fetched by `darkroom models pull`"]
                else:
                    faults = list(held.shelf.faults(place, manifest, anew=True, watch=report))
            for fault in faults:
                say(f"{fault}.")
            bad += bool(faults)
            say(
                f"{entry.name}: " + (f"`darkroom models pull {entry.name}` mends it." if faults else "whole.")
            )
    if not asked:
        say("Nothing was fetched yet. `darkroom models list` shows what there is.")
    raise typer.Exit(FAILED if bad else 0)


@app.command()
def remove(
    names: Annotated[list[str], typer.Argument(help="Models of the catalogue, by name or alias.")],
    force: Annotated[bool, typer.Option("--force", help="Even where other models here need it.")] = False,
) -> None:
    """Delete models' files from this disk."""
    import shutil

    from gateway.cli.console import Stop, say
    from gateway.cli.models.shelf import written

    held = _catalogue()
    asked = [held[name] for name in names]
    going = {entry.name for entry in asked}
    for entry in asked:
        if not entry.fetched:
            raise Stop(f"{entry.name} was not fetched; it comes with Darkroom or is your own.")
        others = [name for name in held.needed_by(entry) if name not in going]
        if others and not force:
            raise Stop(f"{entry.name} is needed by {', '.join(others)}: remove these too, or add --force.")
    for entry in asked:
        place, size = held.place(entry), held.size(entry)
        if place.is_dir():
            shutil.rmtree(place)
            say(f"{entry.name} is gone; {written(size)} are free.")
        else:
            say(f"{entry.name} was not on this disk.")
    idle = [
        entry.name
        for entry in held.on_disk()
        if entry.kind == "part" and not held.needed_by(entry, all_parts=True)
    ]
    if idle:
        say(
            f"No model here needs these any more: {', '.join(idle)}. `darkroom models remove` takes them too."
        )


@app.command()
def where(name: Annotated[str, typer.Argument(help="A model of the catalogue, by name or alias.")]) -> None:
    """Print the folder with a model's files."""
    from gateway.cli.console import Stop, answer

    held = _catalogue()
    entry = held[name]
    if not entry.fetched and not entry.folder:
        raise Stop(f"{entry.name} has no files: it is arithmetic that comes with its library.")
    answer(str(held.place(entry).absolute()))


# ── what they share ───────────────────────────────────────────────────────────────────────────────────────────


def _catalogue() -> Catalogue:
    from gateway.cli.models.shelf import catalogue
    from services.settings import HubSettings

    return catalogue(HubSettings.from_environment())


def _asked(held: Catalogue, names: list[str] | None, all_of: str | None) -> list[ModelEntry]:
    from gateway.cli.console import USAGE, Stop

    if bool(names) == bool(all_of):
        raise Stop("Name models, or give --all-of SERVICE. `darkroom models list` shows both.", USAGE)
    return held.of_service(all_of) if all_of else [held[name] for name in names or []]


@contextmanager
def _progress(pieces: list[Piece]) -> Iterator[Report]:
    """A bar with speed and time left where somebody looks; else a line for each file."""
    from gateway.cli.console import err, say
    from gateway.cli.models.shelf import written

    total = sum(piece.file.size for piece in pieces)
    if not pieces:
        yield lambda _path, _size: None
        return
    if not err().is_terminal:
        say(f"Fetching {len(pieces)} files, {written(total)}.")
        left = {(piece.file.path): piece.file.size - piece.had for piece in pieces}

        def tell(path: str, size: int) -> None:
            left[path] -= size
            if left[path] <= 0 < size:
                say(f"  {path}")

        yield tell
        return
    with _bar() as bar:
        task = bar.add_task(f"{len(pieces)} files", total=total, completed=sum(piece.had for piece in pieces))
        yield lambda _path, size: bar.advance(task, size)


@contextmanager
def _reading(held: Catalogue, entries: list[ModelEntry]) -> Iterator[Report]:
    from gateway.cli.console import err

    if not err().is_terminal:
        yield lambda _path, _size: None
        return
    with _bar() as bar:
        task = bar.add_task("Reading", total=sum(map(held.size, entries)))
        yield lambda _path, size: bar.advance(task, size)


def _bar() -> Any:
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    from gateway.cli.console import err

    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
        console=err(),
    )
