"""What is on disk of a model: in go a folder and its manifest, out comes whether its files are whole.

`darkroom models pull` leaves `darkroom.lock.json` beside the files: the source, the commit, and each file's size and
checksum as the source told them. A file is read as a whole once; then a stamp (size and time of change) in
`darkroom.stamps.json` says that it is still the one, so that a start does not read gigabytes. The form of a
safetensors file, which tells one that was cut short, costs only its head.
"""

from __future__ import annotations

import hashlib
import json
import os
import struct
import tempfile
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from services.errors import Unavailable

LOCK = "darkroom.lock.json"
STAMPS = "darkroom.stamps.json"
PARTIAL = ".partial"
WEIGHTS = (".safetensors", ".onnx")  # without a manifest, these make a folder a model's
MAX_HEAD = 100 * 2**20  # the format's own bound on a safetensors file's head
_PIECE = 4 * 2**20

Watch = Callable[[str, int], None]  # called with a file's path and the bytes read of it since the last call


@dataclass(frozen=True, slots=True)
class ManifestFile:
    """A file as its source tells of it: large ones by SHA-256, small ones by git's own SHA-1 of a blob."""

    path: str
    size: int = 0
    sha256: str = ""
    git: str = ""


@dataclass(slots=True)
class Manifest:
    source: str
    revision: str
    files: list[ManifestFile] = field(default_factory=list)

    @property
    def size(self) -> int:
        return sum(file.size for file in self.files)

    def write(self, folder: Path) -> None:
        shown = {
            "source": self.source,
            "revision": self.revision,
            "files": [
                {name: value for name in file.__slots__ if (value := getattr(file, name))}
                for file in self.files
            ],
        }
        write_whole(folder / LOCK, json.dumps(shown, indent=1).encode())

    @classmethod
    def read(cls, folder: Path) -> Manifest | None:
        """The manifest beside a model's files; None where there is none."""
        path = folder / LOCK
        try:
            shown = json.loads(path.read_text())
            return cls(shown["source"], shown["revision"], [ManifestFile(**file) for file in shown["files"]])
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError) as error:
            raise Unavailable(
                f"{path} is damaged: {error}.", help="Delete it, and run `darkroom models pull` again."
            ) from error


@dataclass(frozen=True, slots=True)
class Fault:
    """What is wrong with a file."""

    path: Path
    what: str

    def __str__(self) -> str:
        return f"{self.path} {self.what}"


