"""What a server does with versions when its engines are under the test's hand."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tf_serving.serving import models
from tf_serving.serving.configuration import one_model
from tf_serving.serving.metrics import Metrics
from tf_serving.serving.models import Models, State
from tf_serving.serving.status import Code, Refused
from tf_serving.stubs import ModelSpec

pytestmark = pytest.mark.anyio


class Engine:
    """Says whether it was closed."""

    closed = False

    def close(self) -> None:
        self.closed = True


def folder(base: Path, number: int) -> Path:
    path = base / str(number)
    path.mkdir(parents=True)
    (path / "weights").write_text("whole")
    return path


async def made(base: Path, open_version: Callable[[Path], Any]) -> Models:
    found = Models(open_version, Metrics(), labels_for_unavailable=False)
    try:
        await found.configure(one_model("toy", str(base)))
    except Refused as error:
        assert error.code is Code.UNKNOWN
    return found


def states(found: Models) -> dict[int, str]:
    return {one.version: State(one.state).name for one in found.states(ModelSpec(name="toy"))}


async def test_what_changes_while_it_is_read_is_not_served(tmp_path: Path) -> None:
    path, engines = folder(tmp_path, 1), [Engine(), Engine()]
    opened = []

    def open_version(_folder: Path) -> Engine:
        if not opened:
            (path / "weights").write_text("half of it")
        opened.append(engines[len(opened)])
        return opened[-1]

    found = await made(tmp_path, open_version)
    assert states(found) == {1: "END"} and engines[0].closed
    (status,) = found.states(ModelSpec(name="toy"))
    assert "being copied" in status.status.error_message


async def test_a_folder_that_keeps_failing_is_tried_ever_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, tries = folder(tmp_path, 1), 0
    monkeypatch.setattr(models, "FIRST_PAUSE", 0.0)

    def open_version(_folder: Path) -> Engine:
        nonlocal tries
        tries += 1
        raise RuntimeError("damaged")

    found = await made(tmp_path, open_version)
    for number in range(3):
        await found.poll()
        await found.poll()  # nothing has changed: it is not tried
        assert tries == number + 1
        (path / "weights").write_text("x" * number)
    monkeypatch.setattr(models, "FIRST_PAUSE", 60.0)
    await found.poll()
    (path / "weights").write_text("and more")
    await found.poll()
    assert tries == 4  # changed, but its pause is not over
    assert "RuntimeError: damaged" in found.states(ModelSpec(name="toy"))[0].status.error_message


async def test_a_version_in_use_is_unloaded_after_its_last_request(tmp_path: Path) -> None:
    engines: dict[str, Engine] = {}

    def open_version(path: Path) -> Engine:
        return engines.setdefault(path.name, Engine())

    folder(tmp_path, 1)
    found = await made(tmp_path, open_version)
    async with found.use(ModelSpec(name="toy")) as version:
        folder(tmp_path, 2)
        await found.poll()
        assert states(found) == {1: "UNLOADING", 2: "AVAILABLE"}
        assert version.engine is not None and not engines["1"].closed
        assert found.find(ModelSpec(name="toy")).number == 2
    for _ in range(5):
        await found.poll()
    assert states(found) == {1: "END", 2: "AVAILABLE"} and engines["1"].closed and not engines["2"].closed
