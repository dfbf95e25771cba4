"""Models from files: folders, parts that lie elsewhere, single files; and what is missing or damaged."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from services.diffusion import loader
from services.diffusion.checkpoint import Checkpoint
from services.diffusion.devices import Plan
from services.errors import Unavailable
from services.models import ModelEntry, Models, read_catalogue
from tests.diffusion import single_file
from tests.diffusion.tiny import TOLERANCE, alone, apart, controlnet, pipeline, recipe, theirs, unet, vae

PLAN = Plan("cpu", torch.float32, budget=10**9)


def entry(name: str = "tiny", **more: Any) -> ModelEntry:
    usual: dict[str, Any] = {"service": "sdxl", "engine": "diffusers", "licence": "none"}
    return ModelEntry(name=name, **{**usual, **more})


def saved(folder: Path, family: Any = "sdxl", **more: Any) -> Path:
    pipeline(family).save_pretrained(folder, **more)
    return folder


def loaded(folder: Path, *entries: ModelEntry, name: str = "tiny", plan: Plan = PLAN) -> Checkpoint:
    return loader.load(Models("sdxl", list(entries or [entry()]), folder), name, plan)


def same(one: Any, other: Any) -> bool:
    mine, yours = one.state_dict(), other.state_dict()
    return mine.keys() == yours.keys() and all(torch.equal(mine[key], yours[key]) for key in mine)


@pytest.mark.parametrize("family", ["sdxl", "sd"])
def test_a_folder_in_diffusers_form_gives_diffusers_picture(tmp_path: Path, family: Any) -> None:
    saved(tmp_path / "tiny", family)
    checkpoint = loaded(tmp_path)
    assert checkpoint.family == family
    asked = recipe(steps=3)
    assert apart(alone(checkpoint, asked), theirs(pipeline(family), asked)[0]) < TOLERANCE
    assert not any(weights.requires_grad for weights in checkpoint.unet.parameters())


def test_the_refiner_has_only_the_second_encoder(tmp_path: Path) -> None:
    saved(tmp_path / "tiny", "sdxl-refiner")
    checkpoint = loaded(tmp_path)
    assert checkpoint.family == "sdxl-refiner"
    assert len(checkpoint.text_encoders) == len(checkpoint.tokenizers) == 1
    assert not checkpoint.zero_negative


def test_a_half_precision_variant_is_found_and_so_are_shards(tmp_path: Path) -> None:
    saved(tmp_path / "tiny", variant="fp16")
    pipeline("sdxl").unet.save_pretrained(tmp_path / "tiny" / "unet", max_shard_size="200KB")
    (tmp_path / "tiny" / "unet" / "diffusion_pytorch_model.fp16.safetensors").unlink()
    assert len(list((tmp_path / "tiny" / "unet").glob("*-of-*.safetensors"))) > 1
    checkpoint = loaded(tmp_path)
    assert same(checkpoint.unet, pipeline("sdxl").unet)
    assert same(checkpoint.vae, vae())


def test_a_part_may_be_an_entry_of_its_own(tmp_path: Path) -> None:
    saved(tmp_path / "tiny")
    shutil.rmtree(tmp_path / "tiny" / "vae")
    (tmp_path / "tiny" / "vae").mkdir()
    vae().save_pretrained(tmp_path / "better-vae")
    parts = {"vae": "better-vae"}
    checkpoint = loaded(tmp_path, entry(parts=parts), entry("better-vae", kind="part"))
    assert same(checkpoint.vae, vae())


def test_a_variant_has_its_own_unet_and_shares_the_rest(tmp_path: Path) -> None:
    saved(tmp_path / "tiny")
    (tmp_path / "quick").mkdir()
    other = unet("sdxl", seed=9)
    save_file(other.state_dict(), tmp_path / "quick" / "unet.safetensors")
    quick = entry(
        "quick",
        base="tiny",
        weights={"unet": "unet.safetensors"},
        scheduler={"timestep_spacing": "trailing"},
        defaults={"steps": 4},
    )
    checkpoint = loaded(tmp_path, entry(), quick, name="quick")
    assert same(checkpoint.unet, other)
    assert same(checkpoint.vae, vae())
    assert checkpoint.scheduler_config["timestep_spacing"] == "trailing"
    assert checkpoint.defaults == {"steps": 4}


def test_a_controlnet_is_loaded_by_its_entry(tmp_path: Path) -> None:
    controlnet("sdxl", 11).save_pretrained(tmp_path / "edges")
    models = Models("sdxl", [entry("edges", kind="part")], tmp_path)
    assert same(loader.controlnet(models, "edges", PLAN), controlnet("sdxl", 11))


def test_names_of_an_older_diffusers_are_understood(tmp_path: Path) -> None:
    """The VAE of Stable Diffusion 1.x has them on the hub."""
    vae().save_pretrained(tmp_path)
    file = tmp_path / "diffusion_pytorch_model.safetensors"
    old = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    tensors = load_file(file)
    renamed = {}
    for key, tensor in tensors.items():
        for new, before in old.items():
            key = key.replace(f"attentions.0.{new}", f"attentions.0.{before}")
        renamed[key] = tensor
    assert renamed.keys() != tensors.keys()
    save_file(renamed, file)
    from diffusers import AutoencoderKL

    assert same(loader.network(AutoencoderKL, tmp_path), vae())


def test_the_plans_dtype_holds_for_every_part_but_pytorchs_own_default_stays(tmp_path: Path) -> None:
    saved(tmp_path / "tiny")
    checkpoint = loaded(tmp_path, plan=Plan("cpu", torch.bfloat16, budget=10**9, channels_last=True))
    for part in (checkpoint.unet, checkpoint.vae, *checkpoint.text_encoders):
        assert {tensor.dtype for tensor in part.parameters()} == {torch.bfloat16}
    assert torch.get_default_dtype() is torch.float32
    assert checkpoint.unet.conv_in.weight.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("attention", ["plain", "sliced"])
def test_another_attention_computes_the_same(tmp_path: Path, attention: str) -> None:
    saved(tmp_path / "tiny")
    asked = recipe(steps=2)
    checkpoint = loaded(tmp_path, plan=Plan("cpu", torch.float32, 10**9, attention=attention))
    assert apart(alone(checkpoint, asked), theirs(pipeline("sdxl"), asked)[0]) < TOLERANCE


def test_tiles_and_slices_are_switched_on(tmp_path: Path) -> None:
    saved(tmp_path / "tiny")
    checkpoint = loaded(tmp_path, plan=Plan("cpu", torch.float32, 10**9, vae_tiling=True, vae_slicing=True))
    assert checkpoint.vae.use_tiling
    assert checkpoint.vae.use_slicing


def test_xformers_that_is_not_there_is_said_with_the_setting(tmp_path: Path) -> None:
    saved(tmp_path / "tiny")
    with pytest.raises(Unavailable, match="DARKROOM_ATTENTION"):
        loaded(tmp_path, plan=Plan("cpu", torch.float32, 10**9, attention="xformers"))


def test_a_single_file_of_one_network_is_in_ldm_or_diffusers_names(tmp_path: Path) -> None:
    """`sdxl_lightning_4step_unet.safetensors` has diffusers' names and no config beside it."""
    save_file(pipeline("sdxl").unet.state_dict(), tmp_path / "unet.safetensors")
    saved(tmp_path / "tiny")
    from diffusers import UNet2DConditionModel

    config = tmp_path / "tiny" / "unet" / "config.json"
    assert same(
        loader.network(UNet2DConditionModel, tmp_path / "unet.safetensors", config), pipeline("sdxl").unet
    )


