"""One request inside the engine: the engine's thread puts in what happens, the request's thread takes it out.

A newer progress or preview replaces the one that nobody has taken yet; pictures come out in the order of their
seeds, whichever lane is done first.
"""

from __future__ import annotations

import threading
from collections.abc import Hashable, Iterator
from typing import TYPE_CHECKING, Protocol

from PIL import Image

from services.diffusion.lane import Adapters, Encoded, Lane
from services.diffusion.recipe import Recipe
from services.errors import DarkroomError
from services.work import Preview, Progress, Result

if TYPE_CHECKING:
    from services.diffusion.residents import Resident

Item = Progress | Preview | Result


class Watched(Protocol):
    """What the engine looks at between two steps: a `services.work.Job`."""

    @property
    def stopped(self) -> bool: ...

    def check(self) -> None: ...


class Seat:
    """One picture's place: its lane, whose model moves it, and what it did before that lane."""

    __slots__ = ("before", "index", "is_refined", "lane", "resident", "ticket")

    def __init__(self, ticket: Ticket, index: int, lane: Lane, resident: Resident) -> None:
        self.ticket, self.index, self.lane, self.resident = ticket, index, lane, resident
        self.is_refined = False  # a refiner has taken over
        self.before = 0  # steps that the first model did then

    @property
    def key(self) -> Hashable:
        return self.lane.key()

    @property
    def rows(self) -> int:
        return 1 if self.lane.encoded.negative is None else 2

    @property
    def size(self) -> tuple[int, tuple[int, ...]]:
        """What decides how much memory a row takes."""
        return id(self.lane.checkpoint), tuple(self.lane.latents.shape[1:])

    @property
    def progress(self) -> tuple[int, int]:
        """Steps done, of how many."""
        done, total = self.lane.progress
        if self.ticket.refiner is not None and not self.is_refined:
            total = max(total, self.ticket.recipe.steps)  # what the refiner will do counts from the start
        return self.before + done, self.before + total


class Ticket:
    """A request from its arrival to its last picture."""

    def __init__(
        self,
        recipe: Recipe,
        job: Watched,
        resident: Resident,
        refiner: Resident | None,
        adapters: Adapters,
    ) -> None:
        self.recipe, self.job = recipe, job
        self.resident, self.refiner, self.adapters = resident, refiner, adapters
        # the engine's own
        self.encoded: Encoded | None = None
        self.refined: Encoded | None = None
        self.seats: list[Seat] = []
        self.prepared = 0  # pictures that have a lane
        self.finished = 0  # pictures that are decoded
        # between the two threads
        self.left = False  # the request's thread went away
        self._news = threading.Condition()
        self._progress: Progress | None = None
        self._preview: Image.Image | None = None
        self._pictures: dict[int, Result] = {}
        self._given = 0
        self._over = False
        self._error: BaseException | None = None

    # ── the engine's side ────────────────────────────────────────────────────────────────────────────────────

    def tell(self) -> None:
        """The progress of all its pictures together."""
        each = [seat.progress for seat in self.seats]
        total = max((total for _, total in each), default=1) * self.recipe.count
        with self._news:
            self._progress = Progress(sum(done for done, _ in each), max(1, total))
            self._news.notify()

    def show(self, image: Image.Image) -> None:
        with self._news:
            self._preview = image
            self._news.notify()

    def give(self, seat: Seat, image: Image.Image, *, withheld: bool = False) -> None:
        self.finished += 1
        with self._news:
            self._pictures[seat.index] = Result(image, seed=seat.lane.seed, withheld=withheld)
            self._news.notify()

    def end(self, error: BaseException | None = None) -> None:
        """The engine has let go of it."""
        with self._news:
            self._over, self._error = True, error
            self._news.notify()

    # ── the request's side ───────────────────────────────────────────────────────────────────────────────────

    def items(self) -> Iterator[Item]:
        """What happens, until the last picture; raises what went wrong."""
        while True:
            with self._news:
                while not self._over and not self._is_news():
                    self._news.wait()
                progress, self._progress = self._progress, None
                preview, self._preview = self._preview, None
                ready: list[Result] = []
                while self._given in self._pictures:
                    ready.append(self._pictures.pop(self._given))
                    self._given += 1
                over, error = self._over, self._error
            if progress is not None:
                yield progress
            if preview is not None and error is None:
                yield Preview(preview)
            yield from ready
            if over:
                if error is not None:
                    raise error
                return

    def wait_for_end(self) -> None:
        """Returns when the engine has let go: only then is nothing at work for this request any more."""
        with self._news:
            while not self._over:
                self._news.wait()

    def _is_news(self) -> bool:
        return self._progress is not None or self._preview is not None or self._given in self._pictures

    @property
    def is_unwanted(self) -> bool:
        return self.left or self.job.stopped

    def why_unwanted(self) -> BaseException | None:
        """The error that the request's thread is to raise: Cancelled, DeadlineExceeded, Draining."""
        try:
            self.job.check()
        except DarkroomError as error:
            return error
        return None

    def __repr__(self) -> str:
        recipe = self.recipe
        return f"<{recipe.model} {recipe.kind} {recipe.width}x{recipe.height} {recipe.steps} steps x{recipe.count}>"
