"""One stack for gRPC: the gateway, cleanup, and a toy whose steps can be counted."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.end_to_end.doors.grpc.asking import Door, connected


@pytest.fixture(scope="package")
def house(begin_stack: Any, toy: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """The gateway, cleanup, and a toy whose steps can be counted."""
    started = begin_stack(tmp_path_factory.mktemp("grpc"), "gateway", "cleanup", "toy", also=toy)
    try:
        started.wait(lambda: "Darkroom is ready" in started.said)
        yield started
    finally:
        started.stop()


@pytest.fixture(scope="package")
def door(house: Any) -> Iterator[Door]:
    with connected(house.grpc) as found:
        yield found
