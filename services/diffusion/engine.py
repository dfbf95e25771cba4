"""The crowd: in go recipes from many threads, out come progress, previews and pictures for each; one thread owns the
device.

    round: let go of what nobody wants ─> encode and prepare those that arrived ─> one call of a UNet ─> decode the done
             └──────────────────────────────────── again, while there is work ───────────────────────────────────┘

Requests join and leave between steps. Who steps next is decided in batch.py; how much goes into a call, in memory.py.
Encoding and decoding get a turn between two steps, no longer than a step takes, so that those on their way hardly
wait for those that come and go. What fails in a call fails those that were in it; the thread goes on.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING

from services.diffusion.batch import next_call
from services.diffusion.decode import decode
from services.diffusion.encode import encode
from services.diffusion.kernels import Kernels
from services.diffusion.lane import Adapters
from services.diffusion.memory import Bounds, give_back, is_out_of_memory, rows_that_fit
from services.diffusion.pace import Pace
from services.diffusion.prepare import prepare
from services.diffusion.previews import preview
from services.diffusion.recipe import Recipe
from services.diffusion.refine import hand_over
from services.diffusion.safety import blackened
from services.diffusion.step import step
from services.diffusion.tickets import Item, Seat, Ticket, Watched
from services.errors import DarkroomError, Draining, OutOfMemory, ServiceFault

if TYPE_CHECKING:
    from services.diffusion.residents import Resident, Residents

_log = logging.getLogger("darkroom.diffusion")


class Engine:
    """`run` from any thread; `close` at the end. `rows` bounds a call of the UNet; 0: what suits the device."""

    def __init__(self, residents: Residents, rows: int = 0) -> None:
        self._residents, self._most_rows = residents, rows
        self._bounds, self._kernels = Bounds(), Kernels()
        self._news = threading.Condition()
        self._arrived: deque[Ticket] = deque()
        self._closing = False
        # only the engine's thread touches these
        self._tickets: dict[Ticket, None] = {}
        self._entering: deque[Ticket] = deque()  # to be encoded, or to get a lane for their next picture
        self._handing: deque[Seat] = deque()  # whose refiner is to take over
        self._line: list[Seat] = []  # the longest waiting first
        self._leaving: deque[Seat] = deque()  # to be decoded
        self._last_step = 0.0  # seconds
        self._pace = Pace()
        self._thread = threading.Thread(target=self._work, name="diffusion-engine", daemon=True)
        self._thread.start()

    def run(self, recipe: Recipe, job: Watched) -> Iterator[Item]:
        """Performs it, in the crowd; the caller's thread loads what is not there yet."""
        with ExitStack() as claims:
            model = self._claim(recipe.model, {control.net for control in recipe.controls}, claims)
            refiner = self._claim(recipe.refinement.model, (), claims) if recipe.refinement else None
            scale = recipe.reference_scale if recipe.reference is not None else None
            adapters = model.switchboard.claim(recipe.loras, scale)
            claims.callback(model.switchboard.release, adapters)
            job.check()
            ticket = Ticket(recipe, job, model, refiner, adapters)
            with self._news:
                if self._closing:
                    raise Draining("The service is shutting down.", retry_after=1)
                self._arrived.append(ticket)
                self._news.notify()
            try:
                yield from ticket.items()
            finally:
                ticket.left = True
                ticket.wait_for_end()

    def close(self) -> None:
        """Ends what is in flight, and the thread."""
        with self._news:
            self._closing = True
            self._news.notify()
        self._thread.join()

    def _claim(self, name: str, nets: Collection[str], claims: ExitStack) -> Resident:
        resident = self._residents.claim(name, nets)
        claims.callback(self._residents.release, resident)
        return resident

    # ── the thread ───────────────────────────────────────────────────────────────────────────────────────────

    def _work(self) -> None:
        while True:
            with self._news:
                while not (self._arrived or self._tickets or self._closing):
                    self._news.wait()
                if self._closing:
                    break
                arrived, self._arrived = self._arrived, deque()
            self._tickets |= dict.fromkeys(arrived)
            self._entering += arrived
            try:
                self._round()
            except Exception as error:  # noqa: BLE001 - a stage's faults are caught where they happen; this one is ours
                _log.exception("The engine's round failed")
                self._fail(list(self._tickets), error)
        self._fail([*self._tickets, *self._arrived], Draining("The service is shutting down.", retry_after=1))

    def _round(self) -> None:
        self._let_go()
        self._turn(self._enter)
        self._step()
        self._turn(self._leave)

    def _let_go(self) -> None:
        for ticket in [ticket for ticket in self._tickets if ticket.is_unwanted]:
            self._end(ticket, ticket.why_unwanted())

    def _turn(self, work: Callable[[], bool]) -> None:
        """One piece of work, and more as long as a step takes."""
        until = time.perf_counter() + self._last_step
        while work() and time.perf_counter() < until:
            pass

    # ── encode and prepare ───────────────────────────────────────────────────────────────────────────────────

    def _enter(self) -> bool:
        """One picture of one request gets its lane; whether there was anything to do."""
        if self._handing:
            seat = self._handing.popleft()
            self._guarded([seat.ticket], lambda: self._hand_over(seat))
            return True
        if not self._entering:
            return False
        ticket = self._entering.popleft()
        if ticket in self._tickets:
            self._guarded([ticket], lambda: self._prepare(ticket))
            if ticket in self._tickets and ticket.prepared < ticket.recipe.count:
                self._entering.append(ticket)
        return True

    def _prepare(self, ticket: Ticket) -> None:
        recipe, resident = ticket.recipe, ticket.resident
        if ticket.encoded is None:
            resident.switchboard.activate(ticket.adapters)
            ticket.encoded = encode(resident.checkpoint, recipe)
        encoded, index, adapters = ticket.encoded, ticket.prepared, ticket.adapters
        lane = self._kernels.call(
            ("prepare", recipe.model, recipe.width, recipe.height),
            lambda: prepare(resident.checkpoint, recipe, encoded, index, adapters),
        )
        seat = Seat(ticket, ticket.prepared, lane, resident)
        ticket.seats.append(seat)
        ticket.prepared += 1
        self._place(seat)

    def _hand_over(self, seat: Seat) -> None:
        """The refiner goes on where the first model ended."""
        ticket, refiner = seat.ticket, seat.ticket.refiner
        if ticket not in self._tickets or refiner is None:
            return
        if ticket.refined is None:
            refiner.switchboard.activate(Adapters())
            ticket.refined = encode(refiner.checkpoint, ticket.recipe)
        seat.before = seat.lane.progress[0]
        seat.lane = hand_over(seat.lane, refiner.checkpoint, ticket.refined)
        seat.resident, seat.is_refined = refiner, True
        self._place(seat)

    def _place(self, seat: Seat) -> None:
        """Where a picture is to wait next."""
        if not seat.lane.done:
            self._line.append(seat)
        elif seat.ticket.refiner is not None and not seat.is_refined:
            self._handing.append(seat)
        else:
            self._leaving.append(seat)

    # ── step ─────────────────────────────────────────────────────────────────────────────────────────────────

    def _step(self) -> None:
        """One call of a UNet."""
        self._line = [seat for seat in self._line if seat.ticket in self._tickets]
        chosen = next_call(self._line, self._rows)
        if not chosen:
            return
        began = time.perf_counter()
        before = [seat.lane.at for seat in chosen]
        gone = set(map(id, chosen))
        try:
            chosen[0].resident.switchboard.activate(chosen[0].lane.adapters)
            self._kernels.call(chosen[0].size, lambda: step([seat.lane for seat in chosen]))
            self._pace.called(chosen[0].lane.checkpoint.device)
        except Exception as error:  # noqa: BLE001 - whatever a step raises is told to those that were in it
            if is_out_of_memory(error) and len(chosen) > 1:
                rows = sum(seat.rows for seat in chosen)
                self._bounds.did_not_fit(chosen[0].size, rows)
                _log.warning("%d rows of %s did not fit; the next call has half", rows, chosen[0].size[1:])
                give_back(error)
                # they keep their place; those whose step was done before it failed are none the worse
                chosen = [seat for seat, at in zip(chosen, before, strict=True) if seat.lane.at > at]
                gone = set(map(id, chosen))
            elif is_out_of_memory(error) and self._freed_idle_models(error):
                chosen, gone = [], set()  # it keeps its place, and has more room now
            else:
                self._failed([seat.ticket for seat in chosen], error)
        self._last_step = time.perf_counter() - began
        self._line = [seat for seat in self._line if id(seat) not in gone]
        moved = [seat for seat in chosen if seat.ticket in self._tickets]
        for seat in moved:
            self._place(seat)
        self._tell(moved)

    def _freed_idle_models(self, error: BaseException) -> bool:
        """Lets go of the models that nobody uses; whether there were any."""
        before = self._residents.size
        self._residents.close()
        freed = before - self._residents.size
        if freed:
            give_back(error)
            _log.warning("One picture alone did not fit; %d MB of idle models made room", freed // 2**20)
        return freed > 0

    def _rows(self, seat: Seat) -> int:
        """The most rows of a call that this one leads."""
        latents = seat.lane.latents
        scale = seat.lane.checkpoint.vae_scale
        pixels = int(latents.shape[-1] * latents.shape[-2]) * scale * scale
        otherwise = self._most_rows or rows_that_fit(seat.lane.checkpoint.device, pixels)
        return self._bounds.rows(seat.size, otherwise)

    def _tell(self, moved: Sequence[Seat]) -> None:
        for ticket in dict.fromkeys(seat.ticket for seat in moved):
            ticket.tell()
        for seat in moved:
            if seat.ticket.resident.checkpoint.safety is not None:
                continue  # a preview would show what the checker has not seen
            every, done = seat.ticket.recipe.preview_every, seat.progress[0]
            if every and not seat.lane.done and done and done % every == 0:
                self._guarded([seat.ticket], lambda seat=seat: seat.ticket.show(preview(seat.lane)))  # type: ignore[misc]

    # ── decode ───────────────────────────────────────────────────────────────────────────────────────────────

    def _leave(self) -> bool:
        """One picture through the VAE; whether there was anything to do."""
        if not self._leaving:
            return False
        seat = self._leaving.popleft()
        if seat.ticket in self._tickets:
            self._guarded([seat.ticket], lambda: self._give(seat))
        return True

    def _give(self, seat: Seat) -> None:
        ticket = seat.ticket
        image = self._kernels.call(("decode", seat.size), lambda: decode([seat.lane])[0])
        checker = ticket.resident.checkpoint.safety
        withheld = checker is not None and checker.check([image])[0]
        ticket.give(seat, blackened(image) if withheld else image, withheld=withheld)
        if ticket.finished == ticket.recipe.count:
            self._end(ticket)

    # ── the end of a request ─────────────────────────────────────────────────────────────────────────────────

    def _guarded(self, tickets: Sequence[Ticket], work: Callable[[], None]) -> None:
        """Does it; what it raises ends these requests and no others."""
        try:
            work()
        except Exception as error:  # noqa: BLE001 - told to those that it befell
            self._failed(tickets, error)

    def _failed(self, tickets: Sequence[Ticket], error: BaseException) -> None:
        """Ends them with an error that says what a caller can do."""
        if isinstance(error, DarkroomError):
            self._fail(tickets, error)
        elif is_out_of_memory(error):
            _log.warning("Not enough memory for %s: %s", tickets[0], error)
            self._fail(tickets, OutOfMemory("One picture alone did not fit into memory.", retry_after=1))
            give_back(error)
        else:
            _log.error("A stage failed for %s", tickets, exc_info=error)
            self._fail(tickets, ServiceFault(f"The work failed ({type(error).__name__})."))

    def _fail(self, tickets: Sequence[Ticket], error: BaseException) -> None:
        for ticket in dict.fromkeys(tickets):
            # each its own, since a raised error is changed by who raises it
            self._end(ticket, _copied(error))

    def _end(self, ticket: Ticket, error: BaseException | None = None) -> None:
        """Lets go of it; what is left of it in the queues is passed over."""
        self._tickets.pop(ticket, None)
        ticket.seats.clear()
        ticket.end(error)


def _copied(error: BaseException) -> BaseException:
    if not isinstance(error, DarkroomError):
        return ServiceFault(f"The work failed ({type(error).__name__}).")
    return type(error)(
        error.detail, field=error.field, retry_after=error.retry_after, help=error.what_to_do, **error.extra
    )
