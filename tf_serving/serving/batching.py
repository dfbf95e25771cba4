"""Requests that come together are run together: in go requests' rows, out come each request's rows of
outputs.

A queue for each thing that can share a run; all share the batch threads, in turn. A queue's last batch is
open: it takes rows until it is full, and goes to a free thread when it is full or its oldest rows have waited
`batch_timeout_micros`. When `max_enqueued_batches` wait, more is refused. This is SharedBatchScheduler's rule
(tensorflow/core/kernels/batching_util).

Everything here happens on the event loop, but for the runs themselves.
"""

from __future__ import annotations

import asyncio
import itertools
from collections import deque
from collections.abc import Hashable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tf_serving.serving.engines import Arrays, Engine, Rows
from tf_serving.serving.metrics import Metrics
from tf_serving.serving.status import Code, Refused, invalid
from tf_serving.serving.tensors import Array


@dataclass(frozen=True, slots=True)
class Parameters:
    """BatchingParameters; the defaults are SharedBatchScheduler's."""

    max_batch_size: int = 1000
    batch_timeout_micros: int = 0
    max_enqueued_batches: int = 10
    num_batch_threads: int = 2
    thread_pool_name: str = "model_server_batch_threads"
    allowed_batch_sizes: tuple[int, ...] = ()


@dataclass(slots=True)
class Task:
    rows: Rows
    done: asyncio.Future[Arrays]
    since: float


@dataclass(slots=True)
class Batch:
    tasks: list[Task] = field(default_factory=list)
    size: int = 0

    @property
    def since(self) -> float:
        return self.tasks[0].since


class Queue:
    """What waits for one key of one engine; never empty."""

    def __init__(self, engine: Engine, key: tuple[Any, ...]) -> None:
        self.engine, self.key = engine, key
        self.batches: deque[Batch] = deque()

    def put(self, task: Task, parameters: Parameters) -> None:
        if not self.batches or self.batches[-1].size + task.rows.count > parameters.max_batch_size:
            if len(self.batches) >= parameters.max_enqueued_batches:
                raise Refused(
                    Code.UNAVAILABLE, "The batch scheduling queue to which this task was submitted is full"
                )
            self.batches.append(Batch())
        self.batches[-1].tasks.append(task)
        self.batches[-1].size += task.rows.count

    def ready_at(self, parameters: Parameters) -> float:
        """When its first batch may go; 0 where that is now."""
        first = self.batches[0]
        if len(self.batches) > 1 or first.size >= parameters.max_batch_size:
            return 0.0
        return first.since + parameters.batch_timeout_micros / 1e6


