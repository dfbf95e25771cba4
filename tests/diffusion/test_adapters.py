"""LoRAs and the IP-Adapter: beside diffusers' own pipeline, switched on and off, refused where they do not fit."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from services.diffusion.adapters import Switchboard
from services.diffusion.checkpoint import Family
from services.diffusion.encode import encode
from services.diffusion.lane import Adapters
from services.diffusion.loras import Library
from services.diffusion.prepare import prepare
from services.diffusion.recipe import LoraUse, Recipe
from services.diffusion.step import step
from services.errors import BadInput, DarkroomError, UnknownModel
from services.models import ModelEntry, Models
from tests.diffusion.lora_files import kohya_form, peft_form
from tests.diffusion.tiny import TOLERANCE, apart, finished, pipeline, pixels, recipe, theirs
from tests.diffusion.tiny import checkpoint_of as tiny_checkpoint

pytestmark = pytest.mark.filterwarnings("ignore:Already found a .peft_config:UserWarning")


class Bench:
    """A model of our own and the same as diffusers' pipeline; nothing is shared between the two."""

    def __init__(self, folder: Path, family: Family = "sdxl", keep: int = 8) -> None:
        own = copy.deepcopy(pipeline(family))
        self.pipe = copy.deepcopy(pipeline(family))
        self.checkpoint = tiny_checkpoint(own, family)
        self.folder = folder / "loras"
        self.folder.mkdir(exist_ok=True)
        self.models = Models("sdxl", [], folder)
        self.board = Switchboard(self.checkpoint, Library(self.models), keep=keep)

    def picture(self, asked: Recipe) -> torch.Tensor:
        adapters = self.board.claim(asked.loras)
        try:
            self.board.activate(adapters)
            lane = prepare(self.checkpoint, asked, encode(self.checkpoint, asked), 0, adapters)
            return pixels(finished(lane))
        finally:
            self.board.release(adapters)

    def theirs(self, asked: Recipe, **loras: float) -> torch.Tensor:
        for name in loras:
            self.pipe.load_lora_weights(str(self.folder / f"{name}.safetensors"), adapter_name=name)
        if loras:
            self.pipe.set_adapters(list(loras), list(loras.values()))
        found: torch.Tensor = theirs(self.pipe, asked)[0]
        return found

    def unet_lora(self, name: str, seed: int = 1) -> None:
        peft_form(self.folder / f"{name}.safetensors", seed, unet=pipeline("sdxl").unet)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def use(*names: str, **weighted: float) -> tuple[LoraUse, ...]:
    return (*map(LoraUse, names), *(LoraUse(name, weight) for name, weight in weighted.items()))


def test_a_lora_gives_the_picture_that_diffusers_gives(bench: Bench) -> None:
    bench.unet_lora("ink")
    plain = bench.picture(recipe())
    ours = bench.picture(recipe(loras=use(ink=0.7)))
    assert apart(ours, bench.theirs(recipe(), ink=0.7)) < TOLERANCE
    assert float((ours - plain).abs().max()) > 0.01


def test_two_loras_mix_by_their_weights_as_in_diffusers(bench: Bench) -> None:
    bench.unet_lora("ink", 1)
    bench.unet_lora("chalk", 2)
    ours = bench.picture(recipe(loras=use(ink=0.6, chalk=-0.4)))
    assert apart(ours, bench.theirs(recipe(), ink=0.6, chalk=-0.4)) < TOLERANCE
    assert float((ours - bench.picture(recipe(loras=use(ink=0.6)))).abs().max()) > 0.01


def test_a_lora_may_change_the_text_encoders_too(bench: Bench) -> None:
    pipe = pipeline("sdxl")
    peft_form(
        bench.folder / "words.safetensors",
        3,
        unet=pipe.unet,
        text_encoder=pipe.text_encoder,
        text_encoder_2=pipe.text_encoder_2,
    )
    ours = bench.picture(recipe(loras=use(words=0.8)))
    assert apart(ours, bench.theirs(recipe(), words=0.8)) < TOLERANCE


