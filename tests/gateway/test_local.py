"""Where the gateway of this machine is found."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.cli.lock import FolderLock
from gateway.client import Darkroom
from services.errors import BadInput


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("URL", "HOST", "PORT", "DATA", "ROOT_PATH", "TLS_CERT"):
        monkeypatch.delenv(f"DARKROOM_{name}", raising=False)


def found() -> str:
    with Darkroom() as darkroom:
        return str(darkroom.driver.http.base_url).rstrip("/")


def test_where_nothing_is_said_it_is_the_usual_place() -> None:
    assert found() == "http://127.0.0.1:8080"


def test_a_running_supervisor_is_found_by_its_note(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".darkroom").mkdir()
    monkeypatch.setenv("DARKROOM_ROOT_PATH", "/pictures")
    with FolderLock(tmp_path / ".darkroom", "http://127.0.0.1:9123"):
        assert found() == "http://127.0.0.1:9123/pictures"
        monkeypatch.setenv("DARKROOM_PORT", "9124")
        assert found() == "http://127.0.0.1:9124/pictures"
        monkeypatch.setenv("DARKROOM_URL", "https://pictures.example.org")
        assert found() == "https://pictures.example.org"
    monkeypatch.undo()


def test_services_alone_have_no_gateway_to_be_found(tmp_path: Path) -> None:
    (tmp_path / ".darkroom").mkdir()
    with FolderLock(tmp_path / ".darkroom", "no gateway"):
        assert found() == "http://127.0.0.1:8080"


def test_settings_that_cannot_be_read_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DARKROOM_PORT", "eighty")
    with pytest.raises(BadInput, match="port") as caught:
        Darkroom()
    assert "DARKROOM_URL" in caught.value.what_to_do
