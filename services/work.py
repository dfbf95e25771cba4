"""One piece of work: in go an operation's parameters and the service's method, out come frames.

The method runs in a worker thread (or on the loop when it is async) and tells its progress through `Job`.
What it tells waits in an `Outbox`: a newer progress or preview replaces the older one that was not yet sent,
so that a slow reader holds no more than one of each, and the results, whose number the operation bounds.
"""

from __future__ import annotations

import asyncio
import inspect
import secrets
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Generator, Iterator
from concurrent.futures import Executor
from contextlib import closing, nullcontext
from dataclasses import dataclass, field
from typing import Any

from PIL import Image

from services import frames
from services.errors import Cancelled, DarkroomError
from services.images import MEDIA_TYPES, encode
from services.operations import Encoded, Format, Operation, Seeded
from services.origin.credentials import Credentials
from services.pictures import Picture

PREVIEW_SIDE = 512
_SEEDS = 2**32


@dataclass(frozen=True, slots=True)
class Result:
    """A finished picture that says more than its pixels: a map, a seed of its own, how it was made, or that the safety
    checker withheld it and it is black."""

    image: Image.Image
    role: str = "picture"
    seed: int | None = None
    parameters: str = ""  # `services/origin/parameters.py` makes it; written into the picture
    withheld: bool = False


@dataclass(frozen=True, slots=True)
class Progress:
    """What a generator yields to tell how far it is."""

    step: int
    total: int


@dataclass(frozen=True, slots=True)
class Preview:
    """What a generator yields to show the work in progress."""

    image: Image.Image


@dataclass(frozen=True, slots=True)
class Origin:
    """What a service's pictures may say of where they are from."""

    parameters: bool = True
    credentials: Credentials | None = None  # of a generative service where a key is set


@dataclass(slots=True)
class Timing:
    decode_ms: float = 0.0
    run_ms: float = 0.0
    encode_ms: float = 0.0

    def fields(self) -> dict[str, float]:
        return {name: round(getattr(self, name), 1) for name in self.__slots__}


Frame = list[bytes | memoryview]


