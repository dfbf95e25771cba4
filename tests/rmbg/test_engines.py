"""Which engines a service has: by what is on its disk, in how much memory, and never a file that is not the one."""

from __future__ import annotations

import hashlib
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import helper
from PIL import Image

from gateway.cli.main import main
from services.errors import Unavailable, UnknownModel
from services.models import ModelEntry, ModelFile, Models, NetInput, read_catalogue
from services.operations import RemoveBackground
from services.pictures import Picture
from services.rmbg.engines import Engines, engines
from services.settings import NetSettings
from tests.gateway.cli.test_models import COMMIT, StandIn

SIDE = 32


@pytest.fixture
def tiny(write_net: Any) -> Path:
    """A net of BRIA's form in small: red is subject."""
    path: Path = write_net(
        [helper.make_node("Slice", ["input", "from", "to", "axis"], ["output"])],
        inputs={"input": [1, 3, SIDE, SIDE]},
        outputs={"output": [1, 1, SIDE, SIDE]},
        constants={
            "from": np.array([0]),
            "to": np.array([1]),
            "axis": np.array([1]),
            "ballast": np.random.default_rng(0).random(
                30_000, dtype=np.float32
            ),  # so that a cut is within it
        },
    )
    return path


def entry(name: str, data: bytes, rank: int = 1, memory: int = 100) -> ModelEntry:
    return ModelEntry(
        name=name,
        service="rmbg",
        engine="onnx-matte",
        licence="MIT",
        source="someone/nets",
        files=(ModelFile(path="net.onnx", sha256=hashlib.sha256(data).hexdigest(), size=len(data)),),
        single_file="net.onnx",
        takes=NetInput(side=SIDE, mean=(0, 0, 0), std=(1, 1, 1), gives="levels"),
        memory_mb=memory,
        rank=rank,
    )


def on_disk(folder: Path, data: bytes, *entries: ModelEntry) -> Models:
    for one in entries:
        (folder / one.name).mkdir(parents=True)
        (folder / one.name / "net.onnx").write_bytes(data)
    return Models("rmbg", list(entries), folder)


def test_what_comes_with_darkroom_is_open_at_the_start_and_the_rest_is_not_there() -> None:
    there = engines()
    assert set(there) == {"grabcut", "micro-matte"}
    with pytest.raises(KeyError):
        there["birefnet"]


def test_the_best_is_open_at_the_start_and_another_when_it_is_asked_for(tiny: Path, tmp_path: Path) -> None:
    data = tiny.read_bytes()
    models = on_disk(tmp_path, data, entry("good", data, rank=9), entry("other", data))
    there = engines(models)
    assert (there.best(), models.is_loaded("good")) == ("good", True)
    assert (models.is_offered("other"), models.is_loaded("other")) == (True, False)
    assert there["other"] is there["other"]
    assert models.is_loaded("other")


def test_where_memory_is_bounded_the_one_used_longest_ago_leaves(tiny: Path, tmp_path: Path) -> None:
    data = tiny.read_bytes()
    models = on_disk(tmp_path, data, *(entry(name, data, rank) for rank, name in enumerate("abc", 1)))
    there = Engines(models, NetSettings(memory_mb=200), threads=1)  # c, the best, is open
    there["a"], there["c"], there["b"]
    assert [name for name in "abc" if models.is_loaded(name)] == ["b", "c"]
    assert there["a"].mask(Image.new("RGB", (9, 5)), lambda _done, _total: None).size == (9, 5)
    assert [name for name in "abc" if models.is_loaded(name)] == ["a", "b"]


