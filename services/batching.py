"""Joins what several threads ask at the same time: in goes one item a thread, out comes its own answer.

Nobody waits for company. Whoever finds the engine free takes it with all that waits at that moment, and what comes
meanwhile makes up the next batch: alone a call costs nothing more, and in a crowd batches grow by themselves. Only
items of one kind (a tensor's shape) share a batch. Where a batch fails, each of it is tried alone, so that nobody is
refused for another's item, and a crowd that does not fit in memory is served one by one.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Hashable, Sequence
from typing import Generic, TypeVar

Item = TypeVar("Item")
Answer = TypeVar("Answer")


class _Place(Generic[Item, Answer]):
    """One item in the line, and what became of it."""

    __slots__ = ("answer", "error", "item", "kind", "served")

    def __init__(self, item: Item, kind: Hashable) -> None:
        self.item, self.kind, self.served = item, kind, False
        self.answer: list[Answer] = []
        self.error: BaseException | None = None


class Batcher(Generic[Item, Answer]):
    """`batcher(item)` is `run([item])[0]`, but for what it shares with others."""

    def __init__(
        self,
        run: Callable[[list[Item]], Sequence[Answer]],
        most: int,
        kind: Callable[[Item], Hashable] = lambda item: None,
    ) -> None:
        self._run, self._most, self._kind = run, max(1, most), kind
        self._line: deque[_Place[Item, Answer]] = deque()
        self._changes = threading.Lock()
        self._turn = threading.Lock()

    def __call__(self, item: Item) -> Answer:
        place: _Place[Item, Answer] = _Place(item, self._kind(item))
        with self._changes:
            self._line.append(place)
        while not place.served:
            with self._turn:
                if not place.served:
                    self._serve(self._next())
        if place.error is not None:
            raise place.error
        return place.answer[0]

    def _next(self) -> list[_Place[Item, Answer]]:
        """Those at the head of the line that are of the first one's kind."""
        with self._changes:
            kind = self._line[0].kind
            taken = [place for place in self._line if place.kind == kind][: self._most]
            for place in taken:
                self._line.remove(place)
        return taken

    def _serve(self, places: list[_Place[Item, Answer]]) -> None:
        try:
            answers = self._run([place.item for place in places])
            if len(answers) != len(places):
                raise RuntimeError(f"{len(places)} items went in and {len(answers)} answers came out.")
        except BaseException as error:  # noqa: BLE001 - it is raised again, in the thread that asked
            if len(places) > 1:
                for place in places:
                    self._serve([place])
                return
            places[0].error = error
        else:
            for place, answer in zip(places, answers, strict=True):
                place.answer.append(answer)
        for place in places:
            place.served = True
