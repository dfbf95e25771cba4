"""An engine with tiny models in memory, and requests to it from threads, for the tests of the crowd."""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from PIL import Image

from services.diffusion.adapters import Switchboard
from services.diffusion.checkpoint import Checkpoint
from services.diffusion.decode import decode
from services.diffusion.encode import encode
from services.diffusion.engine import Engine
from services.diffusion.lane import Adapters
from services.diffusion.loras import Library
from services.diffusion.prepare import prepare
from services.diffusion.recipe import Recipe
from services.diffusion.refine import hand_over
from services.diffusion.residents import Resident
from services.diffusion.step import step
from services.errors import DarkroomError
from services.models import Models
from services.operations import TextToImage
from services.work import Job, Preview, Progress, Result


class Held:
    """In place of `Residents`, which reads files: models that are there. It counts who claimed them."""

    def __init__(self, **checkpoints: Checkpoint) -> None:
        library = Library(Models("sdxl", []))
        self._held = {
            name: Resident(name, checkpoint, Switchboard(checkpoint, library))
            for name, checkpoint in checkpoints.items()
        }

    def claim(self, name: str, nets: Collection[str] = ()) -> Resident:
        resident = self._held[name]
        resident.users += 1
        return resident

    def release(self, resident: Resident) -> None:
        resident.users -= 1

    size = 0  # bytes of what is held; what a test sets here, `close` lets go of

    def close(self) -> None:
        self.size = 0

    @property
    def users(self) -> int:
        return sum(one.users for one in self._held.values())


@contextmanager
def running(rows: int = 0, **checkpoints: Checkpoint) -> Iterator[tuple[Engine, Held]]:
    held = Held(**checkpoints)
    engine = Engine(held, rows)  # type: ignore[arg-type]
    try:
        yield engine, held
    finally:
        engine.close()


def job() -> Job:
    return Job(TextToImage(prompt="a cat"), "a-test", math.inf, lambda _kind, _frame: None)


@dataclass
class Asked:
    """A request on a thread of its own, and what came of it."""

    recipe: Recipe
    job: Job = field(default_factory=job)
    progress: list[tuple[int, int]] = field(default_factory=list)
    previews: list[Image.Image] = field(default_factory=list)
    results: list[Result] = field(default_factory=list)
    error: BaseException | None = None
    began: float = 0.0
    seconds: float = 0.0
    thread: threading.Thread | None = None

    def start(self, engine: Engine, each: Callable[[Any], None] = lambda _item: None) -> Asked:
        def work() -> None:
            self.began = time.perf_counter()
            try:
                for item in engine.run(self.recipe, self.job):
                    if isinstance(item, Progress):
                        self.progress.append((item.step, item.total))
                    elif isinstance(item, Preview):
                        self.previews.append(item.image)
                    else:
                        self.results.append(item)
                    each(item)
                    self.job.check()
            except DarkroomError as error:
                self.error = error
            self.seconds = time.perf_counter() - self.began

        self.thread = threading.Thread(target=work)
        self.thread.start()
        return self

    def end(self, seconds: float = 60) -> Asked:
        assert self.thread is not None
        self.thread.join(seconds)
        assert not self.thread.is_alive(), f"still at work: {self.recipe}"
        return self

    @property
    def pictures(self) -> list[Image.Image]:
        assert self.error is None, self.error
        return [result.image for result in self.results]


def alone(checkpoint: Checkpoint, asked: Recipe, refiner: Checkpoint | None = None) -> list[Image.Image]:
    """The pictures by the stages themselves, one after the other and without an engine."""
    made = []
    for index in range(asked.count):
        lane = prepare(checkpoint, asked, encode(checkpoint, asked), index, Adapters())
        while not lane.done:
            step([lane])
        if refiner is not None:
            lane = hand_over(lane, refiner, encode(refiner, asked))
            while not lane.done:
                step([lane])
        made += decode([lane])
    return made


def differ(one: Image.Image, other: Image.Image) -> int:
    """The largest difference of a pixel's value of 0..255."""
    assert one.size == other.size
    return int(np.abs(np.asarray(one, np.int16) - np.asarray(other, np.int16)).max())


class Watched:
    """A network of a checkpoint with a watch over its calls: how many rows each had, and what it is to raise."""

    def __init__(self, network: torch.nn.Module) -> None:
        self.rows: list[int] = []
        self.raises: deque[BaseException | None] = deque()
        self.fits = math.inf
        self.pause = 0.0
        self.hold: threading.Event | None = None
        self._handle = network.register_forward_pre_hook(self._called, with_kwargs=True)

    def _called(self, _network: Any, arguments: tuple[Any, ...], named: dict[str, Any]) -> None:
        rows = len(arguments[0] if arguments else named["sample"])
        self.rows.append(rows)
        if self.hold is not None:
            assert self.hold.wait(30)
        if self.pause:
            time.sleep(self.pause)
        if self.raises and (error := self.raises.popleft()) is not None:
            raise error
        if rows > self.fits:
            raise torch.OutOfMemoryError(f"CUDA out of memory: {rows} rows, as a GPU would say it")

    def remove(self) -> None:
        self._handle.remove()


@contextmanager
def watched(network: torch.nn.Module) -> Iterator[Watched]:
    watch = Watched(network)
    try:
        yield watch
    finally:
        watch.remove()
