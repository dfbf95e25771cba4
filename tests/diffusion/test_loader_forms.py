"""Forms in which a model may be held: compiled, and in part in the computer's memory. They compute the same."""

from __future__ import annotations

import copy
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from services.diffusion import loader
from services.diffusion.adapters import Switchboard
from services.diffusion.devices import Plan
from services.diffusion.encode import encode
from services.diffusion.loras import Library
from services.diffusion.prepare import prepare
from services.diffusion.recipe import LoraUse
from services.errors import BadInput
from services.models import Models
from tests.diffusion.lora_files import peft_form
from tests.diffusion.tiny import (
    TOLERANCE,
    alone,
    apart,
    checkpoint_of,
    finished,
    pipeline,
    pixels,
    recipe,
    theirs,
)


def held(**more: Any) -> Any:
    plan = Plan("cpu", torch.float32, 10**9, **more)
    return loader.settle(checkpoint_of(copy.deepcopy(pipeline("sdxl")), "sdxl"), plan)


@pytest.mark.parametrize("offload", ["model", "sequential"])
def test_what_waits_in_the_computers_memory_computes_the_same(offload: Any) -> None:
    asked = recipe(steps=2)
    assert apart(alone(held(offload=offload), asked), theirs(pipeline("sdxl"), asked)[0]) < TOLERANCE


def test_held_by_models_it_takes_loras_and_piece_by_piece_it_refuses_them(tmp_path: Path) -> None:
    (tmp_path / "loras").mkdir()
    peft_form(tmp_path / "loras" / "ink.safetensors", 1, unet=pipeline("sdxl").unet)
    library, asked = Library(Models("sdxl", [], tmp_path)), recipe(steps=2)

    def drawn(checkpoint: Any) -> torch.Tensor:
        board = Switchboard(checkpoint, library)
        adapters = board.claim((LoraUse("ink", 0.8),))
        board.activate(adapters)
        return pixels(finished(prepare(checkpoint, asked, encode(checkpoint, asked), 0, adapters)))

    assert apart(drawn(held(offload="model")), drawn(held())) < TOLERANCE
    board = Switchboard(held(), library, sequential=True)
    with pytest.raises(BadInput, match="piece by piece"):
        board.claim((LoraUse("ink"),))
    assert board.claim() is not None


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.skipif(shutil.which("g++") is None, reason="compiling for a processor needs g++")
@pytest.mark.filterwarnings("ignore")
def test_compiled_blocks_compute_the_same_with_and_without_a_lora(tmp_path: Path) -> None:
    (tmp_path / "loras").mkdir()
    peft_form(tmp_path / "loras" / "ink.safetensors", 1, unet=pipeline("sdxl").unet)
    library, asked = Library(Models("sdxl", [], tmp_path)), recipe(steps=2)
    found = []
    for checkpoint in (held(compile=True), held()):
        board = Switchboard(checkpoint, library)
        for uses in ((), (LoraUse("ink", 0.8),), ()):
            adapters = board.claim(uses)
            board.activate(adapters)
            lane = prepare(checkpoint, asked, encode(checkpoint, asked), 0, adapters)
            found.append(pixels(finished(lane)))
            board.release(adapters)
    for one, other in zip(found[:3], found[3:], strict=True):
        assert apart(one, other) < TOLERANCE
    assert float((found[0] - found[1]).abs().max()) > 0.01
