"""One Predict, whichever door it came in by: find the version, read the inputs, run, write the outputs.

    loop     find the version ──────────────> its turn in a batch ────────────────────> answer
    thread                    read, prepare ┘                     └ finish, write ┘

A request has a deadline always, and work for one that nobody waits for any more stops at its next step.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

from tf_serving.serving.batching import Batcher
from tf_serving.serving.engines import Arrays, Engine, Rows
from tf_serving.serving.metrics import Metrics
from tf_serving.serving.models import Models, Version
from tf_serving.serving.signatures import Signature
from tf_serving.serving.status import Code, Refused
from tf_serving.stubs import ModelSpec

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Asked:
    """What a request wants of a model."""

    signature: str
    inputs: Arrays
    outputs: Sequence[str]


Read = Callable[[Mapping[str, Signature]], Asked]
Write = Callable[[Version, Asked, Arrays], T]


class Job:
    """A request's life, as its threads see it."""

    def __init__(self) -> None:
        self.over = False

    def check(self) -> None:
        if self.over:
            raise Refused(Code.CANCELLED, "Nobody waits for this request any more.")


class Predictor:
    def __init__(
        self,
        models: Models,
        metrics: Metrics,
        batcher: Batcher | None,
        threads: int,
        runs: int,
        most: int,
    ) -> None:
        self._models, self._metrics, self._batcher = models, metrics, batcher
        self._most, self._now = most, 0
        self._pictures = ThreadPoolExecutor(threads, "pictures")
        self._runs = ThreadPoolExecutor(runs, "run")
        metrics.gauge("requests_in_flight", (), lambda: [((), float(self._now))])
        metrics.gauge(
            "requests_waiting_for_a_batch", (), lambda: [((), float(batcher.waiting if batcher else 0))]
        )

    async def predict(
        self, spec: ModelSpec, read: Read, write: Write[T], entrypoint: str, seconds: float
    ) -> T:
        started, status = time.perf_counter(), "UNKNOWN"
        job = Job()
        self._now += 1
        try:
            if self._now > self._most:
                raise Refused(
                    Code.UNAVAILABLE, f"{self._most} requests are being answered; try again in a moment."
                )
            async with asyncio.timeout(max(0.0, seconds)):
                answer = await self._answer(spec, read, write, job)
            status = "OK"
            return answer
        except TimeoutError:
            status = "DEADLINE_EXCEEDED"
            raise Refused(
                Code.DEADLINE_EXCEEDED, f"The request was not done within {seconds:.3g} s."
            ) from None
        except asyncio.CancelledError:
            status = "CANCELLED"
            raise
        except Refused as error:
            status = error.code.name
            raise
        finally:
            job.over = True
            self._now -= 1
            self._metrics.answered(
                self._models.counted(spec.name), status, entrypoint, time.perf_counter() - started
            )

    async def _answer(self, spec: ModelSpec, read: Read, write: Write[T], job: Job) -> T:
        loop = asyncio.get_running_loop()
        async with self._models.use(spec) as version:
            engine = version.engine
            assert engine is not None  # while it is used it is not unloaded

            def prepare() -> tuple[Asked, Rows]:
                job.check()
                asked = read(engine.signatures)
                return asked, engine.prepare(asked.signature, asked.inputs, job.check)

            def finish() -> T:
                job.check()
                outputs = engine.finish(asked.signature, rows, found, job.check)
                return write(version, asked, {alias: outputs[alias] for alias in asked.outputs})

            asked, rows = await loop.run_in_executor(self._pictures, prepare)
            began = time.perf_counter()
            if self._batcher is not None:
                found = await self._batcher.run(engine, rows)
            else:
                found = await loop.run_in_executor(self._runs, _run, engine, rows, job)
            self._metrics.ran_model(spec.name, engine.runtime, time.perf_counter() - began)
            return await loop.run_in_executor(self._pictures, finish)

    def close(self) -> None:
        for pool in (self._pictures, self._runs):
            pool.shutdown(wait=False, cancel_futures=True)


def _run(engine: Engine, rows: Rows, job: Job) -> Arrays:
    job.check()
    return engine.run(rows.key, rows.arrays)
