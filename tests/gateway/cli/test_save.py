"""Results become files with fitting names."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.cli import save
from gateway.cli.console import Stop
from gateway.client import Made, Result


def result(*roles: str, media_type: str = "image/png") -> Result:
    pictures = [Made(f"{at}".encode(), media_type, role) for at, role in enumerate(roles)]
    return Result({"operation": "x"}, pictures)


def names(paths: list[Path]) -> list[str]:
    return [path.name for path in paths]


def test_a_name_without_an_ending_gets_the_pictures_own(tmp_path: Path) -> None:
    assert names(save.write(result("picture", media_type="image/jpeg"), tmp_path / "a", "s")) == ["a.jpg"]


def test_several_pictures_are_numbered_and_maps_are_called_maps(tmp_path: Path) -> None:
    made = result("picture", "picture", "map")
    assert names(save.write(made, tmp_path / "a.png", "s")) == ["a-1.png", "a-2.png", "a-map-1.png"]
    assert names(save.write(made, tmp_path / "folder", "s")) == ["s-1.png", "s-2.png", "s-map-1.png"]


def test_a_folder_gets_files_called_after_what_they_were_made_from(tmp_path: Path) -> None:
    assert save.write(result("picture"), tmp_path, "photo-cleanup") == [tmp_path / "photo-cleanup.png"]
    assert save.write(result("picture"), Path(f"{tmp_path}/new/"), "s")[0].exists()


def test_without_a_place_nothing_is_overwritten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert names(save.write(result("picture"), None, "s")) == ["s.png"]
    assert names(save.write(result("picture"), None, "s")) == ["s-2.png"]


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(Stop, match="There is no folder"):
        save.write(result("picture"), tmp_path / "none" / "a.png", "s")


def test_no_half_written_file_is_left(tmp_path: Path) -> None:
    save.write(result("picture"), tmp_path / "a.png", "s")
    assert names(sorted(tmp_path.iterdir())) == ["a.png"]
