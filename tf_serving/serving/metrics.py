"""Counters and histograms, written as TensorFlow Serving writes its own
(tensorflow_serving/util/prometheus_exporter.cc).

Its names have colons where its paths have slashes. What it has no name for is called
`darkroom_tfserving_...`.
"""

from __future__ import annotations

import bisect
import threading
from collections.abc import Callable, Iterator, Sequence

Labels = tuple[str, ...]


class Counter:
    kind = "counter"

    def __init__(self, name: str, labels: Labels) -> None:
        self.name, self._labels = name, labels
        self._values: dict[Labels, int] = {}
        self._lock = threading.Lock()

    def add(self, *values: str) -> None:
        with self._lock:
            self._values[values] = self._values.get(values, 0) + 1

    def lines(self) -> Iterator[str]:
        for values, count in sorted(self._values.items()):
            yield f"{self.name}{{{_pairs(self._labels, values)}}} {count}"


class Gauge:
    kind = "gauge"

    def __init__(self, name: str, labels: Labels, read: Callable[[], Sequence[tuple[Labels, float]]]) -> None:
        self.name, self._labels, self._read = name, labels, read

    def lines(self) -> Iterator[str]:
        for values, value in self._read():
            yield f"{self.name}{{{_pairs(self._labels, values)}}} {value:g}"


class Histogram:
    """Buckets from `first`, each `growth` times the one before."""

    kind = "histogram"

    def __init__(self, name: str, labels: Labels, first: float, growth: float, buckets: int) -> None:
        self.name, self._labels = name, labels
        self._limits = [first * growth**n for n in range(buckets)]
        self._counts: dict[Labels, list[int]] = {}
        self._sums: dict[Labels, float] = {}
        self._lock = threading.Lock()

    def add(self, value: float, *labels: str) -> None:
        with self._lock:
            counts = self._counts.setdefault(labels, [0] * (len(self._limits) + 1))
            counts[bisect.bisect_right(self._limits, value)] += 1
            self._sums[labels] = self._sums.get(labels, 0.0) + value

    def lines(self) -> Iterator[str]:
        for values, counts in sorted(self._counts.items()):
            pairs, so_far = _pairs(self._labels, values), 0
            before = f"{pairs}," if pairs else ""
            for limit, count in zip([*self._limits, None], counts, strict=True):
                so_far += count
                edge = "+Inf" if limit is None else f"{limit:g}"
                yield f'{self.name}_bucket{{{before}le="{edge}"}} {so_far}'
            yield f"{self.name}_sum{{{pairs}}} {self._sums[values]:g}"
            yield f"{self.name}_count{{{pairs}}} {so_far}"


class Metrics:
    """All of a server's."""

    def __init__(self) -> None:
        prefix = ":tensorflow:serving:"
        self._requests = Counter(f"{prefix}request_count", ("model_name", "status"))
        self._latency = Histogram(
            f"{prefix}request_latency", ("model_name", "API", "entrypoint"), 10, 1.8, 33
        )
        self._runtime = Histogram(f"{prefix}runtime_latency", ("model_name", "API", "runtime"), 10, 1.8, 33)
        self._queuing = Histogram(
            f"{prefix}batching_session:queuing_latency", ("thread_pool_name",), 100, 1.2, 52
        )
        self._runs = Counter(f"{prefix}batching_session:wrapped_run_count", ())
        self._sizes = Histogram(f"{prefix}batching_session:processed_batch_size", (), 1, 2, 12)
        self._loads = Counter("darkroom_tfserving_load_attempts", ("model_name", "status"))
        self._all: list[Counter | Gauge | Histogram] = [
            self._requests,
            self._latency,
            self._runtime,
            self._queuing,
            self._runs,
            self._sizes,
            self._loads,
        ]

    def gauge(self, name: str, labels: Labels, read: Callable[[], Sequence[tuple[Labels, float]]]) -> None:
        self._all.append(Gauge(f"darkroom_tfserving_{name}", labels, read))

    def answered(self, model: str, status: str, entrypoint: str, seconds: float) -> None:
        """A Predict is over; only what succeeded has a latency."""
        self._requests.add(model, status)
        if status == "OK":
            self._latency.add(seconds * 1e6, model, "Predict", entrypoint)

    def ran_model(self, model: str, runtime: str, seconds: float) -> None:
        self._runtime.add(seconds * 1e6, model, "Predict", runtime)

    def queued(self, pool: str, seconds: float) -> None:
        self._queuing.add(seconds * 1e6, pool)

    def ran(self, rows: int) -> None:
        self._runs.add()
        self._sizes.add(rows)

    def loaded(self, model: str, status: str) -> None:
        self._loads.add(model, status)

    def page(self) -> str:
        lines: list[str] = []
        for metric in self._all:
            if found := list(metric.lines()):
                lines += [f"# TYPE {metric.name} {metric.kind}", *found]
        return "\n".join(lines) + "\n"


def _pairs(names: Labels, values: Labels) -> str:
    return ",".join(f'{name}="{_escaped(value)}"' for name, value in zip(names, values, strict=True))


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
