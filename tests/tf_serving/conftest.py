"""Servers for the tests: `toy` is shared and stays as it is, `start` starts one to be changed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.tf_serving.running import Running, put_version


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Running]]:
    """Starts servers with flags; they are stopped at the end, and must end well."""
    if find_spec("ai_edge_litert") is None:
        pytest.skip("LiteRT is not installed: pip install ai-edge-litert")
    running: list[Running] = []

    def started(*flags: str) -> Running:
        running.append(Running(*flags, tmp=tmp_path))
        return running[-1]

    yield started
    for server in running:
        alive = server.process.poll() is None
        assert not alive or server.stop() == 0, server.log


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A server with the model `toy`: version 1 (stable) swaps colours, version 2 (canary) gives what it gets."""
    if find_spec("ai_edge_litert") is None:
        pytest.skip("LiteRT is not installed: pip install ai-edge-litert")
    folder = tmp_path_factory.mktemp("toy")
    put_version(folder / "models" / "1", "swap")
    put_version(folder / "models" / "2", "same")
    (folder / "models.config").write_text(
        'model_config_list { config { name: "toy" base_path: "models" model_platform: "tensorflow"'
        ' model_version_policy { all {} } version_labels { key: "stable" value: 1 }'
        ' version_labels { key: "canary" value: 2 } } }'
    )
    (folder / "monitoring.config").write_text("prometheus_config { enable: true }")
    server = Running(
        f"--model_config_file={folder / 'models.config'}",
        "--allow_version_labels_for_unavailable_models",
        f"--monitoring_config_file={folder / 'monitoring.config'}",
        "--max_message_bytes=4000000",
        "--max_pixels=1000000",
        "--file_system_poll_wait_seconds=0.1",
        tmp=folder,
    )
    yield server
    assert server.stop() == 0, server.log
