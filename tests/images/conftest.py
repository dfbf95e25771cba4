"""The images as compose starts them; `make images` has to have built them."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.images.engine import START, Composed, composed
from tests.servers import free_port


@pytest.fixture(scope="session")
def stack() -> Iterator[Composed]:
    """All of compose.yaml, healthy."""
    ports = {
        name: str(free_port()) for name in ("HTTP_PORT", "GRPC_PORT", "INFERENCE_PORT", "PROMETHEUS_PORT")
    }
    share = {"OMP_NUM_THREADS": "1", "CPUS": str(min(2, os.cpu_count() or 1))}
    with composed("darkroom-images", ports | share) as made:
        try:
            made.compose("up", "--detach", "--wait", "--wait-timeout", f"{START * 2:.0f}")
        except RuntimeError:
            print(made.compose("ps", "--all"), made.compose("logs", "--tail", "20", check=False))
            raise
        yield made
