"""Models in memory: loaded once, within a budget, the least recently used leaves, never one in use."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch

from services.diffusion import loader
from services.diffusion.devices import Plan
from services.diffusion.residents import Residents, missing, offer
from services.errors import BadInput, OutOfMemory, Unavailable, UnknownModel
from services.models import ModelEntry, Models, read_catalogue
from tests.diffusion.tiny import controlnet, pipeline


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three models of the same size, and a ControlNet."""
    folder = tmp_path_factory.mktemp("models")
    for name in "abc":
        pipeline("sdxl").save_pretrained(folder / name)
    controlnet("sdxl", 11).save_pretrained(folder / "edges")
    return folder


def entries() -> list[ModelEntry]:
    usual: dict[str, Any] = {"service": "sdxl", "engine": "diffusers", "licence": "none"}
    parts = {"controlnet-canny": "edges"}
    return [
        *(
            ModelEntry(name=name, source="somewhere", parts=parts, aliases=(f"the-{name}",), **usual)
            for name in "abc"
        ),
        ModelEntry(name="edges", kind="part", **usual),
    ]


def residents(disk: Path, budget: int = 10**9, **more: Any) -> Residents:
    models = Models("sdxl", entries(), disk)
    offer(models, safety="off")
    return Residents(models, Plan("cpu", torch.float32, budget), safety="off", **more)


@pytest.fixture(scope="module")
def size(disk: Path) -> int:
    held = residents(disk)
    held.claim("a")
    return held.size


def use(held: Residents, name: str) -> None:
    held.release(held.claim(name))


def test_a_model_stays_and_is_the_same_for_the_next_request(disk: Path) -> None:
    held = residents(disk)
    first, second = held.claim("a"), held.claim("the-a")
    assert first is second
    assert held.names == ["a"]


def test_its_size_is_counted_from_its_parameters(disk: Path, size: int) -> None:
    pipe = pipeline("sdxl")
    parts = (pipe.unet, pipe.vae, pipe.text_encoder, pipe.text_encoder_2)
    assert size == pytest.approx(sum(p.numel() * 4 for part in parts for p in part.parameters()), rel=0.01)


def test_the_least_recently_used_leaves_when_the_next_does_not_fit(disk: Path, size: int) -> None:
    held = residents(disk, budget=int(size * 2.5))
    for name in ("a", "b", "a", "c"):
        use(held, name)
    assert held.names == ["c", "a"]
    assert held.size <= size * 2.5


def test_a_model_in_use_never_leaves(disk: Path, size: int) -> None:
    held = residents(disk, budget=int(size * 2.5))
    kept = held.claim("a")
    for name in ("b", "c", "b"):
        use(held, name)
    assert sorted(held.names) == ["a", "b"]
    held.release(kept)


def test_where_all_are_in_use_a_claim_waits_for_one_to_be_free(disk: Path, size: int) -> None:
    held = residents(disk, budget=int(size * 1.5))
    kept = held.claim("a")
    with ThreadPoolExecutor() as pool:
        waiting = pool.submit(held.claim, "b")
        assert not waiting.done()
        held.release(kept)
        assert waiting.result(20).name == "b"
    assert held.names == ["b"]


def test_and_is_told_who_holds_the_memory_when_none_becomes_free(disk: Path, size: int) -> None:
    held = residents(disk, budget=int(size * 1.5), patience=0.05)
    held.claim("a")
    with pytest.raises(OutOfMemory, match=r"in use \(a\)") as caught:
        held.claim("b")
    assert caught.value.status == 503
    assert held.names == ["a"]


def test_a_model_larger_than_the_budget_is_tried_alone(disk: Path) -> None:
    held = residents(disk, budget=1000)
    use(held, "a")
    use(held, "b")
    assert held.names == ["b"]


def counted(monkeypatch: pytest.MonkeyPatch, gate: threading.Event | None = None) -> list[str]:
    """Which models were loaded; each load waits for the gate."""
    loads: list[str] = []
    load = loader.load

    def counting(models: Models, name: str, plan: Plan) -> Any:
        loads.append(name)
        if gate is not None:
            gate.wait(10)
        return load(models, name, plan)

    monkeypatch.setattr(loader, "load", counting)
    return loads


def test_many_that_ask_at_once_share_one_load(disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gate = threading.Event()
    loads, held = counted(monkeypatch, gate), residents(disk)
    with ThreadPoolExecutor(6) as pool:
        asked = [pool.submit(held.claim, "a") for _ in range(6)]
        gate.set()
        found = [one.result(20) for one in asked]
    assert loads == ["a"]
    assert len(set(map(id, found))) == 1
    assert found[0].users == 6


def test_a_failed_load_is_told_to_all_who_wait_and_the_next_tries_anew(
    disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate, held = threading.Event(), residents(disk)
    with monkeypatch.context() as patch:

        def failing(*_: Any) -> Any:
            gate.wait(10)
            raise Unavailable("the disk is away")

        patch.setattr(loader, "load", failing)
        with ThreadPoolExecutor(3) as pool:
            asked = [pool.submit(held.claim, "a") for _ in range(3)]
            gate.set()
            assert all(isinstance(one.exception(20), Unavailable) for one in asked)
    use(held, "a")
    assert held.names == ["a"]


def test_who_asks_for_a_model_that_is_not_there_gets_its_name_back(disk: Path) -> None:
    with pytest.raises(UnknownModel, match="zebra"):
        residents(disk).claim("zebra")


def test_the_catalogue_says_what_is_in_memory(disk: Path, size: int) -> None:
    held = residents(disk, budget=int(size * 1.5))
    use(held, "a")
    use(held, "b")
    told = {entry["name"]: (entry["loaded"], entry["available"]) for entry in held._models.describe()}
    assert told == {"a": (False, True), "b": (True, True), "c": (False, True)}


def test_a_controlnet_is_loaded_when_it_is_asked_for_and_counted(disk: Path, size: int) -> None:
    held = residents(disk)
    assert held.claim("a").checkpoint.controlnets == {}
    assert list(held.claim("a", ["canny"]).checkpoint.controlnets) == ["canny"]
    assert held.size > size
    with pytest.raises(BadInput, match="openpose") as caught:
        held.claim("a", ["openpose"])
    assert caught.value.field == "controls"
    assert held.claim("a").users == 3, "who was refused holds nothing"


@pytest.fixture
def micro(tmp_path: Path) -> Iterator[Residents]:
    models = Models("sdxl", read_catalogue(), tmp_path)
    assert offer(models) == ["micro"]
    held = Residents(models, Plan("cpu", torch.float32, 10**9))
    yield held
    held.close()
    assert held.names == []


def test_the_micro_family_is_whole_from_the_start_and_unchecked(micro: Residents) -> None:
    found = micro.claim("micro")
    assert sorted(found.checkpoint.controlnets) == ["canny", "openpose"]
    assert found.checkpoint.safety is None
    before = micro.size
    adapters = found.switchboard.claim((), 0.5)
    found.switchboard.activate(adapters)
    assert found.checkpoint.image_encoder is not None
    assert micro.size > before, "its eye is counted too"
    found.switchboard.release(adapters)
    micro.release(found)


def test_what_a_model_lacks_is_told_part_by_part(tmp_path: Path) -> None:
    models = Models("sdxl", read_catalogue(), tmp_path)
    assert missing(models, models["sdxl-lightning"]) == [
        "sdxl-lightning",
        "sdxl-base",
        "sdxl-vae-fp16-fix",
        "safety-checker",
    ]
    assert "safety-checker" not in missing(models, models["sdxl-base"], safety="off")
