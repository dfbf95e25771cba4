"""What AUTOMATIC1111's door remembers and how it reads names, without a stack behind it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from gateway.doors import a1111_info, a1111_options
from gateway.doors.a1111_options import Options
from gateway.doors.a1111_samplers import sampler
from gateway.state import GatewayState
from gateway.upstream.status import ServiceStatus
from services.errors import NotFound, UnknownModel

MODELS: list[dict[str, Any]] = [
    {
        "name": "sd-1.5",
        "aliases": ["v1-5-pruned-emaonly"],
        "kind": "model",
        "available": True,
        "loaded": True,
    },
    {"name": "sdxl-base", "aliases": ["sd_xl_base_1.0"], "kind": "model", "available": False},
    {"name": "outlined", "kind": "lora", "available": True},
]


@pytest.fixture
def options() -> Options:
    status = ServiceStatus("sdxl", True, None, 0, 0, 8, models=MODELS)
    state = SimpleNamespace(upstream=SimpleNamespace(status=lambda: {"sdxl": status}))
    return Options(cast("GatewayState", state))


@pytest.mark.parametrize(
    "written",
    [
        "sd-1.5",
        "SD-1.5",
        "v1-5-pruned-emaonly",
        "v1-5-pruned-emaonly.safetensors [6ce0161689]",
        "v1-5-pruned-emaonly.ckpt",
        "v1-5-pruned-emaonly [6ce0161689]",
    ],
)
def test_a_checkpoint_is_known_however_that_page_writes_it(options: Options, written: str) -> None:
    assert options.checkpoint(written, "x") == "sd-1.5"


@pytest.mark.parametrize("written", ["sdxl-base", "outlined", "of-nobody", 7, [], "[6ce0161689]"])
def test_what_cannot_be_asked_for_is_not_found(options: Options, written: Any) -> None:
    with pytest.raises(UnknownModel) as refused:
        options.checkpoint(written, "sd_model_checkpoint")
    assert refused.value.field == "sd_model_checkpoint"


def test_options_are_the_keys_own_and_those_of_a_bounded_number_of_keys(
    options: Options, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(a1111_options, "REMEMBERED", 2)
    for key in ("ann", "ben", "cleo"):
        options.keep(key, {"CLIP_stop_at_last_layers": 2, "of_nobody": 1})
    shown = {key: options.shown(key)["CLIP_stop_at_last_layers"] for key in ("ann", "ben", "cleo", "dora")}
    assert shown == {"ann": 1, "ben": 2, "cleo": 2, "dora": 1}
    assert options.shown("ben")["sd_model_checkpoint"] == "sd-1.5"
    assert options.of("ben", {"CLIP_stop_at_last_layers": 3}) == {"CLIP_stop_at_last_layers": 3}
    assert options.of("ben", {}) == {"CLIP_stop_at_last_layers": 2}


@pytest.mark.parametrize(
    ("named", "scheduler", "ours"),
    [
        (None, "Karras", None),
        ("Heun", "Karras", "heun"),
        ("DPM++ 2M SDE", None, "dpm++-2m-sde-karras"),
        ("DPM++ 2M SDE", "SGM Uniform", "dpm++-2m-sde"),
        ("DPM++ 2M SDE Karras", "Uniform", "dpm++-2m-sde-karras"),
    ],
)
def test_a_sampler_and_its_spacing_are_one_name(
    named: str | None, scheduler: str | None, ours: str | None
) -> None:
    assert sampler(named, scheduler) == ours


@pytest.mark.parametrize("named", ["PLMS", " ", "DPM adaptive"])
def test_a_sampler_that_is_not_here_is_not_found(named: str) -> None:
    with pytest.raises(NotFound) as refused:
        sampler(named, None)
    assert refused.value.detail == "Sampler not found"


def test_a_line_too_long_to_be_fields_is_not_taken_apart() -> None:
    fields = "Steps: 20, Sampler: Euler, CFG scale: 7, Seed: 1"
    assert a1111_info.fields(f"a dog\n{fields}")["Steps"] == "20"
    assert a1111_info.fields(f"a dog\n{fields}{'a' * 200_000}") == {}
