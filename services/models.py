"""The catalogue of models: in goes a name from a request, out goes the model that a service loaded for it.

`models.yaml` beside this file (and beside an extension's `service.py`, in the models' folder, and where
DARKROOM_MODELS_FILE says) names each model's engine, origin, pinned revision, files with checksums, licence, defaults
and the names by which other dialects know it. A service marks what it loaded, and what it can load when it is asked
for; `auto` is the loaded model of the highest rank. Nothing is downloaded here.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from services.errors import Unavailable, UnknownModel
from services.models_disk import Manifest, ManifestFile, Shelf

CATALOGUE = Path(__file__).with_name("models.yaml")
AUTO = "auto"
LORAS = "loras"  # the folder in the models' folder

EntryKind = Literal["model", "lora", "part"]


class ModelFile(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    path: str
    sha256: str = Field(pattern="^[0-9a-f]{64}$")
    size: int = Field(0, ge=0, description="In bytes.")


class NetInput(BaseModel):
    """How a net of pictures takes its pixels, and what it gives."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    side: int = Field(ge=16, le=4096, description="Its input's height and width.")
    mean: tuple[float, float, float] = Field(
        description="Of red, green and blue from 0 to 1; it is subtracted."
    )
    std: tuple[float, float, float] = Field(description="What they are divided by after that.")
    peak: Literal["255", "brightest"] = Field(
        "255", description="What stands for 1: 255, or the picture's brightest value."
    )
    gives: Literal["alpha", "logits", "levels"] = Field(
        "alpha", description="alpha from 0 to 1; logits before a sigmoid; levels to be stretched from 0 to 1."
    )


