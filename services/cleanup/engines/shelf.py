"""Which engines there are: in goes the catalogue, out come engines by their model's name.

What needs no file, and the micro net, are there from the start; what is large is opened when it is first asked for.
Files are checked at the start: one that is not what the catalogue names stops it, before anybody waits for a picture.
"""

from __future__ import annotations

import threading
from pathlib import Path

import cv2

from services.cleanup.engines import Engine, Sight
from services.cleanup.engines.iopaint import IOPaintEngine, IOPaintServer
from services.cleanup.engines.nets import NetEngine
from services.cleanup.engines.opencv import OpenCVEngine
from services.cleanup.engines.runners import OnnxRunner, TorchScriptRunner
from services.models import ModelEntry, Models
from services.settings import CleanupSettings

LOOK_AGAIN = 15.0  # seconds between two looks at what the IOPaint server has
FLAGS = {"telea": cv2.INPAINT_TELEA, "navier-stokes": cv2.INPAINT_NS}
MARGIN = 128  # as IOPaint's own
DEFAULTS: dict[str, int] = {"side": 512, "least": 256, "whole": 2048 * 2048, "multiple": 8}
RUNNERS: dict[str, type[OnnxRunner] | type[TorchScriptRunner]] = {
    "lama-onnx": OnnxRunner,
    "lama-torchscript": TorchScriptRunner,
}


class Engines:
    def __init__(self, models: Models, settings: CleanupSettings, threads: int = 1) -> None:
        self._models, self._threads = models, threads
        self._made: dict[str, Engine] = {}
        self._turn = threading.Lock()
        self._closed = threading.Event()
        self._iopaint = IOPaintServer(settings) if settings.iopaint_url else None
        for entry in models:
            if entry.engine in FLAGS:
                self._made[entry.name] = OpenCVEngine(FLAGS[entry.engine])
                models.loaded(entry.name)
            elif entry.engine in RUNNERS and self._on_disk(entry):
                self._file(entry)
                models.offered(entry.name)
                if entry.folder:
                    self[entry.name]
        if self._iopaint is not None:
            self._offer_iopaint()
            threading.Thread(target=self._watch_iopaint, name="iopaint", daemon=True).start()

    def __getitem__(self, name: str) -> Engine:
        """The engine of a model that is loaded or offered."""
        if name not in self._made:
            with self._turn:
                if name not in self._made:
                    self._made[name] = self._make(self._models[name])
                    self._models.loaded(name)
        return self._made[name]

    def best(self) -> str:
        """The model of the highest rank, loaded or not."""
        there = [entry for entry in self._models if self._models.is_offered(entry.name)]
        return max(there, key=lambda entry: entry.rank).name

    def close(self) -> None:
        self._closed.set()

    def _offer_iopaint(self) -> None:
        """Offers what the IOPaint server has now. `iopaint` itself is offered whether the server answers or not."""
        there = self._iopaint.models() if self._iopaint is not None else set()
        for entry in self._models:
            if entry.engine == "iopaint" and entry.defaults.get("model", "") in ("", *there):
                self._models.offered(entry.name)

    def _watch_iopaint(self) -> None:
        while not self._closed.wait(LOOK_AGAIN):
            self._offer_iopaint()

    def _on_disk(self, entry: ModelEntry) -> bool:
        if entry.folder:
            return True
        return all((self._models.place(entry) / file.path).is_file() for file in entry.files)

    def _file(self, entry: ModelEntry) -> Path:
        """Its one file, which is the one that the catalogue names."""
        if entry.files:
            return self._models.path(entry.name, entry.files[0].path)
        return self._models.place(entry) / entry.single_file

    def _make(self, entry: ModelEntry) -> Engine:
        if entry.engine == "iopaint" and self._iopaint is not None:
            return IOPaintEngine(self._iopaint, str(entry.defaults.get("model", "")))
        given = DEFAULTS | entry.defaults
        runner = RUNNERS[entry.engine](self._file(entry), entry.name, given["multiple"], self._threads)
        side = min(runner.fixed) if runner.fixed else given["side"]
        whole = 0 if runner.fixed else given["whole"]
        return NetEngine(runner, entry.name, Sight(side, MARGIN, min(side, given["least"]), whole))
