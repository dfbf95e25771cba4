"""The catalogue of models: in goes a name from a request, out goes the model that a service loaded for it.

`models.yaml` beside this file (and beside an extension's `service.py`) names each model's engine, origin,
pinned revision, files with checksums, licence, defaults and the names by which other dialects know it. A
service marks what it loaded; `auto` is the loaded model of the highest rank. Nothing is downloaded here.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from services.errors import Unavailable, UnknownModel

CATALOGUE = Path(__file__).with_name("models.yaml")
AUTO = "auto"


class ModelFile(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    path: str
    sha256: str = Field(pattern="^[0-9a-f]{64}$")
    size: int = Field(0, ge=0, description="In bytes.")


class ModelEntry(BaseModel):
    """One model of the catalogue."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    service: str
    engine: str = Field(description="The code that runs it.")
    licence: str
    summary: str = ""
    source: str = Field(
        "", description="The repository that its files come from; empty where there are none."
    )
    revision: str = Field("", description="The pinned revision of the source.")
    files: tuple[ModelFile, ...] = ()
    defaults: dict[str, Any] = Field(default_factory=dict)
    memory_mb: int = Field(0, ge=0, description="Memory it needs beside the pictures.")
    aliases: tuple[str, ...] = ()
    rank: int = Field(0, description="`auto` takes the loaded one of the highest rank.")


class Models:
    """One service's part of the catalogue, and which of it is loaded."""

    def __init__(self, service: str, entries: list[ModelEntry], folder: Path = Path("models")) -> None:
        self.service = service
        self.folder = folder
        self._entries = {entry.name: entry for entry in entries if entry.service == service}
        self._aliases = {alias: entry.name for entry in self._entries.values() for alias in entry.aliases}
        self._loaded: set[str] = set()

    def __iter__(self) -> Iterator[ModelEntry]:
        return iter(self._entries.values())

    def __getitem__(self, name: str) -> ModelEntry:
        """The entry of that name or alias."""
        entry = self._entries.get(self._aliases.get(name, name))
        if entry is None:
            raise UnknownModel(
                f"There is no model {name!r} for {self.service}. {self._names()}", field="model"
            )
        return entry

    def loaded(self, name: str) -> None:
        """Marks a model as ready to be asked for."""
        self._loaded.add(self[name].name)

    def is_loaded(self, name: str) -> bool:
        return name in self._loaded

    def resolve(self, name: str) -> str:
        """The loaded model that `name` stands for."""
        if name == AUTO:
            return self.best()
        entry = self[name]
        if entry.name not in self._loaded:
            raise UnknownModel(
                f"The model {entry.name!r} is not loaded here. {self._names()}",
                field="model",
                help=f"`darkroom models pull {entry.name}` fetches it for the next start; or ask for `auto`.",
            )
        return entry.name

    def best(self) -> str:
        """What `auto` is; a service without models of its own is itself the answer."""
        loaded = [entry for entry in self if entry.name in self._loaded]
        return max(loaded, key=lambda entry: entry.rank).name if loaded else self.service

    def path(self, name: str, file: str) -> Path:
        """A model's file, checked against the catalogue."""
        entry = self[name]
        wanted = next(f for f in entry.files if f.path == file)
        path = self.folder / entry.name / file
        if not path.is_file():
            raise Unavailable(f"{path} is missing.", help=f"`darkroom models pull {entry.name}` fetches it.")
        with path.open("rb") as opened:
            digest = hashlib.file_digest(opened, "sha256").hexdigest()
        if digest != wanted.sha256:
            raise Unavailable(
                f"{path} is not the file that the catalogue names: its checksum is another.",
                help=f"Delete it; `darkroom models pull {entry.name}` fetches it anew.",
            )
        return path

    def describe(self) -> list[dict[str, Any]]:
        """For `describe` and /v1/models."""
        shown = {
            "name",
            "engine",
            "licence",
            "summary",
            "source",
            "revision",
            "memory_mb",
            "aliases",
            "defaults",
        }
        return [
            entry.model_dump(mode="json", include=shown) | {"loaded": self.is_loaded(entry.name)}
            for entry in self
        ]

    def _names(self) -> str:
        return f"Loaded are: {', '.join(sorted(self._loaded)) or 'none'}."


def read_catalogue(*paths: Path) -> list[ModelEntry]:
    """The entries of our catalogue and of `paths`; a fault in one stops the start and says where it is."""
    entries: list[ModelEntry] = []
    for path in (CATALOGUE, *paths):
        listed = yaml.safe_load(path.read_text()) or {}
        for name, fields in listed.items():
            try:
                entries.append(ModelEntry(name=name, **fields))
            except (ValidationError, TypeError) as error:
                raise SystemExit(
                    f"{path}: the model {name!r} is not described as it must be: {error}"
                ) from error
    return entries