class Shelf:
    """The models' folder. Stamps that cannot be written (a volume to read only) are kept in memory."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._stamps: dict[Path, dict[str, list[int]]] = {}

    def check(self, name: str, folder: Path, manifest: Manifest | None = None) -> None:
        """Raises Unavailable with the file at fault and the command that fetches it."""
        faults = self.faults(folder, manifest or Manifest.read(folder))
        if faults:
            raise Unavailable(
                f"{faults[0]}.",
                help=f"`darkroom models pull {name}` fetches what is missing or damaged.",
            )

    def faults(
        self,
        folder: Path,
        manifest: Manifest | None,
        *,
        anew: bool = False,
        watch: Watch = lambda _path, _bytes: None,
    ) -> list[Fault]:
        """What is wrong with the files of one model; `anew` reads them all, whatever their stamps say."""
        if manifest is None:
            return list(faults_of_form(folder))
        stamps = self._read_stamps(folder)
        found: list[Fault] = []
        for file in manifest.files:
            path = folder / safe(file.path)
            try:
                status = path.stat()
            except OSError:
                found.append(Fault(path, "is missing"))
                continue
            stamp = [status.st_size, status.st_mtime_ns]
            if not anew and stamps.get(file.path) == stamp:
                continue
            fault = differs(path, file, watch)
            if fault:
                stamps.pop(file.path, None)
                found.append(Fault(path, fault))
            else:
                stamps[file.path] = stamp
        self._write_stamps(folder, stamps)
        return found

    def stamp(self, folder: Path, file: ManifestFile) -> None:
        """Notes that a file was just read as a whole, and is the one."""
        status = (folder / safe(file.path)).stat()
        self._write_stamps(
            folder, self._read_stamps(folder) | {file.path: [status.st_size, status.st_mtime_ns]}
        )

    def present(self, folder: Path, manifest: Manifest | None = None) -> bool:
        """Whether all files are there in their size: a quick look, before anything is opened."""
        listed = manifest or Manifest.read(folder)
        if listed is None:
            return folder.is_dir() and any(path.suffix in WEIGHTS for path in folder.rglob("*"))
        return all(
            (path := folder / safe(file.path)).is_file()
            and (not file.size or path.stat().st_size == file.size)
            for file in listed.files
        )

    def _read_stamps(self, folder: Path) -> dict[str, list[int]]:
        if folder not in self._stamps:
            found: dict[str, list[int]] = {}
            with suppress(OSError, ValueError):
                read = json.loads((folder / STAMPS).read_text())
                found = read if isinstance(read, dict) else {}
            self._stamps[folder] = found
        return dict(self._stamps[folder])

    def _write_stamps(self, folder: Path, stamps: dict[str, list[int]]) -> None:
        if self._stamps.get(folder) == stamps:
            return
        self._stamps[folder] = stamps
        with suppress(OSError):
            write_whole(folder / STAMPS, json.dumps(stamps).encode())


def differs(path: Path, file: ManifestFile, watch: Watch = lambda _path, _bytes: None) -> str:
    """How a file differs from what its source told; empty where it does not. Reads all of it."""
    size = path.stat().st_size
    if file.size and size != file.size:
        return f"has {size:,} bytes of {file.size:,}: it was cut short or changed"
    if file.sha256 or file.git:
        digest = hashlib.sha256() if file.sha256 else hashlib.sha1(b"blob %d\0" % size, usedforsecurity=False)
        with path.open("rb") as opened:
            while piece := opened.read(_PIECE):
                digest.update(piece)
                watch(file.path, len(piece))
        if digest.hexdigest() != (file.sha256 or file.git):
            return "is not the file that the catalogue names: its checksum is another"
    return fault_of_safetensors(path) if path.suffix == ".safetensors" else ""


def faults_of_form(folder: Path) -> Iterable[Fault]:
    """For a folder without a manifest: what its own files tell of what is missing or cut short."""
    if not folder.is_dir():
        yield Fault(folder, "is missing")
        return
    weights = sorted(path for path in folder.rglob("*") if path.suffix in WEIGHTS)
    if not weights:
        yield Fault(folder, "has no safetensors or ONNX file")
    for path in weights:
        if path.suffix == ".safetensors" and (fault := fault_of_safetensors(path)):
            yield Fault(path, fault)
    index = folder / "model_index.json"
    if index.is_file():
        yield from _missing_parts(folder, index)


def _missing_parts(folder: Path, index: Path) -> Iterable[Fault]:
    try:
        listed: dict[str, Any] = json.loads(index.read_text())
    except ValueError:
        yield Fault(index, "is not JSON")
        return
    for part, kind in listed.items():
        named = isinstance(kind, list) and bool(kind) and kind[0] is not None
        if named and not part.startswith("_") and not (folder / part).is_dir():
            yield Fault(folder / part, "is missing")


def fault_of_safetensors(path: Path) -> str:
    """What is wrong with a safetensors file's form; empty where nothing is. Reads only its head."""
    try:
        read_head(path)
    except ValueError as error:
        return str(error)
    return ""


def read_head(path: Path, *, max_tensors: int = 1_000_000, max_head: int = MAX_HEAD) -> dict[str, Any]:
    """A safetensors file's head; ValueError says why it is none, or is cut short."""
    size = path.stat().st_size
    with path.open("rb") as opened:
        start = opened.read(8)
        if len(start) < 8:
            raise ValueError("is too short to be a safetensors file")
        (length,) = struct.unpack("<Q", start)
        if length > max_head:
            raise ValueError(f"is not a safetensors file, or one with a head of {length:,} bytes")
        if length > size - 8:
            raise ValueError("is not a whole safetensors file: its head goes past its end")
        try:
            head = json.loads(opened.read(length))
        except (ValueError, RecursionError) as error:
            raise ValueError("is not a safetensors file: its head is not JSON") from error
    if not isinstance(head, dict):
        raise ValueError("is not a safetensors file: its head names no tensors")  # noqa: TRY004 - one kind of fault
    if len(head) > max_tensors:
        raise ValueError(f"has {len(head):,} tensors; {max_tensors:,} are allowed")
    try:
        ends = [int(told["data_offsets"][1]) for name, told in head.items() if name != "__metadata__"]
    except (KeyError, TypeError, IndexError, ValueError) as error:
        raise ValueError("is not a safetensors file: its head does not say where a tensor is") from error
    if 8 + length + max(ends, default=0) > size:
        raise ValueError("was cut short: a tensor lies past its end")
    return head


def safe(path: str) -> PurePosixPath:
    """A file's path inside its model's folder; one that leads out of it is refused."""
    given = PurePosixPath(path)
    if given.is_absolute() or ".." in given.parts or not given.parts:
        raise Unavailable(f"{path!r} is not a path inside a model's folder.", help="Correct the catalogue.")
    return given


def write_whole(path: Path, data: bytes) -> None:
    """Writes all of it or nothing, whoever reads meanwhile."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as opened:
            opened.write(data)
        Path(temporary).chmod(0o644)
        Path(temporary).replace(path)
    except BaseException:
        with suppress(OSError):
            Path(temporary).unlink()
        raise


def size_of(folder: Path) -> int:
    """Bytes that a model's folder takes."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