# ── what is missing or damaged ────────────────────────────────────────────────────────────────────────────────


def refusal(folder: Path, *entries: ModelEntry, name: str = "tiny") -> Unavailable:
    with pytest.raises(Unavailable) as caught:
        loaded(folder, *entries, name=name)
    return caught.value


def test_a_model_that_is_not_there_says_which_command_fetches_it(tmp_path: Path) -> None:
    error = refusal(tmp_path)
    assert str(tmp_path / "tiny") in error.detail
    assert "darkroom models pull tiny" in error.what_to_do


@pytest.mark.parametrize("part", ["unet", "text_encoder_2", "tokenizer"])
def test_a_missing_part_is_named(tmp_path: Path, part: str) -> None:
    saved(tmp_path / "tiny")
    shutil.rmtree(tmp_path / "tiny" / part)
    assert str(tmp_path / "tiny" / part) in refusal(tmp_path).detail


def test_a_file_that_was_cut_short_is_named_before_anything_is_loaded(tmp_path: Path) -> None:
    file = saved(tmp_path / "tiny") / "unet" / "diffusion_pytorch_model.safetensors"
    file.write_bytes(file.read_bytes()[:-1000])
    error = refusal(tmp_path)
    assert str(file) in error.detail
    assert "cut short" in error.detail