def test_what_kohyas_trainer_writes_is_read_with_its_alphas(bench: Bench) -> None:
    pipe = pipeline("sdxl")
    encoders = (pipe.text_encoder, pipe.text_encoder_2)
    kohya_form(bench.folder / "kohya.safetensors", 4, pipe.unet, encoders, alpha=2.0)
    ours = bench.picture(recipe(loras=use(kohya=0.9)))
    assert apart(ours, bench.theirs(recipe(), kohya=0.9)) < TOLERANCE


def test_stable_diffusion_1_takes_loras_too(tmp_path: Path) -> None:
    bench, pipe = Bench(tmp_path, "sd"), pipeline("sd")
    kohya_form(bench.folder / "old.safetensors", 5, pipe.unet, (pipe.text_encoder,))
    ours = bench.picture(recipe(loras=use("old")))
    assert apart(ours, bench.theirs(recipe(), old=1.0)) < TOLERANCE


def test_after_a_lora_the_model_is_what_it_was_bit_for_bit(bench: Bench) -> None:
    pipe = pipeline("sdxl")
    peft_form(bench.folder / "ink.safetensors", 1, unet=pipe.unet, text_encoder=pipe.text_encoder)
    plain = bench.picture(recipe())
    with_lora = bench.picture(recipe(loras=use("ink")))
    assert torch.equal(bench.picture(recipe()), plain)
    assert torch.equal(bench.picture(recipe(loras=use("ink"))), with_lora)
    assert torch.equal(bench.picture(recipe()), plain)


def test_lanes_of_several_loras_take_turns_and_each_gets_its_own_picture(bench: Bench) -> None:
    bench.unet_lora("ink", 1)
    bench.unet_lora("chalk", 2)
    asks = [recipe(loras=loras) for loras in ((), use("ink"), use(chalk=0.5), use("ink", "chalk"))]
    alone = [bench.picture(asked) for asked in asks]
    lanes = []
    for asked in asks:
        adapters = bench.board.claim(asked.loras)
        bench.board.activate(adapters)
        lanes.append(prepare(bench.checkpoint, asked, encode(bench.checkpoint, asked), 0, adapters))
    while not all(lane.done for lane in lanes):
        for lane in lanes:
            bench.board.activate(lane.adapters)
            step([lane])
    for lane, expected in zip(lanes, alone, strict=True):
        assert apart(pixels(lane), expected) < 1e-5


def test_the_same_lora_twice_counts_with_both_weights(bench: Bench) -> None:
    bench.unet_lora("ink")
    adapters = bench.board.claim((LoraUse("ink", 0.5), LoraUse("ink", 0.25)))
    assert adapters == Adapters((("ink", 0.75),))


# ── what is refused ───────────────────────────────────────────────────────────────────────────────────────────


def refusal(bench: Bench, *uses: LoraUse) -> DarkroomError:
    with pytest.raises(BadInput) as caught:
        bench.board.claim(uses)
    return caught.value


def test_an_unknown_lora_is_refused_with_its_field_and_the_names_that_there_are(bench: Bench) -> None:
    bench.unet_lora("ink")
    with pytest.raises(UnknownModel, match="ink") as caught:
        bench.board.claim(use("ink", "oil"))
    assert caught.value.field == "loras.1.name"


def test_a_lora_of_another_architecture_is_refused_and_the_model_unharmed(bench: Bench) -> None:
    plain = bench.picture(recipe())
    other = pipeline("sd")
    kohya_form(bench.folder / "other.safetensors", 5, other.unet, (other.text_encoder,))
    peft_form(bench.folder / "wide.safetensors", 6, unet=other.unet)
    for name in ("other", "wide"):
        error = refusal(bench, LoraUse(name))
        assert error.status == 422
        assert error.field == "loras.0.name"
        assert "does not fit" in error.detail
    assert bench.board.attached == []
    assert torch.equal(bench.picture(recipe()), plain)


