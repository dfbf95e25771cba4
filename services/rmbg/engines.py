"""The engines by their models' names: in goes the catalogue, out come those that can be asked for.

What is small is opened at the start, what is large when it is first asked for; where their memory is bounded, the one
that was used longest ago leaves. A file that is not the one of the catalogue stops the start.
"""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from pathlib import Path

from services.batching import Batcher
from services.models import ModelEntry, Models, read_catalogue
from services.onnx import open_net
from services.rmbg.engine import Engine, Step
from services.rmbg.grabcut import GrabCutEngine
from services.rmbg.nets import NetEngine
from services.settings import NetSettings

__all__ = ["Engine", "Engines", "Step", "engines"]

GRABCUT, NET = "grabcut", "onnx-matte"
AT_ONCE = 8  # pictures in one call of a net on a GPU
_log = logging.getLogger("darkroom.rmbg")


class Engines(Mapping[str, Engine]):
    """Engines by name. Those with a net are opened when they are looked up, and closed when there is no room."""

    def __init__(self, models: Models, settings: NetSettings, threads: int) -> None:
        self._models, self._settings, self._threads = models, settings, threads
        self._open: OrderedDict[str, Engine] = OrderedDict()
        self._lock = threading.RLock()
        self._entries: dict[str, ModelEntry] = {}
        for entry in models:
            if entry.kind != "model":
                continue
            if entry.engine == GRABCUT:
                self._open[entry.name] = GrabCutEngine()
                models.loaded(entry.name)
            elif entry.engine == NET and self._path(entry).is_file():
                self._check(entry)
                models.offered(entry.name)
            else:
                continue
            self._entries[entry.name] = entry
        for entry in self._entries.values():
            if entry.folder or entry.name == self.best():
                self[entry.name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def __getitem__(self, name: str) -> Engine:
        with self._lock:
            if name not in self._open:
                self._open[name] = self._opened(self._entries[name])
            self._open.move_to_end(name)
            return self._open[name]

    def best(self) -> str:
        """What `auto` is: the one of the highest rank, in memory or not."""
        return max(self._entries.values(), key=lambda entry: entry.rank).name

    def _opened(self, entry: ModelEntry) -> Engine:
        assert entry.takes is not None
        self._make_room(entry)
        net = open_net(self._path(entry), entry.name, self._threads, self._settings.device)
        self._models.loaded(entry.name)
        _log.info("%s is opened on %s. Its licence: %s", entry.name, net.device, entry.licence)
        engine = NetEngine(net, entry.takes, entry.name)
        if net.device != "cpu":  # on a processor a row in a batch costs what it costs alone (bench/photo.py)
            engine.ask = Batcher(engine.infer, AT_ONCE)
        return engine

    def _make_room(self, coming: ModelEntry) -> None:
        """Closes what was used longest ago; who still uses it finishes."""
        budget = self._settings.memory_mb
        closable = [
            name for name in self._open if self._entries[name].takes and not self._entries[name].folder
        ]
        used = sum(self._entries[name].memory_mb for name in self._open)
        while budget and closable and used + coming.memory_mb > budget:
            name = closable.pop(0)
            used -= self._entries[name].memory_mb
            del self._open[name]
            self._models.unloaded(name)
            _log.info("%s leaves memory for %s.", name, coming.name)

    def _path(self, entry: ModelEntry) -> Path:
        return self._models.place(entry) / entry.single_file

    def _check(self, entry: ModelEntry) -> None:
        """Raises Unavailable with the file at fault and the command that fetches it."""
        self._models.shelf.check(entry.name, self._models.place(entry))
        for file in entry.files:
            self._models.path(entry.name, file.path)


def engines(models: Models | None = None, threads: int = 1) -> Engines:
    """Those of a service's own catalogue, or of Darkroom's; it marks what is loaded and what can be."""
    own = models or Models("rmbg", read_catalogue())
    return Engines(own, NetSettings.from_environment(), threads)
