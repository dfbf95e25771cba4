"""Rows of several requests run together: each gets its own, when the scheduler of TensorFlow Serving would
have it."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from tf_serving.serving.batching import Batcher, Parameters
from tf_serving.serving.engines import Arrays, Check, Rows
from tf_serving.serving.metrics import Metrics
from tf_serving.serving.signatures import Signature
from tf_serving.serving.status import Code, Refused

pytestmark = pytest.mark.anyio


class Doubling:
    """An engine that doubles numbers, notes the batches it was given, refuses 13, and waits for `go`."""

    runtime = "test"
    signatures: Mapping[str, Signature] = {}

    def __init__(self) -> None:
        self.sizes: list[int] = []
        self.go = threading.Event()
        self.go.set()

    def prepare(self, signature: str, inputs: Arrays, check: Check) -> Rows:
        raise NotImplementedError

    def run(self, key: tuple[Any, ...], arrays: Arrays) -> Arrays:
        self.go.wait(10)
        self.sizes.append(len(arrays["x"]))
        if 13 in arrays["x"]:
            raise Refused(Code.INVALID_ARGUMENT, "13")
        return {"y": arrays["x"] * 2}

    def finish(self, signature: str, rows: Rows, outputs: Arrays, check: Check) -> Arrays:
        raise NotImplementedError

    def close(self) -> None:
        pass


def rows(*values: float, key: str = "x", batchable: bool = True) -> Rows:
    return Rows((key,), {"x": np.array(values)}, len(values), batchable)


def batcher(**parameters: Any) -> Batcher:
    return Batcher(Parameters(**{"num_batch_threads": 1} | parameters), Metrics())


async def busy(batches: Batcher, engine: Doubling) -> asyncio.Task[Arrays]:
    """Takes the one thread until `engine.go` is set."""
    engine.go.clear()
    task = asyncio.create_task(batches.run(engine, rows(0)))
    await asyncio.sleep(0.05)
    return task


async def test_what_waits_is_run_together_and_each_gets_its_own() -> None:
    engine, batches = Doubling(), batcher()
    first = await busy(batches, engine)
    calls = [asyncio.create_task(batches.run(engine, rows(n, n + 0.5))) for n in range(1, 5)]
    await asyncio.sleep(0.05)
    engine.go.set()
    found = await asyncio.gather(*calls)
    assert [list(one["y"]) for one in found] == [[2 * n, 2 * n + 1] for n in range(1, 5)]
    assert engine.sizes == [1, 8] and list((await first)["y"]) == [0]


async def test_a_batch_holds_no_more_than_its_size() -> None:
    engine, batches = Doubling(), batcher(max_batch_size=3)
    await busy(batches, engine)
    calls = [asyncio.create_task(batches.run(engine, rows(1, 2))) for _ in range(2)]
    calls.append(asyncio.create_task(batches.run(engine, rows(3))))
    await asyncio.sleep(0.05)
    engine.go.set()
    await asyncio.gather(*calls)
    assert engine.sizes == [1, 2, 3]
    with pytest.raises(Refused, match="Task size 4 is larger than maximum input batch size 3"):
        await batches.run(engine, rows(1, 2, 3, 4))


async def test_rows_wait_for_company_as_long_as_they_are_told() -> None:
    engine, batches = Doubling(), batcher(batch_timeout_micros=200_000, max_batch_size=3)
    started = time.monotonic()
    await asyncio.gather(batches.run(engine, rows(1)), batches.run(engine, rows(2)))
    assert engine.sizes == [2] and time.monotonic() - started >= 0.19
    started = time.monotonic()
    await asyncio.gather(*[batches.run(engine, rows(n)) for n in range(3)])
    assert engine.sizes == [2, 3] and time.monotonic() - started < 0.15  # full: it goes at once


async def test_a_full_queue_is_unavailable_and_others_are_not() -> None:
    engine, other, batches = Doubling(), Doubling(), batcher(max_batch_size=2, max_enqueued_batches=2)
    await busy(batches, engine)
    calls = [asyncio.create_task(batches.run(engine, rows(n))) for n in range(4)]
    await asyncio.sleep(0.05)
    with pytest.raises(Refused) as caught:
        await batches.run(engine, rows(9))
    assert caught.value.code is Code.UNAVAILABLE
    assert caught.value.message == "The batch scheduling queue to which this task was submitted is full"
    calls.append(asyncio.create_task(batches.run(other, rows(5))))
    await asyncio.sleep(0.05)
    engine.go.set()
    await asyncio.gather(*calls)


async def test_who_gives_up_leaves_the_queue() -> None:
    engine, batches = Doubling(), batcher(max_batch_size=2, max_enqueued_batches=1)
    await busy(batches, engine)
    gone = [asyncio.create_task(batches.run(engine, rows(n))) for n in range(2)]
    await asyncio.sleep(0.05)
    for one in gone:
        one.cancel()
    await asyncio.sleep(0.05)
    stays = asyncio.create_task(batches.run(engine, rows(7)))  # else the queue were full
    await asyncio.sleep(0.05)
    engine.go.set()
    assert list((await stays)["y"]) == [14]
    assert engine.sizes == [1, 1]


async def test_one_that_is_refused_harms_no_other_of_its_batch() -> None:
    engine, batches = Doubling(), batcher()
    await busy(batches, engine)
    calls = [asyncio.create_task(batches.run(engine, rows(n))) for n in (12, 13, 14)]
    await asyncio.sleep(0.05)
    engine.go.set()
    good, bad, fine = await asyncio.gather(*calls, return_exceptions=True)
    assert isinstance(bad, Refused) and bad.code is Code.INVALID_ARGUMENT
    assert list(good["y"]) == [24] and list(fine["y"]) == [28]  # type: ignore[index]


async def test_what_has_another_key_is_not_mixed_in() -> None:
    engine, batches = Doubling(), batcher()
    await busy(batches, engine)
    calls = [
        asyncio.create_task(batches.run(engine, rows(n, key=key)))
        for n, key in ((1, "a"), (2, "b"), (3, "a"))
    ]
    await asyncio.sleep(0.05)
    engine.go.set()
    assert [list(one["y"]) for one in await asyncio.gather(*calls)] == [[2], [4], [6]]
    assert sorted(engine.sizes) == [1, 1, 2]


async def test_batches_are_filled_to_an_allowed_size() -> None:
    engine, batches = Doubling(), batcher(max_batch_size=4, allowed_batch_sizes=(2, 4))
    assert list((await batches.run(engine, rows(1, 2, 3)))["y"]) == [2, 4, 6]
    assert engine.sizes == [4]


async def test_a_scalar_cannot_be_batched() -> None:
    with pytest.raises(Refused, match="Batching Run\\(\\) input tensors must have at least one dimension"):
        await batcher().run(Doubling(), rows(1, batchable=False))


async def test_a_fault_reaches_those_who_wait_and_the_batcher_goes_on() -> None:
    class Broken(Doubling):
        def run(self, key: tuple[Any, ...], arrays: Arrays) -> Arrays:
            raise RuntimeError("broken")

    batches = batcher()
    with pytest.raises(RuntimeError, match="broken"):
        await batches.run(Broken(), rows(1))
    assert list((await batches.run(Doubling(), rows(1)))["y"]) == [2]
