"""One stack for the native interface, entered with keys: an admin's, Ann's and Ben's.

Beside the real services it has the toy.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.end_to_end.native.asking import ADMIN, entered


@pytest.fixture(scope="session")
def native(begin_stack: Any, toy: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    stack = begin_stack(
        tmp_path_factory.mktemp("native"),
        *("gateway", "cleanup", "rmbg", "toy"),
        admin_key=ADMIN,
        webhook_allow_private="true",
        capacity="2",
        also=toy,
    )
    stack.wait(lambda: "Darkroom is ready" in stack.said)
    yield stack
    stack.stop()


@pytest.fixture(scope="session")
def admin(native: Any) -> Iterator[httpx.Client]:
    with entered(native, ADMIN) as client:
        yield client


@pytest.fixture(scope="session")
def ann(native: Any, admin: httpx.Client) -> Iterator[httpx.Client]:
    with entered(native, admin.post("/v1/admin/keys", json={"name": "ann"}).json()["secret"]) as client:
        yield client


@pytest.fixture(scope="session")
def ben(native: Any, admin: httpx.Client) -> Iterator[httpx.Client]:
    with entered(native, admin.post("/v1/admin/keys", json={"name": "ben"}).json()["secret"]) as client:
        yield client


@pytest.fixture(scope="session")
def photo(samples: Path) -> bytes:
    return (samples / "astronaut.jpg").read_bytes()


@pytest.fixture(scope="session")
def mask(samples: Path) -> bytes:
    return (samples / "astronaut-mask.png").read_bytes()