class ModelEntry(BaseModel):
    """One model of the catalogue."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    service: str
    also_for: tuple[str, ...] = Field((), description="Other services that load it too.")
    engine: str = Field(description="The code that runs it.")
    kind: EntryKind = Field(
        "model",
        description="A model can be asked for by name; a lora is added to one; a part is what others share.",
    )
    family: str = Field("", description="What its networks are: sdxl, sdxl-refiner or sd.")
    licence: str
    summary: str = ""
    source: str = Field(
        "", description="The repository that its files come from; empty where there are none."
    )
    revision: str = Field(
        "",
        pattern="^([0-9a-f]{40})?$",
        description="The pinned commit of the source. Where the catalogue cannot know it, the first `pull` notes the "
        "commit in a lock file beside the files, and it is pinned from then on.",
    )
    gated: bool = Field(False, description="Its source asks for a token and for consent to its licence.")
    files: tuple[ModelFile, ...] = ()
    wanted: tuple[str, ...] = Field(
        (), description="Patterns of the source's files, where it is the source that knows their checksums."
    )
    folder: str = Field(
        "", description="Where its files are, if not in the models' folder; beside the catalogue's own file."
    )
    single_file: str = Field(
        "", description="One file with all its networks: safetensors, whose form `base` tells, or ONNX."
    )
    subfolder: str = Field("", description="Where in its folder the part itself is.")
    base: str = Field("", description="The model whose parts it has, but for its own.")
    weights: dict[str, str] = Field(
        default_factory=dict, description="Parts that it has as one file each: `unet: file.safetensors`."
    )
    parts: dict[str, str] = Field(
        default_factory=dict,
        description="Parts that are entries of their own: vae, safety, ip-adapter, controlnet-canny ...",
    )
    scheduler: dict[str, Any] = Field(
        default_factory=dict,
        description="What of its noise schedule differs from its folder's, or its base's.",
    )
    defaults: dict[str, Any] = Field(default_factory=dict)
    takes: NetInput | None = Field(None, description="How it takes pixels, where it is a single net.")
    memory_mb: int = Field(
        0, ge=0, description="Memory it needs beside the pictures, in half precision where it has a choice."
    )
    aliases: tuple[str, ...] = ()
    rank: int = Field(0, description="`auto` takes the loaded one of the highest rank.")

    def belongs_to(self, service: str) -> bool:
        return service == self.service or service in self.also_for

    @property
    def fetched(self) -> bool:
        """Its files come from a source."""
        return bool(self.source)


# what a model cannot do without; the other parts are loaded when a request needs them
NEEDED_PARTS = ("vae", "safety", "blip", "image-encoder")


class Models:
    """One service's part of the catalogue, which of it is loaded, and which can be."""

    def __init__(self, service: str, entries: list[ModelEntry], folder: Path = Path("models")) -> None:
        self.service = service
        self.folder = folder
        self.shelf = Shelf(folder)
        self._all = {entry.name: entry for entry in entries}
        self._entries = {entry.name: entry for entry in entries if entry.belongs_to(service)}
        self._aliases = {alias: entry.name for entry in self._entries.values() for alias in entry.aliases}
        self._loaded: set[str] = set()
        self._offered: set[str] = set()

    def __iter__(self) -> Iterator[ModelEntry]:
        return iter(list(self._entries.values()))

    def __getitem__(self, name: str) -> ModelEntry:
        """The entry of that name or alias."""
        entry = self._entries.get(self._aliases.get(name, name))
        if entry is None:
            raise UnknownModel(f"There is no model {name!r} for this. {self._names()}", field="model")
        return entry

    def entry(self, name: str) -> ModelEntry:
        """Any entry of the catalogue, another service's too: what a model's parts name."""
        found = self._all.get(name)
        if found is None:
            raise Unavailable(
                f"The catalogue has no entry {name!r}, which a model names as its part.",
                help="Correct the name in the models.yaml that has it.",
            )
        return found

    # ── what can be asked for ───────────────────────────────────────────────────────────────────────────────

    def loaded(self, name: str) -> None:
        """Marks a model as ready to be asked for."""
        self._loaded.add(self[name].name)

    def unloaded(self, name: str) -> None:
        """Marks a model as gone from memory."""
        self._loaded.discard(self[name].name)

    def offered(self, name: str) -> None:
        """Marks a model as one that is loaded when it is asked for."""
        self._offered.add(self[name].name)

    def is_loaded(self, name: str) -> bool:
        return name in self._loaded

    def is_offered(self, name: str) -> bool:
        return name in self._loaded or name in self._offered

    def resolve(self, name: str) -> str:
        """The model that `name` stands for, loaded or offered."""
        if name == AUTO:
            return self.best()
        entry = self[name]
        if entry.kind != "model":
            raise UnknownModel(
                f"{entry.name!r} is a {entry.kind}, not a model. {self._names()}", field="model"
            )
        if not self.is_offered(entry.name):
            raise UnknownModel(
                f"The model {entry.name!r} is not loaded here. {self._names()}",
                field="model",
                help=f"`darkroom models pull {entry.name}` fetches it for the next start; or ask for `auto`.",
            )
        return entry.name

    def best(self) -> str:
        """What `auto` is; a service without models of its own is itself the answer."""
        all_models = [entry for entry in self if entry.kind == "model"]
        ready = [entry for entry in all_models if entry.name in self._loaded] or [
            entry for entry in all_models if entry.name in self._offered
        ]
        return max(ready, key=lambda entry: entry.rank).name if ready else self.service

    def loras(self) -> list[ModelEntry]:
        """The catalogue's, and the files that somebody put into `models/loras/`; the catalogue's names go first."""
        named = [entry for entry in self if entry.kind == "lora"]
        taken = {name for entry in named for name in (entry.name, *entry.aliases)}
        return [*named, *(one for one in loras_in(self.folder, self.service) if one.name not in taken)]

    # ── files ───────────────────────────────────────────────────────────────────────────────────────────────

    def path(self, name: str, file: str) -> Path:
        """A model's file, checked against the catalogue; read as a whole only when it has changed."""
        entry = self[name]
        wanted = next(f for f in entry.files if f.path == file)
        listed = Manifest(
            entry.source, entry.revision, [ManifestFile(wanted.path, wanted.size, sha256=wanted.sha256)]
        )
        self.shelf.check(entry.name, self.place(entry), listed)
        return self.place(entry) / file

    def place(self, entry: ModelEntry) -> Path:
        """The folder with its files."""
        return Path(entry.folder) if entry.folder else self.folder / entry.name

    def present(self, entry: ModelEntry) -> bool:
        """Whether its own files are on this disk, by a quick look."""
        place = self.place(entry)
        own = [*entry.weights.values(), *([entry.single_file] if entry.single_file else [])]
        if own and not entry.fetched:
            return all((place / file).is_file() for file in own)
        return self.shelf.present(place)

    def describe(self) -> list[dict[str, Any]]:
        """For `describe` and /v1/models."""
        shown = {
            "name",
            "engine",
            "kind",
            "family",
            "licence",
            "summary",
            "source",
            "revision",
            "memory_mb",
            "aliases",
            "defaults",
            "rank",
        }
        models = [entry for entry in self if entry.kind == "model"]
        diffusion = any(entry.engine == "diffusers" for entry in models)
        return [
            entry.model_dump(mode="json", include=shown)
            | {"loaded": self.is_loaded(entry.name), "available": self.is_available(entry)}
            for entry in [*models, *(self.loras() if diffusion else [])]
        ]

    def is_available(self, entry: ModelEntry) -> bool:
        """Whether it can be asked for now: a model that was offered, a LoRA whose file is here."""
        if entry.kind == "lora":
            return (self.place(entry) / entry.single_file).is_file()
        return self.is_offered(entry.name)

    def _names(self) -> str:
        loaded = sorted(name for name in self._loaded if self._entries[name].kind == "model")
        names = f"Loaded are: {', '.join(loaded) or 'none'}."
        more = sorted(self._offered - self._loaded)
        return f"{names} On disk: {', '.join(more)}." if more else names