def test_a_refused_lora_does_not_hold_the_one_beside_it(bench: Bench) -> None:
    bench.unet_lora("ink")
    refusal(bench, LoraUse("ink"), LoraUse("nothing"))
    bench.board.release(bench.board.claim(use("ink")))
    assert all(not lora.users for lora in bench.board._loras.values())


def broken(make: Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]) -> Any:
    return make


@pytest.mark.parametrize(
    "make",
    [
        broken(lambda tensors: {"noise": torch.zeros(3)}),
        broken(lambda tensors: {f"unet.{key}": value for key, value in tensors.items()}),
        broken(lambda tensors: {key: value[..., :-1].contiguous() for key, value in tensors.items()}),
        broken(lambda tensors: {key: value * float("nan") for key, value in tensors.items()}),
        broken(lambda tensors: {f"lora_unet_{key}": value for key, value in tensors.items()}),
    ],
    ids=["no lora", "unknown layers", "other widths", "not finite", "half kohya"],
)
def test_a_file_that_makes_no_sense_is_refused_with_its_field(bench: Bench, make: Any) -> None:
    bench.unet_lora("ink")
    save_file(make(load_file(bench.folder / "ink.safetensors")), bench.folder / "odd.safetensors")
    assert refusal(bench, LoraUse("odd")).field == "loras.0.name"


def test_a_lora_that_was_cut_short_is_refused(bench: Bench) -> None:
    bench.unet_lora("ink")
    path = bench.folder / "ink.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    assert refusal(bench, LoraUse("ink")).field == "loras.0.name"


# ── how many stay ─────────────────────────────────────────────────────────────────────────────────────────────


def test_what_was_not_used_for_longest_is_taken_off_but_never_what_is_in_use(tmp_path: Path) -> None:
    bench = Bench(tmp_path, keep=2)
    for at, name in enumerate("abcd"):
        bench.unet_lora(name, at)
    held = bench.board.claim(use("a"))
    bench.board.activate(held)
    for name in "bcd":
        bench.picture(recipe(steps=1, loras=use(name)))
    assert bench.board.attached == ["a", "d"]
    bench.board.release(held)


def test_with_no_lora_left_the_models_own_layers_stand_alone(tmp_path: Path) -> None:
    bench = Bench(tmp_path, keep=1)
    before = [type(module) for module in bench.checkpoint.unet.modules()]
    bench.unet_lora("a")
    bench.picture(recipe(steps=1, loras=use("a")))
    assert [type(module) for module in bench.checkpoint.unet.modules()] != before
    bench.board._keep = 0
    bench.picture(recipe(steps=1))
    assert bench.board.attached == []
    assert [type(module) for module in bench.checkpoint.unet.modules()] == before


def test_switching_to_what_is_active_calls_nothing(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.unet_lora("ink")
    adapters = bench.board.claim(use("ink"))
    bench.board.activate(adapters)
    monkeypatch.setattr(bench.board, "_weigh", lambda wanted: pytest.fail("it was weighed again"))
    bench.board.activate(adapters)
    bench.board.activate(Adapters(adapters.loras))


def test_a_lora_of_the_catalogue_that_was_not_fetched_says_how_to_fetch_it(bench: Bench) -> None:
    entry = ModelEntry(
        name="style",
        service="sdxl",
        engine="lora",
        kind="lora",
        licence="MIT",
        source="someone/style",
        single_file="style.safetensors",
        aliases=("look",),
    )
    library = Library(Models("sdxl", [entry], bench.folder.parent))
    board = Switchboard(bench.checkpoint, library)
    with pytest.raises(UnknownModel) as caught:
        board.claim(use("look"))
    assert "darkroom models pull style" in caught.value.what_to_do
