"""The catalogue: names, aliases, what `auto` is, and files that must be what it says."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from services.errors import Unavailable, UnknownModel
from services.models import ModelEntry, ModelFile, Models, read_catalogue

ENTRIES = [
    ModelEntry(name="small", service="toy", engine="a", licence="MIT", rank=1, aliases=("tiny",)),
    ModelEntry(name="large", service="toy", engine="b", licence="MIT", rank=9),
    ModelEntry(name="other", service="elsewhere", engine="c", licence="MIT"),
]


@pytest.fixture
def models() -> Models:
    found = Models("toy", ENTRIES)
    found.loaded("small")
    return found


def test_auto_is_the_best_that_is_loaded(models: Models) -> None:
    assert models.resolve("auto") == "small"
    models.loaded("large")
    assert models.resolve("auto") == "large"


def test_an_alias_is_the_model(models: Models) -> None:
    assert models.resolve("tiny") == "small"


@pytest.mark.parametrize("name", ["nothing", "other"])
def test_an_unknown_name_is_refused_with_the_names_that_are_loaded(models: Models, name: str) -> None:
    with pytest.raises(UnknownModel, match="small") as caught:
        models.resolve(name)
    assert caught.value.field == "model"


def test_a_known_model_that_is_not_loaded_says_how_to_get_it(models: Models) -> None:
    with pytest.raises(UnknownModel) as caught:
        models.resolve("large")
    assert "darkroom models pull large" in caught.value.what_to_do


def test_a_service_without_models_is_its_own_answer_to_auto() -> None:
    assert Models("toy", []).resolve("auto") == "toy"


def test_describe_says_what_is_loaded(models: Models) -> None:
    assert {entry["name"]: entry["loaded"] for entry in models.describe()} == {"small": True, "large": False}


def test_a_file_is_checked_against_the_catalogue(tmp_path: Path) -> None:
    digest = hashlib.sha256(b"weights").hexdigest()
    entry = ModelEntry(
        name="net",
        service="toy",
        engine="a",
        licence="MIT",
        files=(ModelFile(path="net.onnx", sha256=digest),),
    )
    models = Models("toy", [entry], tmp_path)
    with pytest.raises(Unavailable, match="missing"):
        models.path("net", "net.onnx")
    (tmp_path / "net").mkdir()
    (tmp_path / "net" / "net.onnx").write_bytes(b"other weights")
    with pytest.raises(Unavailable, match="checksum"):
        models.path("net", "net.onnx")
    (tmp_path / "net" / "net.onnx").write_bytes(b"weights")
    assert models.path("net", "net.onnx").read_bytes() == b"weights"


def test_our_catalogue_is_whole() -> None:
    entries = read_catalogue()
    assert {"telea", "navier-stokes", "grabcut"} <= {entry.name for entry in entries}
    for entry in entries:
        assert entry.summary, entry.name
        assert bool(entry.files) == bool(entry.source), f"{entry.name}: files and their source go together"
        assert not entry.source or entry.revision, f"{entry.name} pins no revision"
    known = [name for entry in entries for name in (entry.name, *entry.aliases)]
    assert len(known) == len(set(known)), "two models have one name"


def test_a_fault_in_a_catalogue_stops_the_start_and_says_where(tmp_path: Path) -> None:
    path = tmp_path / "models.yaml"
    path.write_text("net:\n  service: toy\n  engnie: a\n")
    with pytest.raises(SystemExit, match=r"models\.yaml.*net"):
        read_catalogue(path)
