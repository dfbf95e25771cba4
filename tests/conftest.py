"""Fixtures that every test may use."""

import importlib.util
import sys
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session")
def hostile_pictures() -> list[Any]:
    """The corpus of tests/hostile.py: each has `name`, `data`, `expect`, `size`, `colours`, `tolerance`."""
    spec = importlib.util.spec_from_file_location("darkroom_hostile", Path(__file__).with_name("hostile.py"))
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    corpus: list[Any] = module.corpus()
    return corpus


@pytest.fixture(scope="session")
def samples() -> Path:
    """The folder with real photographs."""
    return Path(__file__).parent.parent / "docs" / "samples"
