"""From the hub to the models' folder: in go manifests, out come whole, checked files.

What is here already is not fetched: whole files, files of another model with the same checksum (they become one file
on disk), and what an interrupted pull left of a file. Nothing takes its name before its checksum is right.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from gateway.cli.console import Stop
from gateway.cli.models.hub import Hub, Interrupted
from gateway.cli.models.shelf import Catalogue, written
from services.models import ModelEntry
from services.models_disk import PARTIAL, Manifest, ManifestFile, fault_of_safetensors, safe
from services.settings import HubSettings

TRIES = 6  # in a row without a byte
LEFT_FREE = 2 * 10**9
_PIECE = 4 * 2**20

Report = Callable[
    [str, int], None
]  # a file's path, and how many bytes of it are new (or were lost, below zero)


@dataclass(slots=True)
class Piece:
    """One file that is not here yet."""

    entry: ModelEntry
    manifest: Manifest
    file: ManifestFile
    target: Path

    @property
    def partial(self) -> Path:
        return self.target.with_name(self.target.name + PARTIAL)

    @property
    def had(self) -> int:
        with suppress(OSError):
            return self.partial.stat().st_size
        return 0


async def manifests(hub: Hub, catalogue: Catalogue, entries: list[ModelEntry]) -> dict[str, Manifest]:
    """Of each entry, at its pinned commit, or at the one of its lock file, or at the newest."""
    told: dict[str, Manifest] = {}
    for entry in entries:
        locked = Manifest.read(catalogue.place(entry))
        known = locked.revision if locked is not None and locked.source == entry.source else ""
        told[entry.name] = await hub.manifest(entry, entry.revision or known)
    return told


def missing(catalogue: Catalogue, entries: list[ModelEntry], told: dict[str, Manifest]) -> list[Piece]:
    """What is to be fetched; files that are here in their size are taken for whole until `check` reads them."""
    found = []
    for entry in entries:
        place, manifest = catalogue.place(entry), told[entry.name]
        faulty = {fault.path for fault in catalogue.shelf.faults(place, manifest)} if place.is_dir() else None
        for file in manifest.files:
            target = place / safe(file.path)
            if faulty is None or target in faulty:
                found.append(Piece(entry, manifest, file, target))
    return found


def check_room(catalogue: Catalogue, settings: HubSettings, pieces: list[Piece]) -> None:
    """Stops before the first byte where the files would not fit, and says what could go."""
    copies = catalogue.copies()
    needed = sum(max(0, one.file.size - one.had) for one in pieces if one.file.sha256 not in copies)
    catalogue.folder.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(catalogue.folder).free - LEFT_FREE
    room, why = free, "is free on the disk, 2 GB left aside"
    if settings.models_disk_gb:
        left = int(settings.models_disk_gb * 10**9) - sum(
            catalogue.size(entry) for entry in catalogue.on_disk()
        )
        if left < room:
            room, why = left, f"is left of the {settings.models_disk_gb:g} GB of DARKROOM_MODELS_DISK_GB"
    if needed <= room:
        return
    wanted = {one.entry.name for one in pieces}
    idle = [
        entry for entry in catalogue.on_disk() if entry.name not in wanted and not catalogue.needed_by(entry)
    ]
    idle.sort(key=catalogue.size, reverse=True)
    names = ", ".join(f"{entry.name} ({written(catalogue.size(entry))})" for entry in idle[:5])
    advice = f"`darkroom models remove NAME` could free: {names}." if idle else "Nothing here could go."
    raise Stop(f"{written(needed)} are to be fetched, and {written(max(0, room))} {why}. {advice}")


async def fetch(
    hub: Hub, catalogue: Catalogue, pieces: list[Piece], report: Report, *, at_once: int = 4
) -> None:
    """Fetches all of them, several at once; the first that fails ends the rest, and the next pull goes on there."""
    for name, manifest in {one.entry.name: one.manifest for one in pieces}.items():
        place = catalogue.place(catalogue[name])
        place.mkdir(parents=True, exist_ok=True)
        manifest.write(place)
    copies = catalogue.copies()
    slots = asyncio.Semaphore(at_once)

    async def same(pieces: list[Piece]) -> None:
        for piece in pieces:
            async with slots:
                await _obtain(hub, catalogue, piece, copies, report)
            if piece.file.sha256:
                copies[piece.file.sha256] = piece.target

    alike: dict[object, list[Piece]] = {}
    for piece in sorted(pieces, key=lambda piece: -piece.file.size):
        alike.setdefault(piece.file.sha256 or piece.target, []).append(piece)
    try:
        async with asyncio.TaskGroup() as group:
            for several in alike.values():
                group.create_task(same(several))
    except BaseExceptionGroup as failed:
        raise failed.exceptions[0] from None


async def _obtain(
    hub: Hub, catalogue: Catalogue, piece: Piece, copies: dict[str, Path], report: Report
) -> None:
    piece.target.parent.mkdir(parents=True, exist_ok=True)
    same = copies.get(piece.file.sha256)
    if same is not None and same != piece.target:
        await asyncio.to_thread(_copy, same, piece)
        report(piece.file.path, piece.file.size)
    else:
        await _download(hub, piece, report)
    catalogue.shelf.stamp(catalogue.place(piece.entry), piece.file)


def _copy(same: Path, piece: Piece) -> None:
    """The same file under another name: once on disk where the disk can do that."""
    piece.target.unlink(missing_ok=True)
    try:
        piece.target.hardlink_to(same)
    except OSError:
        shutil.copyfile(same, piece.partial)
        piece.partial.replace(piece.target)


async def _download(hub: Hub, piece: Piece, report: Report) -> None:
    tries, spoilt = 0, False
    while True:
        before = piece.had
        try:
            fault = await _receive(hub, piece, report)
        except Interrupted as error:
            tries = tries + 1 if piece.had <= before else 1
            if tries >= TRIES:
                raise Stop(
                    f"{error} {piece.file.path} of {piece.entry.name} is not whole yet; run the same command "
                    "again, and it goes on where it stopped."
                ) from error
            await asyncio.sleep(min(10.0, 0.25 * 2**tries))
            continue
        if not fault:
            piece.partial.replace(piece.target)
            return
        report(piece.file.path, -piece.had)
        piece.partial.unlink(missing_ok=True)
        if spoilt:
            raise Stop(
                f"{piece.file.path} of {piece.entry.name} arrived twice, and {fault}. Try another hub."
            )
        spoilt = True  # once may be a partial file of another kind; from the start it must be right


async def _receive(hub: Hub, piece: Piece, report: Report) -> str:
    """Goes on with a file; says what is wrong with it when all has come."""
    digest = _digest(piece.file)
    with piece.partial.open("ab+") as file:
        have = file.tell()
        if have > piece.file.size > 0:
            have = 0
            file.truncate(0)
        if have:
            await asyncio.to_thread(_feed, file, digest)
        if have < piece.file.size or not have:
            async with hub.bytes(piece.entry, piece.manifest.revision, piece.file.path, have) as (
                start,
                coming,
            ):
                if start != have:
                    report(piece.file.path, start - have)
                    file.truncate(start)
                    digest = _digest(piece.file)
                async for data in coming:
                    digest.update(data)
                    file.write(data)
                    report(piece.file.path, len(data))
        size = file.tell()
    if size < piece.file.size:
        raise Interrupted("The connection ended too early.")
    wanted = piece.file.sha256 or piece.file.git
    if (piece.file.size and size != piece.file.size) or (wanted and digest.hexdigest() != wanted):
        return "its checksum is another than the source tells"
    if piece.target.suffix == ".safetensors" and (fault := fault_of_safetensors(piece.partial)):
        return f"it {fault}"
    return ""


def _digest(file: ManifestFile) -> Any:
    if file.git and not file.sha256:
        return hashlib.sha1(b"blob %d\0" % file.size, usedforsecurity=False)
    return hashlib.sha256()


def _feed(file: IO[bytes], digest: Any) -> None:
    file.seek(0)
    while data := file.read(_PIECE):
        digest.update(data)
    file.seek(0, os.SEEK_END)
