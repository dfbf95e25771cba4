"""What `darkroom up` means to start, without starting it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from gateway.cli.console import Stop
from gateway.cli.plan import plan
from gateway.settings import Settings
from services.installed import module_of, servers
from tf_serving.serving.flags import parse


def settings(tmp_path: Path, **given: Any) -> Settings:
    return Settings(_env_file=None, data=tmp_path, **given)


def test_tensorflow_serving_is_a_server_of_its_own() -> None:
    assert servers() == {"pix2pix": "tf_serving.server"}
    with pytest.raises(SystemExit, match=r"python -m tf_serving\.server"):
        module_of("pix2pix")


def test_its_command_is_one_that_the_embedded_server_understands(tmp_path: Path) -> None:
    (spec,) = plan(settings(tmp_path, max_pixels=5_000_000, drain=7), ["pix2pix"])
    assert spec.name == "pix2pix"
    assert spec.command[1:3] == ("-m", "tf_serving.server")
    flags = parse(spec.command[3:])
    assert spec.address == f"grpc://127.0.0.1:{flags.port}"
    assert flags.enable_batching
    assert flags.end_with_parent
    assert (flags.host, flags.max_pixels, flags.drain_seconds) == ("127.0.0.1", 5_000_000, 7)
    assert flags.model_config_file is not None
    assert flags.model_config_file.name == "embedded.config"
    assert flags.model_config_file.is_file()
    assert spec.ready() == "no answer yet"


def test_a_configuration_of_ones_own_takes_the_place_of_ours(tmp_path: Path) -> None:
    own = tmp_path / "models.config"
    own.touch()
    (spec,) = plan(settings(tmp_path, pix2pix_config=own, pix2pix_models=["dragons"]), ["pix2pix"])
    assert parse(spec.command[3:]).model_config_file == own


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"pix2pix_models": ["dragons"]}, "'dragons' of DARKROOM_PIX2PIX_MODELS is no part of Darkroom"),
        ({"pix2pix_config": Path("/nowhere/models.config")}, "which is no file"),
    ],
)
def test_a_model_that_is_nowhere_stops_the_start(tmp_path: Path, given: dict[str, Any], words: str) -> None:
    with pytest.raises(Stop, match=words):
        plan(settings(tmp_path, **given), ["pix2pix"])


def test_one_that_runs_elsewhere_is_not_started(tmp_path: Path) -> None:
    elsewhere = settings(tmp_path, services={"pix2pix": ["grpc://serving:8500"]}, port=1)
    names = [spec.name for spec in plan(elsewhere, [])]
    assert "gateway" in names
    assert "pix2pix" not in names
