"""The catalogue: names, aliases, what `auto` is, and files that must be what it says."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import pytest

from services.errors import Unavailable, UnknownModel
from services.models import CATALOGUE, ModelEntry, ModelFile, Models, own_catalogues, read_catalogue
from services.models_disk import WEIGHTS

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
    entries = {entry.name: entry for entry in read_catalogue()}
    assert {"telea", "navier-stokes", "grabcut", "micro", "sdxl-base", "clip-interrogator"} <= entries.keys()
    for entry in entries.values():
        assert entry.summary, entry.name
        named = bool(entry.files or entry.wanted)
        assert named == bool(entry.source), f"{entry.name}: files and their source go together"
        assert not (entry.folder and entry.source), f"{entry.name} is here or there"
        for part in (*entry.parts.values(), *([entry.base] if entry.base else [])):
            assert part in entries, f"{entry.name} names {part}"
        if entry.kind == "model":
            assert all(entries[part].kind == "part" for part in entry.parts.values()), entry.name
    known = [name for entry in entries.values() for name in (entry.name, *entry.aliases)]
    assert len(known) == len(set(known)), "two models have one name"


def test_no_name_stands_twice_in_our_catalogue() -> None:
    """YAML would take the last of two without a word."""
    names = re.findall(r"^([\w.-]+):", CATALOGUE.read_text(), re.MULTILINE)
    assert len(names) == len(set(names)) == len(read_catalogue())


def test_distilled_models_ask_for_few_steps_and_no_guidance() -> None:
    entries = {entry.name: entry for entry in read_catalogue()}
    for name in ("sdxl-turbo", "sdxl-lightning"):
        assert 1 <= entries[name].defaults["steps"] <= 4
        assert entries[name].defaults["guidance"] == 0


def test_what_comes_with_the_package_is_in_it() -> None:
    for entry in read_catalogue():
        if entry.folder:
            files = [path for path in Path(entry.folder).rglob("*") if path.suffix in {*WEIGHTS, ".onnx"}]
            assert files, entry.name


def test_a_part_or_a_lora_is_no_model_to_ask_for() -> None:
    part = ModelEntry(name="vae", service="toy", engine="a", licence="MIT", kind="part", rank=99)
    models = Models("toy", [*ENTRIES, part])
    models.loaded("vae")
    models.loaded("small")
    assert models.resolve("auto") == "small"
    with pytest.raises(UnknownModel, match="is a part"):
        models.resolve("vae")
    assert "vae" not in [entry["name"] for entry in models.describe()]


def test_a_model_that_is_offered_can_be_asked_for_and_one_in_memory_goes_first() -> None:
    models = Models("toy", ENTRIES)
    models.offered("large")
    assert models.resolve("auto") == "large"
    models.loaded("small")
    assert models.resolve("auto") == "small"
    assert models.resolve("large") == "large"
    models.unloaded("small")
    with pytest.raises(UnknownModel, match="On disk: large"):
        models.resolve("small")


def test_a_file_in_the_folder_of_loras_is_listed_by_its_name(tmp_path: Path) -> None:
    (tmp_path / "loras").mkdir()
    (tmp_path / "loras" / "ink.safetensors").touch()
    described = {entry["name"]: entry for entry in Models("sdxl", read_catalogue(), tmp_path).describe()}
    assert described["ink"]["kind"] == "lora"
    assert described["ink"]["available"]
    assert not described["sdxl-base"]["available"]
    assert "ink" not in {entry["name"] for entry in Models("caption", read_catalogue(), tmp_path).describe()}


def test_one_model_can_serve_two_services() -> None:
    entry = ModelEntry(name="both", service="toy", also_for=("game",), engine="a", licence="MIT")
    assert [e.name for service in ("toy", "game", "else") for e in Models(service, [entry])] == [
        "both",
        "both",
    ]


def test_a_catalogue_of_ones_own_adds_and_replaces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine").mkdir()
    own = tmp_path / "own.yaml"
    own.write_text(
        "mine: {service: sdxl, engine: diffusers, licence: mine, folder: mine}\n"
        "sdxl-base: {service: sdxl, engine: diffusers, licence: mine, folder: /elsewhere}\n"
    )
    monkeypatch.setenv("DARKROOM_MODELS_FILE", str(own))
    (tmp_path / "models.yaml").write_text("beside: {service: sdxl, engine: diffusers, licence: mine}\n")
    entries = {entry.name: entry for entry in read_catalogue(*own_catalogues(tmp_path))}
    assert Path(entries["mine"].folder) == tmp_path / "mine"
    assert entries["sdxl-base"].folder == "/elsewhere"
    assert "beside" in entries
    monkeypatch.setenv("DARKROOM_MODELS_FILE", "/not/there.yaml")
    with pytest.raises(SystemExit, match="not/there"):
        own_catalogues(tmp_path)


def test_a_fault_in_a_catalogue_stops_the_start_and_says_where(tmp_path: Path) -> None:
    path = tmp_path / "models.yaml"
    path.write_text("net:\n  service: toy\n  engnie: a\n")
    with pytest.raises(SystemExit, match=r"models\.yaml.*net"):
        read_catalogue(path)