def test_a_file_of_another_model_is_told_with_the_command_that_mends_it(tmp_path: Path) -> None:
    folder = saved(tmp_path / "tiny") / "unet"
    pipeline("sd").unet.save_pretrained(folder)
    config = json.loads((saved(tmp_path / "again") / "unet" / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config))
    assert "darkroom models verify tiny" in refusal(tmp_path).what_to_do


def test_a_base_that_is_not_there_is_the_one_to_fetch(tmp_path: Path) -> None:
    (tmp_path / "quick").mkdir()
    save_file({"a": torch.zeros(1)}, tmp_path / "quick" / "unet.safetensors")
    quick = entry("quick", base="tiny", weights={"unet": "unet.safetensors"})
    assert "darkroom models pull tiny" in refusal(tmp_path, entry(), quick, name="quick").what_to_do


def test_a_pickle_is_never_read(tmp_path: Path) -> None:
    saved(tmp_path / "tiny")
    folder = tmp_path / "tiny" / "text_encoder"
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    assert "tiny" in refusal(tmp_path).detail


# ── the micro family ──────────────────────────────────────────────────────────────────────────────────────────


def test_the_micro_family_is_loaded_from_the_package(tmp_path: Path) -> None:
    models = Models("sdxl", read_catalogue(), tmp_path)
    checkpoint = loader.load(models, "micro", PLAN)
    assert checkpoint.family == "sdxl"
    assert checkpoint.defaults["width"] >= 64
    assert loader.size_of_checkpoint(checkpoint) < 64 * 2**20


# ── one file for all ──────────────────────────────────────────────────────────────────────────────────────────


def test_one_file_with_everything_in_it_needs_only_its_base_for_the_form(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The micro family's SDXL as one file: the same networks, and nobody was asked for anything."""
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    models = Models("sdxl", read_catalogue(), tmp_path)
    micro = loader.load(models, "micro", PLAN)
    single_file.write(tmp_path / "mine.safetensors", micro)
    mine = entry("mine", base="micro", folder=str(tmp_path), single_file="mine.safetensors")
    found = loader.load(Models("sdxl", [*read_catalogue(), mine], tmp_path), "mine", PLAN)
    assert same(found.unet, micro.unet)
    assert same(found.vae, micro.vae)
    for one, other in zip(found.text_encoders, micro.text_encoders, strict=True):
        assert same(one, other)
    assert found.family == "sdxl"
    assert found.zero_negative == micro.zero_negative
    assert not any(weights.requires_grad for weights in found.unet.parameters())


def test_so_does_stable_diffusion_1(tmp_path: Path) -> None:
    saved(tmp_path / "tiny", "sd")
    tiny = loaded(tmp_path)
    single_file.write(tmp_path / "mine.safetensors", tiny)
    mine = entry("mine", base="tiny", folder=str(tmp_path), single_file="mine.safetensors")
    found = loaded(tmp_path, entry(), mine, name="mine")
    assert found.family == "sd"
    assert same(found.unet, tiny.unet)
    assert same(found.vae, tiny.vae)
    assert same(found.text_encoders[0], tiny.text_encoders[0])


def test_a_single_file_that_was_cut_short_is_named(tmp_path: Path) -> None:
    saved(tmp_path / "tiny", "sd")
    path = single_file.write(tmp_path / "mine.safetensors", loaded(tmp_path))
    path.write_bytes(path.read_bytes()[:-10])
    mine = entry("mine", base="tiny", folder=str(tmp_path), single_file="mine.safetensors")
    error = refusal(tmp_path, entry(), mine, name="mine")
    assert str(path) in error.detail
