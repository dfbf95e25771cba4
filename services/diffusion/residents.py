"""The models in memory: in goes a name, out comes the model, loaded if it was not.

They share a budget. Where the next one does not fit, the one that was not used for longest leaves, but never one in
use. Two that ask for the same model wait for one load; a load that failed is told to all who waited for it, and the
next who asks tries anew.
"""

from __future__ import annotations

import gc
import logging
import threading
import time
from collections.abc import Collection
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from services.diffusion import loader, safety
from services.diffusion.adapters import Switchboard
from services.diffusion.checkpoint import Checkpoint
from services.diffusion.devices import GB, Plan
from services.diffusion.loras import Library
from services.errors import BadInput, OutOfMemory, Unavailable
from services.models import NEEDED_PARTS, ModelEntry, Models

_log = logging.getLogger("darkroom.models")
CONTROLNET = "controlnet-"  # before a net's name among a model's parts


@dataclass(slots=True, eq=False)
class Resident:
    """A model in memory. Whoever claimed it gives it back with `release`."""

    name: str
    checkpoint: Checkpoint
    switchboard: Switchboard
    size: int = 0  # bytes, counted from its parameters
    users: int = 0
    used_at: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)  # held while a part is loaded into it


class Residents:
    def __init__(self, models: Models, plan: Plan, *, safety: str = "auto", patience: float = 20.0) -> None:
        """`patience` is how many seconds a claim waits for memory that others use."""
        self._models, self._plan, self._safety, self._patience = models, plan, safety, patience
        self._held: dict[str, Resident] = {}
        self._coming: dict[str, Future[Resident]] = {}
        self._expected: dict[str, int] = {}  # bytes that loads under way will take
        self._ticks = 0
        self._changed = threading.Condition()

    # ── the way in and out ──────────────────────────────────────────────────────────────────────────────────

    def claim(self, name: str, nets: Collection[str] = ()) -> Resident:
        """The model of that name, with these ControlNets. It blocks while it loads: not for the engine's thread."""
        entry = self._models[name]
        resident = self._get(entry)
        try:
            for net in nets:
                self._with_net(resident, entry, net)
        except BaseException:
            self.release(resident)
            raise
        return resident

    def release(self, resident: Resident) -> None:
        with self._changed:
            resident.users -= 1
            self._changed.notify_all()

    @property
    def names(self) -> list[str]:
        """What is in memory, the last used first."""
        with self._changed:
            held = sorted(self._held.values(), key=lambda one: -one.used_at)
            return [one.name for one in held]

    @property
    def size(self) -> int:
        """Bytes that the models in memory take."""
        with self._changed:
            return sum(one.size for one in self._held.values())

    def close(self) -> None:
        """Lets go of all that nobody uses."""
        with self._changed:
            for one in [one for one in self._held.values() if not one.users]:
                self._drop(one)
        _give_back()

    def _get(self, entry: ModelEntry) -> Resident:
        with self._changed:
            found = self._held.get(entry.name)
            if found is not None:
                return self._take(found)
            coming = self._coming.get(entry.name)
            if coming is None:
                coming, mine = self._coming.setdefault(entry.name, Future()), True
            else:
                mine = False
        if mine:
            self._load(entry, coming)
        resident = coming.result()  # raises what the load raised
        with self._changed:
            if self._held.get(entry.name) is resident:
                return self._take(resident)
        return self._get(entry)  # it had to leave again before we could take it

    def _take(self, resident: Resident) -> Resident:
        self._ticks += 1
        resident.used_at = self._ticks
        resident.users += 1
        return resident

    # ── loading ─────────────────────────────────────────────────────────────────────────────────────────────

    def _load(self, entry: ModelEntry, coming: Future[Resident]) -> None:
        started = time.perf_counter()
        try:
            self._make_room(entry.name, self._estimate(entry))
            resident = self._read(entry)
        except BaseException as error:  # noqa: BLE001 - it is raised in every thread that waits for this load
            with self._changed:
                del self._coming[entry.name]
                self._expected.pop(entry.name, None)
                self._changed.notify_all()
            coming.set_exception(error)
            return
        with self._changed:
            del self._coming[entry.name]
            self._expected.pop(entry.name, None)
            self._held[entry.name] = resident
            self._ticks += 1
            resident.used_at = self._ticks
            self._shrink(0, but=entry.name)
            self._changed.notify_all()
        self._models.loaded(entry.name)
        coming.set_result(resident)
        seconds = round(time.perf_counter() - started, 2)
        _log.info(
            "loaded", extra={"model": entry.name, "seconds": seconds, "megabytes": resident.size // 2**20}
        )

    def _read(self, entry: ModelEntry) -> Resident:
        plan, models = self._plan, self._models
        checkpoint = loader.load(models, entry.name, plan)
        if safety.wanted(self._safety, micro=not entry.fetched and not entry.parts.get("safety")):
            folder = loader.part_folder(models, entry.parts.get("safety", safety.MODEL))
            checkpoint.safety = safety.load_safety(folder, plan.device, plan.dtype)
        switchboard = Switchboard(
            checkpoint,
            Library(models),
            keep=plan.loras,
            reference=self._reference(entry),
            image_encoder=self._eye(entry),
            sequential=plan.offload == "sequential",
        )
        resident = Resident(entry.name, checkpoint, switchboard)
        if not entry.fetched:  # what comes with the package is small, and ready at once
            for part in entry.parts:
                if part.startswith(CONTROLNET):
                    self._with_net(resident, entry, part.removeprefix(CONTROLNET))
        resident.size = loader.size_of_checkpoint(checkpoint)
        return resident

    def _with_net(self, resident: Resident, entry: ModelEntry, net: str) -> None:
        """Loads a ControlNet beside the model, once."""
        with resident.lock:
            if net in resident.checkpoint.controlnets:
                return
            part = entry.parts.get(CONTROLNET + net)
            if part is None:
                nets = [name.removeprefix(CONTROLNET) for name in entry.parts if name.startswith(CONTROLNET)]
                raise BadInput(
                    f"The model {entry.name!r} has no ControlNet for {net!r}; it has {', '.join(nets) or 'none'}.",
                    field="controls",
                    help="Ask for a model that has one: GET /v1/models lists them.",
                )
            made = loader.controlnet(self._models, part, self._plan)
            resident.checkpoint.controlnets[net] = made
        with self._changed:
            resident.size += loader.size_of(made)
            self._shrink(0, but=entry.name)

    def _reference(self, entry: ModelEntry) -> Any:
        """Finds the IP-Adapter's file when it is first asked for."""
        part = entry.parts.get("ip-adapter")
        return None if part is None else lambda: _adapter_file(self._models, part)

    def _eye(self, entry: ModelEntry) -> Any:
        """Loads the IP-Adapter's image encoder when it is first asked for."""
        part = entry.parts.get("ip-adapter")
        return None if part is None else lambda: self._load_eye(entry.name, part)

    def _load_eye(self, name: str, part: str) -> Any:
        entry = self._models.entry(part)
        named = entry.parts.get("image-encoder")
        if named is not None:
            folder = loader.part_folder(self._models, named)
        else:
            folder = self._models.place(entry) / "image_encoder"
        made = loader.image_encoder(folder, self._plan)
        with self._changed:
            if (resident := self._held.get(name)) is not None:
                resident.size += loader.size_of(made)
                self._shrink(0, but=name)
        return made

    # ── room ────────────────────────────────────────────────────────────────────────────────────────────────

    def _estimate(self, entry: ModelEntry) -> int:
        """What a model will take, before it is read: its declaration, or its files."""
        if entry.memory_mb:
            doubled = entry.fetched and self._plan.dtype == torch.float32
            return entry.memory_mb * 2**20 * (2 if doubled else 1)
        place = self._models.place(entry)
        return sum(path.stat().st_size for path in place.rglob("*.safetensors")) if place.is_dir() else 0

    def _make_room(self, name: str, wanted: int) -> None:
        """Waits until a load of so many bytes fits, or there is nothing more that could leave."""
        end = time.monotonic() + self._patience
        with self._changed:
            while not self._shrink(wanted):
                left = end - time.monotonic()
                if left <= 0:
                    in_use = ", ".join(sorted(one.name for one in self._held.values() if one.users))
                    raise OutOfMemory(
                        f"The model {name!r} needs {wanted / GB:.1f} GB, and the models in use "
                        f"({in_use or 'still being loaded'}) leave no room in {self._plan.budget / GB:.1f} GB.",
                        retry_after=5,
                        help="Try again when they are done; DARKROOM_MEMORY_MB is what all models may take.",
                    )
                self._changed.wait(left)
            self._expected[name] = wanted

    def _shrink(self, wanted: int, but: str = "") -> bool:
        """Lets idle models go until `wanted` bytes more fit. One model alone may be larger than the budget."""
        while (
            sum(one.size for one in self._held.values()) + sum(self._expected.values()) + wanted
            > self._plan.budget
        ):
            idle = [one for one in self._held.values() if not one.users and one.name != but]
            if not idle:
                others = [one for one in self._held.values() if one.name != but]
                if wanted and not others and not self._expected:
                    _log.warning("A model is larger than DARKROOM_MEMORY_MB allows; it is tried alone.")
                    return True
                return not wanted
            self._drop(min(idle, key=lambda one: one.used_at))
            _give_back()
        return True

    def _drop(self, resident: Resident) -> None:
        del self._held[resident.name]
        self._models.unloaded(resident.name)
        _log.info("unloaded", extra={"model": resident.name, "megabytes": resident.size // 2**20})


def _give_back() -> None:
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    elif torch.backends.mps.is_available():
        torch.mps.empty_cache()


def _adapter_file(models: Models, part: str) -> Path:
    """The IP-Adapter's own file, checked."""
    entry = models.entry(part)
    place = loader.part_folder(models, part)
    named = entry.weights.get("adapter")
    files = [place / named] if named else sorted(place.glob("*.safetensors"))
    if not files or not files[0].is_file():
        raise Unavailable(
            f"{files[0] if files else place / 'ip-adapter.safetensors'} is missing.",
            help=f"`darkroom models pull {part}` fetches it.",
        )
    return files[0]


def missing(models: Models, entry: ModelEntry, *, safety: str = "auto") -> list[str]:
    """The entries that a model needs and whose files are not on this disk, itself included."""
    found: list[str] = []
    if not models.present(entry):
        found.append(entry.name)
    if entry.base:
        found += missing(models, models.entry(entry.base), safety=safety)
    for part in NEEDED_PARTS:
        name = entry.parts.get(part)
        if name and not (part == "safety" and safety == "off") and not models.present(models.entry(name)):
            found.append(name)
    return list(dict.fromkeys(found))


def offer(models: Models, *, safety: str = "auto") -> list[str]:
    """Marks every model whose files are on this disk as one that can be asked for; says which."""
    found = [
        entry.name
        for entry in models
        if entry.kind == "model" and entry.engine == "diffusers" and not missing(models, entry, safety=safety)
    ]
    for name in found:
        models.offered(name)
    return found


def first(models: Models, wanted: str = "auto") -> str:
    """The model to load at the start."""
    return models.resolve(wanted)