class Outbox:
    """What waits to be sent. Filled from any thread, emptied by the loop that made it."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._news = asyncio.Event()
        self._lock = threading.Lock()
        self._latest: dict[str, Frame] = {}
        self._results: deque[Frame] = deque()

    def put(self, kind: str, frame: Frame) -> None:
        with self._lock:
            if kind == "result":
                self._results.append(frame)
            else:
                self._latest[kind] = frame
        self._loop.call_soon_threadsafe(self._news.set)

    def take(self) -> list[Frame]:
        self._news.clear()
        with self._lock:
            taken = [*self._latest.values(), *self._results]
            self._latest.clear()
            self._results.clear()
        return taken

    async def wait(self, seconds: float) -> None:
        """Returns when there is something, or after `seconds`."""
        try:
            async with asyncio.timeout(seconds):
                await self._news.wait()
        except TimeoutError:
            return

    def wake(self) -> None:
        self._news.set()


class Job:
    """What a service method is given beside its parameters."""

    def __init__(
        self, ask: Operation, request_id: str, deadline: float, tell: Callable[[str, Frame], None]
    ) -> None:
        given = getattr(ask, "seed", None)
        self.seed: int = given if given is not None else secrets.randbelow(_SEEDS)
        self.request_id = request_id
        self.deadline = deadline  # on time.monotonic()
        self._tell = tell
        self._stopped: DarkroomError | None = None
        self.stop_event = threading.Event()

    def progress(self, step: int, total: int) -> None:
        """Tells how far the work is; raises Cancelled when nobody waits for it any more."""
        self.check()
        self._tell("progress", frames.encode("progress", step=int(step), total=int(total)))

    def preview(self, image: Image.Image | Picture) -> None:
        """Shows the work in progress."""
        self.check()
        small = pixels_of(image).copy()
        small.thumbnail((PREVIEW_SIDE, PREVIEW_SIDE))
        body = encode(small, "jpeg", 80)
        self._tell(
            "preview",
            frames.encode("preview", body, media_type="image/jpeg", width=small.width, height=small.height),
        )

    def check(self) -> None:
        """Raises Cancelled when nobody waits, DeadlineExceeded when time is up. Call it at each step."""
        if self._stopped is not None:
            raise self._stopped

    @property
    def stopped(self) -> bool:
        return self._stopped is not None

    def stop(self, why: DarkroomError | None = None) -> None:
        """Makes the next `check` raise."""
        if self._stopped is None:
            self._stopped = why or Cancelled("The caller went away.")
            self.stop_event.set()

    def sleep(self, seconds: float) -> None:
        """Waits, but not past a stop."""
        self.stop_event.wait(seconds)
        self.check()


@dataclass(slots=True)
class Work:
    """Runs one method and turns what it gives into result frames."""

    ask: Operation
    job: Job
    outbox: Outbox
    origin: Origin = field(default_factory=Origin)
    timing: Timing = field(default_factory=Timing)
    data: dict[str, Any] | None = None
    count: int = 0

    async def run(self, method: Callable[[Any, Job], Any], executor: Executor) -> None:
        """Performs it; a method that is not async works in the executor from its first line to its last."""
        loop = asyncio.get_running_loop()
        started = time.perf_counter()
        if inspect.isasyncgenfunction(method):
            async for item in method(self.ask, self.job):
                await loop.run_in_executor(executor, self._accept, item)
        elif inspect.iscoroutinefunction(method):
            value = await method(self.ask, self.job)
            await loop.run_in_executor(executor, self._accept_all, value)
        else:
            await loop.run_in_executor(executor, self._perform, method)
        total = (time.perf_counter() - started) * 1000
        self.timing.run_ms = max(0.0, total - self.timing.encode_ms)

    def _perform(self, method: Callable[[Any, Job], Any]) -> None:
        self.job.check()
        self._accept_all(method(self.ask, self.job))

    def _accept_all(self, value: Any) -> None:
        if isinstance(value, Iterator):
            # closed at once when a stop ends it early, and not when somebody drops the error that holds it
            with closing(value) if isinstance(value, Generator) else nullcontext():
                for item in value:
                    self._accept(item)
        elif isinstance(value, list | tuple):
            for item in value:
                self._accept(item)
        else:
            self._accept(value)

    def _accept(self, item: Any) -> None:
        self.job.check()
        if isinstance(item, Progress):
            self.job.progress(item.step, item.total)
        elif isinstance(item, Preview):
            self.job.preview(item.image)
        elif isinstance(item, dict):
            self.data = item if self.data is None else self.data | item
        elif isinstance(item, Result):
            self._result(item)
        elif isinstance(item, Image.Image | Picture):
            self._result(Result(pixels_of(item)))
        else:
            raise TypeError(
                f"{type(self.ask).__name__}'s method gave {type(item).__name__}; "
                "it gives pictures, Result, Progress, Preview or a dict."
            )

    def _result(self, result: Result) -> None:
        started = time.perf_counter()
        encoding: Format = (self.ask.format if isinstance(self.ask, Encoded) else None) or "png"
        quality = self.ask.quality if isinstance(self.ask, Encoded) else 90
        body = encode(result.image, encoding, quality, result.parameters if self.origin.parameters else "")
        body = self._signed(body, encoding, result)
        self.timing.encode_ms += (time.perf_counter() - started) * 1000
        fields: dict[str, Any] = {
            "index": self.count,
            "role": result.role,
            "media_type": MEDIA_TYPES[encoding],
            "width": result.image.width,
            "height": result.image.height,
        }
        if result.seed is not None or (isinstance(self.ask, Seeded) and result.role == "picture"):
            fields["seed"] = result.seed if result.seed is not None else self.job.seed + self.count
        if result.withheld:
            fields["withheld"] = True
        self.count += 1
        self.outbox.put("result", frames.encode("result", body, **fields))

    def _signed(self, body: bytes, encoding: Format, result: Result) -> bytes:
        """What a generative service made from a seed is signed; a map that it read from a picture is not."""
        credentials = self.origin.credentials
        if credentials is None or result.role != "picture" or not isinstance(self.ask, Seeded):
            return body
        edited = getattr(self.ask, "image", None) is not None
        return credentials.sign(
            body,
            MEDIA_TYPES[encoding],
            "compositeWithTrainedAlgorithmicMedia" if edited else "trainedAlgorithmicMedia",
        )


def pixels_of(image: Image.Image | Picture) -> Image.Image:
    found: Image.Image = image.pixels if isinstance(image, Picture) else image
    return found


async def stream(work: Work, task: asyncio.Task[None], alive_every: float) -> AsyncIterator[Frame]:
    """The frames of running work, `alive` where it is silent. Raises what the work raised."""
    task.add_done_callback(lambda _: work.outbox.wake())
    while not task.done():
        work.job.check()
        await work.outbox.wait(alive_every)
        waiting = work.outbox.take()
        for frame in waiting:
            yield frame
        if not waiting and not task.done():
            yield frames.encode("alive")
    for frame in work.outbox.take():
        yield frame
    await task
