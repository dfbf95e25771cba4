"""Files on disk: read as a whole once, checked by stamps after that, and by their form where nobody told of them."""

from __future__ import annotations

import hashlib
import json
import os
import struct
from pathlib import Path

import pytest

from services import models_disk
from services.errors import Unavailable
from services.models_disk import Manifest, ManifestFile, Shelf, faults_of_form, read_head, safe


def safetensors(size: int = 40) -> bytes:
    head = json.dumps({"a": {"dtype": "U8", "shape": [size], "data_offsets": [0, size]}}).encode()
    return struct.pack("<Q", len(head)) + head + b"\1" * size


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A model with a large file and a small one, as `pull` leaves it."""
    data, text = safetensors(), b"{}"
    (tmp_path / "unet").mkdir()
    (tmp_path / "unet" / "model.safetensors").write_bytes(data)
    (tmp_path / "config.json").write_bytes(text)
    git = hashlib.sha1(b"blob 2\0" + text).hexdigest()
    sha256 = hashlib.sha256(data).hexdigest()
    files = [
        ManifestFile("unet/model.safetensors", len(data), sha256=sha256),
        ManifestFile("config.json", 2, git=git),
    ]
    Manifest("someone/toy", "0" * 40, files).write(tmp_path)
    return tmp_path


def faults(folder: Path, shelf: Shelf | None = None, **how: bool) -> list[str]:
    return [str(fault) for fault in (shelf or Shelf(folder)).faults(folder, Manifest.read(folder), **how)]


def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The files that are read as a whole."""
    found: list[str] = []
    whole = models_disk.differs

    def noting(path: Path, *more: object) -> str:
        found.append(path.name)
        return whole(path, *more)  # type: ignore[arg-type]

    monkeypatch.setattr(models_disk, "differs", noting)
    return found


def test_a_file_is_read_once_and_again_only_when_it_has_changed(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = reads(monkeypatch)
    assert faults(folder) == []
    assert sorted(read) == ["config.json", "model.safetensors"]
    assert faults(folder) == []
    assert len(read) == 2, "another process believes the stamps"
    os.utime(folder / "config.json", (1, 1))
    assert faults(folder) == []
    assert read[2:] == ["config.json"]
    assert faults(folder, anew=True) == []
    assert len(read) == 5


def test_in_a_folder_that_cannot_be_written_stamps_are_kept_in_memory(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError

    monkeypatch.setattr(models_disk, "write_whole", refuse)
    read, shelf = reads(monkeypatch), Shelf(folder)
    assert faults(folder, shelf) == faults(folder, shelf) == []
    assert len(read) == 2


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (lambda path: path.unlink(), "is missing"),
        (lambda path: path.write_bytes(path.read_bytes()[:-1]), "cut short"),
        (lambda path: path.write_bytes(path.read_bytes()[:-1] + b"?"), "checksum"),
    ],
    ids=["missing", "cut", "changed"],
)
@pytest.mark.parametrize("name", ["unet/model.safetensors", "config.json"])
def test_what_is_wrong_with_a_file_is_said_with_its_path(
    folder: Path, name: str, harm: object, said: str
) -> None:
    shelf = Shelf(folder)
    assert faults(folder, shelf) == []
    harm(folder / name)  # type: ignore[operator]
    [fault] = faults(folder, shelf)
    assert str(folder / name) in fault
    assert said in fault
    with pytest.raises(Unavailable) as caught:
        shelf.check("toy", folder)
    assert "darkroom models pull toy" in caught.value.what_to_do


def test_present_looks_at_sizes_only(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read, shelf = reads(monkeypatch), Shelf(folder)
    assert shelf.present(folder)
    (folder / "config.json").write_bytes(b"{ }")
    assert not shelf.present(folder)
    assert read == []


def test_a_folder_of_ones_own_is_checked_by_its_files_form(tmp_path: Path) -> None:
    (tmp_path / "unet").mkdir()
    (tmp_path / "model_index.json").write_text(
        json.dumps(
            {
                "_class_name": "P",
                "unet": ["diffusers", "U"],
                "vae": ["diffusers", "V"],
                "safety_checker": [None, None],
            }
        )
    )
    (tmp_path / "unet" / "model.safetensors").write_bytes(safetensors()[:-3])
    said = [str(fault) for fault in faults_of_form(tmp_path)]
    assert len(said) == 2
    assert "cut short" in said[0]
    assert said[1] == f"{tmp_path / 'vae'} is missing"
    assert "is missing" in str(next(iter(faults_of_form(tmp_path / "nowhere"))))


@pytest.mark.parametrize("data", [b"", b"1234567", struct.pack("<Q", 5) + b"[[]", struct.pack("<Q", 2**63)])
def test_what_is_no_safetensors_file_is_said_so(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes(data)
    with pytest.raises(ValueError, match="safetensors"):
        read_head(path)


@pytest.mark.parametrize("path", ["/etc/passwd", "../other/model", "a/../../b", ""])
def test_a_path_that_leads_out_of_the_folder_is_refused(path: str) -> None:
    with pytest.raises(Unavailable):
        safe(path)


def test_a_damaged_lock_file_says_what_to_do(folder: Path) -> None:
    (folder / models_disk.LOCK).write_text("{")
    with pytest.raises(Unavailable) as caught:
        Manifest.read(folder)
    assert "Delete it" in caught.value.what_to_do
