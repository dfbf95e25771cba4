"""Fixtures for the engines of the cleanup service."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.services.conftest import process


@pytest.fixture(scope="session")
def start_service() -> Callable[..., Any]:
    return process
