"""The batcher with real threads."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from services.batching import Batcher


class Engine:
    """Doubles numbers, remembers its batches, and can be held at its work."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.at_work = 0
        self.gate = threading.Event()
        self.gate.set()

    def __call__(self, items: list[int]) -> list[int]:
        self.at_work += 1
        assert self.at_work == 1, "two batches at the same time"
        self.gate.wait(10)
        self.at_work -= 1
        self.batches.append(items)
        if 13 in items:
            raise ValueError("13 is no number here")
        if len(items) > 4:
            raise MemoryError("too many at once")
        return [item * 2 for item in items]


def crowd(engine: Engine, batcher: Batcher[int, int], items: list[int]) -> list[int | Exception]:
    """All asked while the first, 0, is held at work."""
    engine.gate.clear()

    def ask(item: int) -> int | Exception:
        try:
            return batcher(item)
        except (ValueError, MemoryError) as error:
            return error

    with ThreadPoolExecutor(len(items) + 1) as pool:
        first = pool.submit(ask, 0)
        until = time.monotonic() + 5
        while not engine.at_work and time.monotonic() < until:
            time.sleep(0.001)
        others = []
        for at, item in enumerate(items, 1):
            others.append(pool.submit(ask, item))
            while len(batcher._line) < at and time.monotonic() < until:
                time.sleep(0.001)
        engine.gate.set()
        assert first.result(10) == 0
        return [other.result(10) for other in others]


def test_alone_an_item_is_answered_at_once() -> None:
    engine = Engine()
    assert Batcher(engine, 8)(21) == 42
    assert engine.batches == [[21]]


def test_what_comes_while_the_engine_works_is_one_batch() -> None:
    engine = Engine()
    assert crowd(engine, Batcher(engine, 4), [1, 2, 3]) == [2, 4, 6]
    assert engine.batches == [[0], [1, 2, 3]]


def test_a_batch_has_a_bound_and_nobody_is_left_in_the_line() -> None:
    engine = Engine()
    batcher = Batcher(engine, 3)
    assert crowd(engine, batcher, [1, 2, 3, 4, 5, 6, 7]) == [2, 4, 6, 8, 10, 12, 14]
    assert [len(batch) for batch in engine.batches] == [1, 3, 3, 1]
    assert not batcher._line


def test_only_items_of_one_kind_share_a_batch_and_the_first_comer_goes_first() -> None:
    engine = Engine()
    batcher = Batcher(engine, 4, kind=lambda item: item % 2)
    assert crowd(engine, batcher, [1, 2, 3, 4]) == [2, 4, 6, 8]
    assert engine.batches == [[0], [1, 3], [2, 4]]


def test_who_shares_a_batch_with_a_bad_item_is_served_all_the_same() -> None:
    engine = Engine()
    one, bad, two = crowd(engine, Batcher(engine, 4), [1, 13, 2])
    assert (one, two) == (2, 4)
    assert isinstance(bad, ValueError)


def test_a_crowd_that_does_not_fit_in_memory_is_served_one_by_one() -> None:
    engine = Engine()
    assert crowd(engine, Batcher(engine, 99), [1, 2, 3, 4, 5, 6]) == [2, 4, 6, 8, 10, 12]


def test_an_engine_that_loses_an_answer_is_a_fault_and_not_a_hang() -> None:
    batcher: Batcher[int, int] = Batcher(lambda items: [], 2)
    with pytest.raises(RuntimeError, match="1 items went in and 0 answers"):
        batcher(1)


def test_thousands_of_calls_from_many_threads_each_get_their_own_answer() -> None:
    batcher = Batcher(lambda items: [item * 2 for item in items], 8)
    with ThreadPoolExecutor(16) as pool:
        assert list(pool.map(batcher, range(4000))) == [item * 2 for item in range(4000)]