class Batcher:
    """One for the server."""

    def __init__(self, parameters: Parameters, metrics: Metrics) -> None:
        self._parameters, self._metrics = parameters, metrics
        self._pool = ThreadPoolExecutor(parameters.num_batch_threads, "batch")
        self._free = parameters.num_batch_threads
        self._queues: dict[Hashable, Queue] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._running: set[asyncio.Task[None]] = set()

    async def run(self, engine: Engine, rows: Rows) -> Arrays:
        """The outputs of these rows. A caller that is cancelled takes its rows out of the queue."""
        if not rows.batchable:  # batching_util.h, ComputeTensorBatchSize
            raise invalid("Batching Run() input tensors must have at least one dimension")
        if rows.count > self._parameters.max_batch_size:
            raise invalid(
                f"Task size {rows.count} is larger than maximum input batch size {self._parameters.max_batch_size}"
            )
        loop = asyncio.get_running_loop()
        name = (id(engine), rows.key)
        queue = self._queues.get(name) or Queue(engine, rows.key)
        _drop_cancelled(queue)
        task = Task(rows, loop.create_future(), loop.time())
        queue.put(task, self._parameters)
        self._queues[name] = queue
        self._dispatch()
        return await task.done

    def _dispatch(self) -> None:
        """Gives what is ready to threads that are free, and wakes itself when the next will be."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        now, soonest = asyncio.get_running_loop().time(), float("inf")
        for name, queue in list(self._queues.items()):
            _drop_cancelled(queue)
            if not queue.batches:
                del self._queues[name]
                continue
            if self._free == 0:
                return
            at = queue.ready_at(self._parameters)
            if at > now:
                soonest = min(soonest, at)
                continue
            self._start(queue, queue.batches.popleft())
            del self._queues[name]
            if queue.batches:  # behind the others
                self._queues[name] = queue
                soonest = now
        if soonest < float("inf") and self._free:
            self._timer = asyncio.get_running_loop().call_at(soonest, self._dispatch)

    def _start(self, queue: Queue, batch: Batch) -> None:
        self._free -= 1
        task = asyncio.get_running_loop().create_task(self._process(queue.engine, queue.key, batch))
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def _process(self, engine: Engine, key: tuple[Any, ...], batch: Batch) -> None:
        loop = asyncio.get_running_loop()
        for task in batch.tasks:
            self._metrics.queued(self._parameters.thread_pool_name, loop.time() - task.since)
        try:
            found = await loop.run_in_executor(self._pool, self._run, engine, key, batch)
        except Exception as error:  # noqa: BLE001 - whatever it is, those who wait are told
            found = [error] * len(batch.tasks)
        finally:
            self._free += 1
        for task, outputs in zip(batch.tasks, found, strict=True):
            if task.done.cancelled():
                continue
            if isinstance(outputs, Exception):
                task.done.set_exception(outputs)
            else:
                task.done.set_result(outputs)
        self._dispatch()

    def _run(self, engine: Engine, key: tuple[Any, ...], batch: Batch) -> list[Arrays | Exception]:
        """In a batch's thread. Where several fail together each is run alone, so that one picture harms no other."""
        alive = [task for task in batch.tasks if not task.done.cancelled()]
        try:
            outputs = iter(self._together(engine, key, [task.rows for task in alive]))
            found: dict[int, Arrays | Exception] = {id(task): next(outputs) for task in alive}
        except Refused as error:
            found = {id(task): self._alone(engine, key, task, error, len(alive)) for task in alive}
        return [found.get(id(task), {}) for task in batch.tasks]

    def _alone(
        self, engine: Engine, key: tuple[Any, ...], task: Task, error: Refused, of: int
    ) -> Arrays | Exception:
        if of == 1:
            return error
        try:
            return self._together(engine, key, [task.rows])[0]
        except Refused as own:
            return own

    def _together(self, engine: Engine, key: tuple[Any, ...], tasks: list[Rows]) -> list[Arrays]:
        counts = [rows.count for rows in tasks]
        total = sum(counts)
        padding = self._padding(total)
        merged = (
            {alias: _joined([rows.arrays[alias] for rows in tasks], padding) for alias in tasks[0].arrays}
            if tasks
            else {}
        )
        if not merged:
            return []
        self._metrics.ran(total)
        outputs = engine.run(key, merged)
        for alias, array in outputs.items():
            if array.ndim == 0 or len(array) != total + padding:
                raise Refused(
                    Code.FAILED_PRECONDITION,
                    f"Batched output tensor's 0th dimension does not equal the sum of the 0th dimension sizes of the "
                    f"input tensors: {alias}",
                )
        edges = np.cumsum([0, *counts])
        return [
            {alias: array[start:end] for alias, array in outputs.items()}
            for start, end in itertools.pairwise(edges)
        ]

    def _padding(self, total: int) -> int:
        return next((size - total for size in self._parameters.allowed_batch_sizes if size >= total), 0)

    @property
    def waiting(self) -> int:
        return sum(len(batch.tasks) for queue in self._queues.values() for batch in queue.batches)

    def close(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)


def _drop_cancelled(queue: Queue) -> None:
    for batch in queue.batches:
        if any(task.done.cancelled() for task in batch.tasks):
            batch.tasks = [task for task in batch.tasks if not task.done.cancelled()]
            batch.size = sum(task.rows.count for task in batch.tasks)
    queue.batches = deque(batch for batch in queue.batches if batch.tasks)


def _joined(arrays: list[Array], padding: int) -> Array:
    if padding:
        arrays = [*arrays, np.repeat(arrays[-1][:1], padding, axis=0)]
    return arrays[0] if len(arrays) == 1 else np.concatenate(arrays)
