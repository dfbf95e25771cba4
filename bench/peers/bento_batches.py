"""BentoML's adaptive batching of one net: a typed method with `batchable=True`, asked by a service in front of it.

A net behind BentoML's batching is a service of its own, in a process of its own, which a service that depends on it
reaches with pickled tensors: BentoML batches what comes through that door, and only that.
"""

from __future__ import annotations

import os
import statistics
import sys
import threading
import time
from pathlib import Path

import bentoml
import numpy as np
from numpy.typing import NDArray

from bench.processes import free_port, running

CALLERS = 8
FILE, SIDES = "DARKROOM_BENCH_NET", "DARKROOM_BENCH_SIDES"


@bentoml.service(workers=1, traffic={"timeout": 60})
class Net:
    def __init__(self) -> None:
        from services.onnx import open_net

        self.net = open_net(Path(os.environ[FILE]), "bench", threads=os.cpu_count() or 1)

    @bentoml.api(batchable=True, max_batch_size=8, max_latency_ms=60_000)
    def run(self, items: np.ndarray) -> np.ndarray:  # type: ignore[type-arg]
        return np.asarray(self.net.run(items)[0])


@bentoml.service(workers=1, threads=CALLERS, traffic={"timeout": 60})
class Front:
    net = bentoml.depends(Net)

    def __init__(self) -> None:
        height, width = (int(side) for side in os.environ[SIDES].split(","))
        self.item = np.random.default_rng(0).random((1, 3, height, width), dtype=np.float32)

    @bentoml.api
    def ask(self) -> int:
        return int(self.net.run(self.item).size)


def measured(net: Path, item: NDArray[np.float32], seconds: float) -> tuple[float, float]:
    """Calls a second, and the median's milliseconds."""
    port = free_port()
    command = [
        sys.executable,
        "-m",
        "bentoml",
        "serve",
        "bench.peers.bento_batches:Front",
        "--port",
        str(port),
    ]
    needed = {FILE: str(net), SIDES: f"{item.shape[2]},{item.shape[3]}"}
    taken: list[float] = []
    failed: list[str] = []
    with running(command, core=None, port=port, environment=needed, patience=60) as server:
        clients = [
            bentoml.SyncHTTPClient(server.url, server_ready_timeout=30, timeout=120) for _ in range(CALLERS)
        ]
        began = time.perf_counter() + 3  # what comes before is warm-up, in which BentoML learns its window

        def caller(client: bentoml.SyncHTTPClient) -> None:
            while (start := time.perf_counter()) < began + seconds:
                try:
                    client.ask()
                except bentoml.exceptions.BentoMLException as error:
                    failed.append(str(error))
                    continue
                if start >= began:
                    taken.append((time.perf_counter() - start) * 1000)

        threads = [threading.Thread(target=caller, args=(client,)) for client in clients]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        rate = len(taken) / (time.perf_counter() - began)
        for client in clients:
            client.close()
    if failed:
        print(f"BentoML answered {len(failed)} calls with an error: {failed[0]}", file=sys.stderr)
    return rate, statistics.median(taken)
