"""A folder of pictures in, a folder of results out: a few at once, with one bar, and the failures told at the end."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gateway.cli import save
from gateway.cli.console import FAILED, USAGE, Stop, err, say
from gateway.cli.flags import Flag, Given
from gateway.client import Darkroom
from services.errors import DarkroomError

PICTURES = {".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff"}


@dataclass(frozen=True, slots=True)
class Item:
    """One picture of the batch, with the parameters that are its own."""

    source: Path
    params: dict[str, Any]


def run_batch(darkroom: Darkroom, given: Given, primary: Flag, typed: list[str]) -> int:
    """Everything that can be done is done; the exit code says whether all was."""
    if given.to in (None, "-"):
        raise Stop("Several pictures need a folder to go to: give -o FOLDER.", USAGE)
    folder = Path(str(given.to))
    if folder.exists() and not folder.is_dir():
        raise Stop(f"{folder} is a file; several pictures need a folder.", USAGE)
    sources = sorted(_sources(typed, given))
    if not sources:
        raise Stop(f"There is no picture in {', '.join(typed)}.", USAGE)
    _no_two_alike(sources)
    beside = {
        flag.name: _stems(flag, given) for flag in given.operation.flags if _is_folder(flag, given, primary)
    }
    done = {path.stem for path in folder.iterdir()} if given.skip_existing and folder.exists() else set()
    skipped = [source for source in sources if {source.stem, f"{source.stem}-1"} & done]
    failed: dict[str, str] = {}
    items = []
    for source in sources:
        if source in skipped:
            continue
        missing = [name for name, found in beside.items() if source.stem not in found]
        if missing:
            failed[str(source)] = (
                f"there is no {missing[0]} named {source.stem}.* in the folder of {missing[0]}s"
            )
            continue
        own = {name: found[source.stem] for name, found in beside.items()}
        items.append(Item(source, given.params | own | {primary.name: source}))
    if items:  # all that was said has been looked at
        folder.mkdir(parents=True, exist_ok=True)
    failed |= _work(darkroom, given, items, folder)
    finished = len(sources) - len(skipped) - len(failed)
    tail = f", {len(skipped)} were there already" if skipped else ""
    say(f"{finished} of {len(sources)} done, in {folder}{tail}{f', {len(failed)} failed' if failed else ''}.")
    for name, why in sorted(failed.items()):
        say(f"  {name}: {why}")
    return FAILED if failed else 0


def _work(darkroom: Darkroom, given: Given, items: list[Item], folder: Path) -> dict[str, str]:
    from rich.progress import Progress

    failed = {}
    pool = ThreadPoolExecutor(given.concurrency)
    shown = not given.quiet and err().is_terminal
    with Progress(console=err(), transient=True, disable=not shown) as bar:
        task = bar.add_task(given.operation.name, total=len(items))
        running = {pool.submit(_one, darkroom, given, item, folder): item for item in items}
        try:
            for future in as_completed(running):
                try:
                    future.result()
                except (DarkroomError, OSError) as error:
                    failed[str(running[future].source)] = str(error)
                bar.advance(task)
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
    return failed


def _one(darkroom: Darkroom, given: Given, item: Item, folder: Path) -> None:
    name = given.operation.name
    result = (
        darkroom.submit(name, **item.params).wait() if given.as_job else darkroom.run(name, **item.params)
    )
    if result.pictures:
        save.named(result.pictures, folder, item.source.stem)
    else:
        save.write_data(result.data, folder / f"{item.source.stem}.json")


def _sources(typed: list[str], given: Given) -> Iterator[Path]:
    for name in typed:
        path = Path(name)
        if path.is_dir():
            yield from (one for one in path.iterdir() if one.suffix.lower() in PICTURES and one.is_file())
        elif path.is_file():
            yield path
        else:
            words = any(flag.name == "prompt" for flag in given.operation.flags)
            hint = " Words are given with --prompt." if words else ""
            raise Stop(f"There is no file or folder {name!r}.{hint}", USAGE)


def _no_two_alike(sources: list[Path]) -> None:
    stems: dict[str, Path] = {}
    for source in sources:
        if source.stem in stems:
            raise Stop(
                f"{stems[source.stem]} and {source} would have results of one name: rename one.", USAGE
            )
        stems[source.stem] = source


def _is_folder(flag: Flag, given: Given, primary: Flag) -> bool:
    value = given.params.get(flag.name)
    return flag.picture and flag is not primary and isinstance(value, str) and Path(value).is_dir()


def _stems(flag: Flag, given: Given) -> dict[str, Path]:
    """The pictures of a folder beside the first one, such as masks, by their stem."""
    return {path.stem: path for path in _sources([str(given.params[flag.name])], given)}
