"""The catalogue and the models' folder as the command sees them: which entries go together, and what they take."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from gateway.cli.console import USAGE, Stop
from services.models import NEEDED_PARTS, ModelEntry, loras_in, own_catalogues, read_catalogue
from services.models_disk import Manifest, Shelf, size_of
from services.operations import extensions
from services.settings import HubSettings


@dataclass(slots=True)
class Catalogue:
    """Every entry, of every service, and the folder in which what was fetched lies."""

    entries: dict[str, ModelEntry]
    folder: Path
    shelf: Shelf

    def __getitem__(self, name: str) -> ModelEntry:
        for entry in self.entries.values():
            if name == entry.name or name in entry.aliases:
                return entry
        raise Stop(f"There is no model {name!r}. `darkroom models list` shows all there are.", USAGE)

    def place(self, entry: ModelEntry) -> Path:
        return Path(entry.folder) if entry.folder else self.folder / entry.name

    def of_service(self, service: str) -> list[ModelEntry]:
        found = [entry for entry in self.entries.values() if entry.belongs_to(service) and entry.fetched]
        if not found:
            with_models = sorted({entry.service for entry in self.entries.values() if entry.fetched})
            raise Stop(
                f"There is nothing to fetch for the service {service!r}; there is for {', '.join(with_models)}.",
                USAGE,
            )
        return found

    def together(self, entries: Iterable[ModelEntry], *, all_parts: bool = False) -> list[ModelEntry]:
        """These and what they cannot do without, or with all their parts; each once."""
        found: dict[str, ModelEntry] = {}
        waiting = list(entries)
        while waiting:
            entry = waiting.pop(0)
            if entry.name in found:
                continue
            found[entry.name] = entry
            wanted = [name for part, name in entry.parts.items() if all_parts or part in NEEDED_PARTS]
            waiting += [self[name] for name in ([entry.base] if entry.base else []) + wanted]
        return list(found.values())

    def present(self, entry: ModelEntry) -> bool:
        """Whether its files are all here; arithmetic is always."""
        if not entry.folder and not entry.fetched:
            return True
        return self.shelf.present(self.place(entry))

    def on_disk(self) -> list[ModelEntry]:
        """Of what is fetched, all that has a folder here, whole or not."""
        return [entry for entry in self.entries.values() if entry.fetched and self.place(entry).is_dir()]

    def size(self, entry: ModelEntry) -> int:
        place = self.place(entry)
        return size_of(place) if entry.fetched and place.is_dir() else 0

    def needed_by(self, entry: ModelEntry, *, all_parts: bool = False) -> list[str]:
        """What on this disk cannot do without it, or, with `all_parts`, has a use for it."""
        return [
            other.name
            for other in self.on_disk()
            if other.name != entry.name
            and any(one.name == entry.name for one in self.together([other], all_parts=all_parts))
        ]

    def copies(self) -> dict[str, Path]:
        """Files that are here already, by their SHA-256, so that no two models fetch or store the same one."""
        found: dict[str, Path] = {}
        for entry in self.on_disk():
            place = self.place(entry)
            for file in (Manifest.read(place) or Manifest("", "")).files:
                path = place / file.path
                if file.sha256 and path.is_file() and path.stat().st_size == file.size:
                    found[file.sha256] = path
        return found


def catalogue(settings: HubSettings) -> Catalogue:
    specs = [importlib.util.find_spec(package) for package in extensions()]
    folders = [Path(folder) for spec in specs if spec for folder in spec.submodule_search_locations or []]
    paths = [path for folder in folders if (path := folder / "models.yaml").is_file()]
    entries = read_catalogue(*paths, *own_catalogues(settings.models_path))
    named = {entry.name for entry in entries}
    entries += [one for one in loras_in(settings.models_path, "sdxl") if one.name not in named]
    return Catalogue(
        {entry.name: entry for entry in entries}, settings.models_path, Shelf(settings.models_path)
    )


def written(size: float) -> str:
    """Bytes as a person reads them."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "bytes" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"
