"""Fixtures that every test may use."""

import importlib.util
import io
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from types import ModuleType
from typing import Any

import pytest
from PIL import Image
from xdist.scheduler import LoadFileScheduling

ONE_STACK = {"tests/end_to_end/native", "tests/end_to_end/doors/grpc"}

if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # a worker has a core, and so has what it starts


class ByFile(LoadFileScheduling):
    """Gives a process a file at a time, or a folder at a time where its files share a stack of their own."""

    def _split_scope(self, nodeid: str) -> str:
        file = super()._split_scope(nodeid)
        folder = str(PurePosixPath(file).parent)
        return folder if folder in ONE_STACK else file


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> ByFile | None:
    return ByFile(config, log) if config.getvalue("dist") == "loadfile" else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Where several processes share the tests the long ones come first, so that all end at about the same time."""
    items.sort(key=lambda item: "end_to_end" not in item.path.parts)


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session")
def hostile_pictures() -> list[Any]:
    """The corpus of tests/hostile.py: each has `name`, `data`, `expect`, `size`, `colours`, `tolerance`."""
    corpus: list[Any] = _beside("hostile").corpus()
    return corpus


@pytest.fixture(scope="session")
def samples() -> Path:
    """The folder with real photographs."""
    return Path(__file__).parent.parent / "docs" / "samples"


@pytest.fixture(scope="session")
def postgres() -> Iterator[Any]:
    """A running servers.PostgresServer: `await create()` gives the URL of a new database."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"))
    if not found:
        pytest.skip("PostgreSQL is not installed: apt-get install postgresql")
    folder = Path(tempfile.mkdtemp(prefix="darkroom-postgres-"))
    server = _beside("servers").PostgresServer(found[-1].parent, folder)
    server.start()
    yield server
    server.stop()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def redis_server() -> Iterator[Any]:
    """A running servers.RedisServer; who stops it starts it again."""
    binary = shutil.which("redis-server")
    if binary is None:
        pytest.skip("Redis is not installed: apt-get install redis-server")
    with tempfile.TemporaryDirectory(prefix="darkroom-redis-") as folder:
        server = _beside("servers").RedisServer(binary, folder)
        server.start()
        yield server
        server.stop()


@pytest.fixture(scope="session")
def redis_url(redis_server: Any) -> str:
    url: str = redis_server.url
    return url


def _beside(name: str) -> ModuleType:
    """A module beside this file: tests are imported by path, so there is no package to import it from."""
    found = sys.modules.get(f"darkroom_{name}")
    if found is not None:
        return found
    spec = importlib.util.spec_from_file_location(f"darkroom_{name}", Path(__file__).with_name(f"{name}.py"))
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def png() -> bytes:
    """A small picture."""
    out = io.BytesIO()
    Image.new("RGB", (32, 32), (200, 40, 40)).save(out, "PNG")
    return out.getvalue()
