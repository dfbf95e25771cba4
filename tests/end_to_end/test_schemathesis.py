"""What /openapi.json says is held against what the running gateway does, by schemathesis.

A stack of its own, since schemathesis also makes and revokes keys.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ADMIN = "an-admin-key-for-tests-0123456789abcdef"
# 503 is documented, and given for the services that do not run here; bodies that are too large or too late
# are refused before anything in them is looked at
EXPECTED = """
[checks.not_a_server_error]
expected-statuses = ["2xx", "4xx", 503]
[checks.negative_data_rejection]
expected-statuses = ["4xx", 503]
"""
# the services whose every answer comes at once; what takes its time is asked in a test of its own
LIGHT = ("gateway", "cleanup", "rmbg")
# what the schema cannot say (a mask has its picture's size, a part must be sent) may be refused
EXCLUDED = "positive_data_acceptance"


@pytest.fixture(scope="module")
def guarded(begin_stack: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A stack that is entered with a key."""
    stack = begin_stack(tmp_path_factory.mktemp("guarded"), *LIGHT, admin_key=ADMIN)
    stack.wait(lambda: "Darkroom is ready" in stack.said)
    yield stack
    stack.stop()


@pytest.fixture
def on_postgres(start: Any, postgres: Any) -> Any:
    """The same over PostgreSQL, which is stricter about what it keeps."""
    stack = start(*LIGHT, admin_key=ADMIN, database_url=asyncio.run(postgres.create()))
    stack.wait(lambda: "Darkroom is ready" in stack.said)
    return stack


def hold(stack: Any, folder: Path, *options: str, seconds: float, allowed: str = EXPECTED) -> None:
    """Run schemathesis; what it found, with the call that shows it, is in the failure."""
    (folder / "schemathesis.toml").write_text(allowed)
    done = subprocess.run(
        [
            Path(sys.executable).with_name("st"),
            *("--config-file", "schemathesis.toml", "run", f"{stack.url}/openapi.json"),
            *("-H", f"Authorization: Bearer {ADMIN}", "--seed", "1", "--generation-deterministic"),
            *("--checks", "all", "--exclude-checks", EXCLUDED, "--no-color", "--request-timeout", "30"),
            *options,
        ],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=seconds,
    )
    assert done.returncode == 0, done.stdout[-20_000:] + done.stderr[-2_000:]
    assert "only 401/403" not in done.stdout, "the key was not taken, so nothing was tried"


REVOKES = ("--include-operation-id-regex", "^revoke_key")
ALL_ELSE = ("--exclude-operation-id-regex", "^revoke_key")


@pytest.mark.timeout(240)
def test_the_gateway_does_what_its_openapi_says(guarded: Any, tmp_path: Path) -> None:
    hold(guarded, tmp_path, "--phases", "examples,coverage,fuzzing", "-n", "4", *ALL_ELSE, seconds=220)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_it_does_so_for_many_more_examples_and_for_calls_that_follow_each_other(
    guarded: Any, tmp_path: Path
) -> None:
    phases = "examples,coverage,fuzzing,stateful"
    hold(guarded, tmp_path, "--phases", phases, "-n", "150", *ALL_ELSE, seconds=1100)


@pytest.mark.slow
@pytest.mark.postgres
@pytest.mark.timeout(600)
def test_it_does_so_on_postgres(on_postgres: Any, tmp_path: Path) -> None:
    phases = "examples,coverage,fuzzing,stateful"
    hold(on_postgres, tmp_path, "--phases", phases, "-n", "40", *ALL_ELSE, seconds=550)


def test_keys_are_revoked_as_documented(guarded: Any, tmp_path: Path) -> None:
    hold(guarded, tmp_path, "--phases", "examples,coverage,fuzzing", "-n", "20", *REVOKES, seconds=60)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_operations_that_generate_do_what_the_openapi_says(start: Any, tmp_path: Path) -> None:
    stack = start("gateway", "sdxl", "controlnet", admin_key=ADMIN, deadline="6")
    stack.wait(lambda: "Darkroom is ready" in stack.said)
    paths = "^/v1/(text-to-image|image-to-image|inpaint|control|preprocess)$"
    only = ("--include-path-regex", paths, "--phases", "examples,coverage,fuzzing", "-n", "20")
    hold(stack, tmp_path, *only, seconds=550, allowed=EXPECTED.replace("503", "503, 504"))