def test_auto_is_the_best_on_the_disk_whether_it_is_in_memory_or_not(tiny: Path, tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of BentoML's own dependencies
        from services.rmbg.service import RmbgService
    data = tiny.read_bytes()
    models = on_disk(tmp_path, data, entry("best", data, rank=9), entry("other", data))
    service = RmbgService()
    service.models, service.engines = models, Engines(models, NetSettings(memory_mb=100), threads=1)
    service.engines["other"]
    assert not models.is_loaded("best")
    image = Picture(pixels=Image.new("RGB", (4, 4)))
    assert service.choose(RemoveBackground(image=image)) == "best"
    with pytest.raises(UnknownModel):
        service.choose(RemoveBackground(image=image, model="rmbg-2.0"))


@pytest.mark.parametrize("spoil", ["changed", "cut"])
def test_a_file_that_is_not_the_one_of_the_catalogue_stops_the_start(
    tiny: Path, tmp_path: Path, spoil: str
) -> None:
    data = tiny.read_bytes()
    models = on_disk(tmp_path, data, entry("toy", data))
    file = tmp_path / "toy" / "net.onnx"
    if spoil == "changed":
        file.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    else:
        file.write_bytes(data[:-100])
    with pytest.raises(Unavailable, match=r"net\.onnx") as caught:
        engines(models)
    assert "darkroom models pull toy" in caught.value.what_to_do


def test_a_net_that_is_fetched_in_part_is_not_on_offer_and_does_not_stop_the_start(
    tiny: Path, tmp_path: Path
) -> None:
    data = tiny.read_bytes()
    whole, part = entry("whole", data), entry("part", data, rank=9)
    models = on_disk(tmp_path, data, whole, part)
    (tmp_path / "part" / "net.onnx").rename(tmp_path / "part" / "net.onnx.partial")
    assert list(engines(models)) == ["whole"]
    with pytest.raises(UnknownModel) as caught:
        models.resolve("part")
    assert "darkroom models pull part" in caught.value.what_to_do


# ── `darkroom models pull` of such a net, from a stand-in for the hub ────────────────────────────────────────────────

Say = Callable[..., str]
CATALOGUE = """
rmbg-1.4:
  service: rmbg
  engine: onnx-matte
  licence: bria-rmbg-1.4 (non-commercial)
  summary: A small one in its place.
  source: briaai/RMBG-1.4
  revision: {commit}
  files: [{{path: onnx/model.onnx, size: {size}, sha256: {sha256}}}]
  single_file: onnx/model.onnx
  takes: {{side: 32, mean: [0.5, 0.5, 0.5], std: [1, 1, 1], gives: levels}}
"""


@pytest.fixture
def hub(tiny: Path) -> Iterator[StandIn]:
    made = StandIn()
    made.repos["briaai/RMBG-1.4"] = {"onnx/model.onnx": tiny.read_bytes(), "model.pth": b"a pickle"}
    made.commits["briaai/RMBG-1.4"] = COMMIT
    yield made
    made.close()


@pytest.fixture
def models(tmp_path: Path, tiny: Path, hub: StandIn, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that is pulled into; the catalogue pins the tiny net."""
    data = tiny.read_bytes()
    own = CATALOGUE.format(commit=COMMIT, size=len(data), sha256=hashlib.sha256(data).hexdigest())
    (tmp_path / "own.yaml").write_text(own)
    for name in ("HF_TOKEN", "HF_ENDPOINT", "DARKROOM_HUB_TOKEN", "DARKROOM_URL", "DARKROOM_MODELS_DISK_GB"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("DARKROOM_MODELS_FILE", str(tmp_path / "own.yaml"))
    monkeypatch.setenv("DARKROOM_MODELS_PATH", str(tmp_path / "models"))
    monkeypatch.setenv("DARKROOM_HUB", hub.address)
    monkeypatch.chdir(tmp_path)
    return tmp_path / "models"


@pytest.fixture
def darkroom(models: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Say:
    def run(*arguments: str, code: int = 0) -> str:
        monkeypatch.setattr(sys, "argv", ["darkroom", "models", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        said = "".join(capsys.readouterr())
        assert (ended.value.code or 0) == code, said
        return said

    return run


def loaded(folder: Path, tmp_path: Path) -> Engines:
    return engines(Models("rmbg", read_catalogue(tmp_path / "own.yaml"), folder))


def test_a_net_that_was_pulled_cuts_out_and_pulling_it_says_its_licence(
    darkroom: Say, models: Path, tmp_path: Path
) -> None:
    assert "non-commercial" in darkroom("pull", "rmbg-1.4")
    assert not (models / "rmbg-1.4" / "model.pth").exists()
    assert "whole" in darkroom("verify", "rmbg-1.4")
    there = loaded(models, tmp_path)
    pixels = np.zeros((40, 60, 3), np.uint8)
    pixels[:, :30, 0] = 255
    mask = np.asarray(there["rmbg-1.4"].mask(Image.fromarray(pixels), lambda _done, _total: None))
    assert (mask[:, :26].min(), mask[:, 34:].max()) > (200, -1)
    assert mask[:, 34:].max() < 50
    assert there.best() != "rmbg-1.4", "it is never taken unasked"


def test_a_download_that_was_cut_off_goes_on_where_it_ended(
    darkroom: Say, models: Path, hub: StandIn
) -> None:
    hub.break_after = [50_000, 30_000]
    darkroom("pull", "rmbg-1.4")
    ranges = [asked for path, asked in hub.asked if path.startswith("/cdn/") and asked]
    assert ranges == ["bytes=50000-", "bytes=80000-"]
    assert "whole" in darkroom("verify", "rmbg-1.4")


def test_a_hub_with_another_file_than_the_pinned_one_gives_nothing(
    darkroom: Say, models: Path, hub: StandIn
) -> None:
    data = hub.repos["briaai/RMBG-1.4"]["onnx/model.onnx"]
    hub.repos["briaai/RMBG-1.4"]["onnx/model.onnx"] = data[:-1] + bytes([data[-1] ^ 1])
    assert "than the catalogue pins" in darkroom("pull", "rmbg-1.4", code=1)
    assert not list(models.rglob("*.onnx"))


def test_what_arrives_with_a_wrong_checksum_never_takes_its_name(
    darkroom: Say, models: Path, hub: StandIn
) -> None:
    hub.spoil = 10
    assert "checksum" in darkroom("pull", "rmbg-1.4", code=1)
    assert not list(models.rglob("*.onnx"))


def test_a_pulled_file_that_changes_on_the_disk_stops_the_next_start(
    darkroom: Say, models: Path, tmp_path: Path
) -> None:
    darkroom("pull", "rmbg-1.4")
    file = models / "rmbg-1.4" / "onnx" / "model.onnx"
    file.write_bytes(file.read_bytes()[:-1] + b"\0\0")
    with pytest.raises(Unavailable, match=r"model\.onnx") as caught:
        loaded(models, tmp_path)
    assert "darkroom models pull rmbg-1.4" in caught.value.what_to_do
    darkroom("pull", "rmbg-1.4")
    assert loaded(models, tmp_path)["rmbg-1.4"]
