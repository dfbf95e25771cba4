"""The IP-Adapter: beside diffusers' own pipeline, with LoRAs, and gone without a trace."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from services.diffusion import loader
from services.diffusion.adapters import Switchboard
from services.diffusion.devices import Plan
from services.diffusion.encode import encode
from services.diffusion.loras import Library
from services.diffusion.prepare import prepare
from services.diffusion.recipe import LoraUse, Recipe
from services.diffusion.step import step
from services.errors import BadInput, Unavailable
from services.models import Models
from tests.diffusion.lora_files import ip_adapter, peft_form
from tests.diffusion.tiny import TOLERANCE, apart, finished, picture, pipeline, pixels, recipe, theirs
from tests.diffusion.tiny import checkpoint_of as tiny_checkpoint

PLAN = Plan("cpu", torch.float32, budget=10**9)

pytestmark = pytest.mark.filterwarnings("ignore:Already found a .peft_config:UserWarning")


class Bench:
    def __init__(self, folder: Path) -> None:
        self.checkpoint = tiny_checkpoint(copy.deepcopy(pipeline("sdxl")), "sdxl")
        self.adapter = ip_adapter(folder / "ip", pipeline("sdxl").unet)
        (folder / "loras").mkdir()
        self.lora = peft_form(folder / "loras" / "ink.safetensors", 1, unet=pipeline("sdxl").unet)
        self.looked_for = 0
        self.board = Switchboard(
            self.checkpoint,
            Library(Models("sdxl", [], folder)),
            reference=self.find,
            image_encoder=lambda: loader.image_encoder(self.adapter / "image_encoder", PLAN),
        )

    def find(self) -> Path:
        self.looked_for += 1
        return self.adapter / "ip-adapter.safetensors"

    def started(self, asked: Recipe) -> Any:
        scale = asked.reference_scale if asked.reference is not None else None
        adapters = self.board.claim(asked.loras, scale)
        self.board.activate(adapters)
        return prepare(self.checkpoint, asked, encode(self.checkpoint, asked), 0, adapters)

    def picture(self, asked: Recipe) -> torch.Tensor:
        return pixels(finished(self.started(asked)))

    def theirs(self, asked: Recipe, lora: float | None = None) -> torch.Tensor:
        pipe = copy.deepcopy(pipeline("sdxl"))
        pipe.register_modules(feature_extractor=CLIPImageProcessorPil(size=32, crop_size=32))
        pipe.load_ip_adapter(
            str(self.adapter),
            subfolder="",
            weight_name="ip-adapter.safetensors",
            image_encoder_folder="image_encoder",
        )
        pipe.set_ip_adapter_scale(asked.reference_scale)
        if lora is not None:
            pipe.load_lora_weights(str(self.lora), adapter_name="ink")
            pipe.set_adapters(["ink"], [lora])
        found: torch.Tensor = theirs(pipe, asked, ip_adapter_image=asked.reference)[0]
        return found


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def test_a_reference_gives_the_picture_that_diffusers_gives(bench: Bench) -> None:
    asked = recipe(reference=picture(3), reference_scale=0.7)
    ours = bench.picture(asked)
    assert apart(ours, bench.theirs(asked)) < TOLERANCE
    assert float((ours - bench.picture(recipe())).abs().max()) > 0.01


def test_a_reference_and_a_lora_together_too(bench: Bench) -> None:
    asked = recipe(reference=picture(3), reference_scale=0.7)
    ours = bench.picture(recipe(reference=picture(3), reference_scale=0.7, loras=(LoraUse("ink", 0.5),)))
    assert apart(ours, bench.theirs(asked, lora=0.5)) < TOLERANCE


def test_after_a_reference_the_model_is_what_it_was_bit_for_bit(bench: Bench) -> None:
    asked = recipe(reference=picture(3), reference_scale=0.7)
    before = [type(module) for module in bench.checkpoint.unet.modules()]
    plain = bench.picture(recipe())
    with_reference = bench.picture(asked)
    assert torch.equal(bench.picture(recipe()), plain)
    assert torch.equal(bench.picture(asked), with_reference)
    assert torch.equal(bench.picture(recipe()), plain)
    assert [type(module) for module in bench.checkpoint.unet.modules()] == before
    assert bench.looked_for == 1, "it is read once"


def test_the_scale_is_each_requests_own(bench: Bench) -> None:
    weak, strong = (recipe(reference=picture(3), reference_scale=scale, steps=3) for scale in (0.2, 0.9))
    alone = [bench.picture(weak), bench.picture(strong)]
    lanes = [bench.started(weak), bench.started(strong)]
    while not lanes[0].done:
        for lane in lanes:
            bench.board.activate(lane.adapters)
            step([lane])
    for lane, expected in zip(lanes, alone, strict=True):
        assert apart(pixels(lane), expected) < 1e-5
    assert float((alone[0] - alone[1]).abs().max()) > 0.01


def test_a_model_without_an_adapter_says_so(bench: Bench) -> None:
    board = Switchboard(bench.checkpoint, Library(Models("sdxl", [], Path("nowhere"))))
    with pytest.raises(BadInput) as caught:
        board.claim((), 0.5)
    assert caught.value.field == "reference"


def test_an_adapter_of_another_model_is_refused_and_the_model_unharmed(bench: Bench) -> None:
    plain = bench.picture(recipe(steps=2))
    file = bench.adapter / "ip-adapter.safetensors"
    save_file({key: value for key, value in load_file(file).items() if ".1." not in key}, file)
    with pytest.raises(Unavailable, match="does not fit"):
        bench.board.claim((), 0.5)
    assert torch.equal(bench.picture(recipe(steps=2)), plain)