def read_catalogue(*paths: Path) -> list[ModelEntry]:
    """The entries of our catalogue and of `paths`; a fault in one stops the start and says where it is."""
    entries: dict[str, ModelEntry] = {}
    for path in (CATALOGUE, *paths):
        try:
            listed = yaml.safe_load(path.read_text()) or {}
        except (OSError, yaml.YAMLError) as error:
            raise SystemExit(f"{path}: this catalogue of models cannot be read: {error}") from error
        if not isinstance(listed, dict):
            raise SystemExit(f"{path}: a catalogue of models is a mapping from names to what they are.")
        for name, fields in listed.items():
            try:
                entries[name] = _placed(ModelEntry(name=name, **fields), path.parent)
            except (ValidationError, TypeError) as error:
                raise SystemExit(
                    f"{path}: the model {name!r} is not described as it must be: {error}"
                ) from error
    return list(entries.values())


def loras_in(folder: Path, service: str) -> list[ModelEntry]:
    """An entry for each safetensors file in the models' folder `loras`."""
    return [
        ModelEntry(
            name=path.stem,
            service=service,
            engine="lora",
            kind="lora",
            licence="its owner's",
            summary=f"The file {path.name} in {LORAS}/.",
            folder=str(path.parent),
            single_file=path.name,
        )
        for path in sorted((folder / LORAS).glob("*.safetensors"))
    ]


def own_catalogues(folder: Path) -> list[Path]:
    """Catalogues of one's own: the file that DARKROOM_MODELS_FILE names, and `models.yaml` in the models' folder."""
    named = os.environ.get("DARKROOM_MODELS_FILE", "")
    if named and not Path(named).is_file():
        raise SystemExit(f"DARKROOM_MODELS_FILE names {named}, which is not there.")
    beside = folder / "models.yaml"
    return [*([beside] if beside.is_file() else []), *([Path(named)] if named else [])]


def _placed(entry: ModelEntry, beside: Path) -> ModelEntry:
    """Its folder as a path from here."""
    if not entry.folder:
        return entry
    return entry.model_copy(update={"folder": str(beside / Path(entry.folder).expanduser())})
