"""Clients of AUTOMATIC1111's dialect at the stack that all tests share."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import webuiapi


@pytest.fixture(scope="package")
def api(stack: Any) -> webuiapi.WebUIApi:
    return webuiapi.WebUIApi(port=stack.port)


@pytest.fixture(scope="package")
def door(stack: Any) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=stack.url, timeout=120) as client:
        yield client
