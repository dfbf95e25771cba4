"""Where results go: pictures in, files with fitting names out, each written whole or not at all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from gateway.cli.console import USAGE, Stop
from gateway.client import Made, Result


def write(result: Result, to: Path | None, source: str) -> list[Path]:
    """One file a picture: `to` may be a file, a folder, or None, and then a free name here is picked."""
    pictures = result.pictures
    if to is not None and (to.is_dir() or str(to).endswith("/") or (len(pictures) > 1 and not to.suffix)):
        to.mkdir(parents=True, exist_ok=True)
        return named(pictures, to, source)
    if to is None:
        return [_atomic(picture, _free(path)) for path, picture in _numbered(pictures, Path(source))]
    if not to.parent.is_dir():
        raise Stop(f"There is no folder {str(to.parent)!r}: make it, or give -o another path.", USAGE)
    if not to.suffix:
        to = to.with_name(to.name + pictures[0].extension)
    if len(pictures) == 1:
        return [_atomic(pictures[0], to)]
    base = to.with_suffix("")
    return [_atomic(picture, path.with_suffix(to.suffix)) for path, picture in _numbered(pictures, base)]


def named(pictures: list[Made], folder: Path, stem: str) -> list[Path]:
    """Into a folder, called after what they were made from."""
    return [_atomic(picture, path) for path, picture in _numbered(pictures, folder / stem)]


def write_data(data: Any, to: Path) -> Path:
    import orjson

    to.write_bytes(orjson.dumps(data, option=orjson.OPT_INDENT_2) + b"\n")
    return to


def _numbered(pictures: list[Made], base: Path) -> list[tuple[Path, Made]]:
    """`x.png`, or `x-1.png`, `x-2.png` ... for several; maps say that they are maps."""
    found, counts = [], {"picture": 0, "map": 0}
    several = sum(picture.role != "map" for picture in pictures) > 1
    for picture in pictures:
        role = "map" if picture.role == "map" else "picture"
        counts[role] += 1
        tail = f"-map-{counts[role]}" if role == "map" else f"-{counts[role]}" if several else ""
        found.append((base.with_name(f"{base.name}{tail}{picture.extension}"), picture))
    return found


def _free(path: Path) -> Path:
    """The name itself, or the next that nobody has."""
    at, free = 2, path
    while free.exists():
        free, at = path.with_name(f"{path.stem}-{at}{path.suffix}"), at + 1
    return free


def _atomic(picture: Made, path: Path) -> Path:
    """A half-written file must not look like a finished one to `--skip-existing`."""
    fresh = path.with_name(f".{path.name}.part")
    fresh.write_bytes(picture.content)
    return fresh.replace(path)
