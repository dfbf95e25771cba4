"""The parameters in pictures: written, read back by our parser, by a public reader, and from each file format."""

from __future__ import annotations

import io
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from sd_parsers import ParserManager

from services.diffusion.recipe import ControlUse, LoraUse, Recipe, Refinement
from services.images import decode, encode
from services.origin.infotext import quoted, read_parameters, unquoted
from services.origin.parameters import parameters_text
from services.samplers import SAMPLERS, SPELLINGS, sampler_named
from services.settings import Limits

PLAIN = Recipe(
    model="micro",
    prompt="a red circle on a blue background",
    negative_prompt="blurry, dull",
    width=128,
    height=96,
    steps=30,
    guidance=7.0,
    sampler="dpm++-2m-karras",
    seed=41,
    count=2,
)
FULL = replace(
    PLAIN,
    kind="image",
    strength=0.55,
    clip_skip=2,
    loras=(LoraUse("crayon", 0.8), LoraUse("sha256:" + "ab" * 32, -1.25)),
    controls=(
        ControlUse("canny", Image.new("RGB", (8, 8)), 0.75, 0.1, 0.9),
        ControlUse("openpose", Image.new("RGB", (8, 8))),
    ),
    guess_mode=True,
    reference=Image.new("RGB", (8, 8)),
    refinement=Refinement("sdxl-refiner", 0.8),
)
FORMATS: list[Any] = ["png", "jpeg", "webp"]


def test_the_text_has_the_three_lines_that_readers_expect() -> None:
    prompt, negative, fields = parameters_text(PLAIN, index=1).split("\n")
    assert prompt == "a red circle on a blue background"
    assert negative == "Negative prompt: blurry, dull"
    assert fields.startswith(
        "Steps: 30, Sampler: DPM++ 2M Karras, CFG scale: 7, Seed: 42, Size: 128x96, Model: micro, "
    )
    assert "Version: Darkroom " in fields


def test_everything_that_a_request_can_ask_is_read_back() -> None:
    found = read_parameters(parameters_text(FULL, lora_hashes={"crayon": "c0ffee" * 10}))
    assert found.prompt == "a red circle on a blue background <lora:crayon:0.8> <lora:abababababab:-1.25>"
    assert found.negative_prompt == "blurry, dull"
    assert found.fields["Denoising strength"] == "0.55"
    assert found.fields["Clip skip"] == "2"
    assert found.fields["ControlNet 0"] == (
        "Module: canny, Model: canny, Weight: 0.75, Guidance Start: 0.1, Guidance End: 0.9, "
        "Control Mode: ControlNet is more important"
    )
    assert found.fields["ControlNet 1"].startswith("Module: openpose, Model: openpose, Weight: 1, ")
    assert found.fields["Lora hashes"] == "crayon: c0ffeec0ffee, abababababab: abababababab"
    assert found.fields["Refiner"] == "sdxl-refiner"
    assert found.fields["Refiner switch at"] == "0.8"
    assert found.fields["Reference scale"] == "0.6"
    assert found.fields["RNG"] == "CPU"


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_each_sampler_is_spelled_so_that_its_name_means_the_same_here(sampler: str) -> None:
    assert sampler_named(SPELLINGS[sampler]) == sampler


WORDS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r\0"), max_size=60)


@given(WORDS, WORDS)
def test_any_prompt_leaves_the_fields_readable(prompt: str, negative: str) -> None:
    found = read_parameters(parameters_text(replace(PLAIN, prompt=prompt, negative_prompt=negative)))
    assert (found.fields["Seed"], found.fields["Model"]) == ("41", "micro")


@given(st.text(max_size=40))
def test_a_quoted_value_is_read_back(value: str) -> None:
    assert unquoted(quoted(value)) == value


def test_a_model_whose_name_has_a_colon_does_not_break_the_fields() -> None:
    found = read_parameters(parameters_text(replace(PLAIN, model='my: "best", model')))
    assert found.fields["Model"] == 'my: "best", model'
    assert found.fields["RNG"] == "CPU"


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("recipe", [PLAIN, FULL], ids=["plain", "full"])
def test_a_public_reader_of_such_pictures_understands_ours(form: Any, recipe: Recipe) -> None:
    file = encode(Image.new("RGB", (64, 64), "red"), form, 90, parameters_text(recipe, index=1))
    found = ParserManager().parse(io.BytesIO(file))
    assert found is not None
    assert found.generator.value == "AUTOMATIC1111"
    (sampler,) = found.samplers
    assert sampler.name == "DPM++ 2M Karras"
    assert (sampler.parameters["seed"], sampler.parameters["steps"]) == ("42", "30")
    assert sampler.parameters["cfg_scale"] == "7"
    assert sampler.model is not None
    assert sampler.model.name == "micro"
    assert sampler.prompts[0].value.startswith("a red circle on a blue background")
    assert sampler.negative_prompts[0].value == "blurry, dull"
    assert found.metadata["Size"] == "128x96"


@pytest.mark.parametrize("form", FORMATS)
def test_letters_of_every_alphabet_survive(form: Any) -> None:
    text = parameters_text(replace(PLAIN, prompt="café ☃ 写真\n😀 zweite Zeile"))
    assert read_from(encode(Image.new("RGB", (8, 8)), form, 90, text)) == text


@pytest.mark.parametrize("form", FORMATS)
def test_a_prompt_longer_than_a_jpeg_can_hold_still_gives_a_picture_with_its_fields(form: Any) -> None:
    text = parameters_text(replace(PLAIN, prompt="😀" * 10_000, negative_prompt="😀" * 10_000))
    found = read_parameters(read_from(encode(Image.new("RGB", (8, 8)), form, 90, text)))
    assert found.fields == read_parameters(text).fields
    assert found.prompt == "😀" * 10_000


@pytest.mark.parametrize("form", FORMATS)
def test_without_a_text_a_picture_carries_nothing(form: Any) -> None:
    found = Image.open(io.BytesIO(encode(Image.new("RGB", (8, 8)), form)))
    assert "parameters" not in found.info
    assert not dict(found.getexif())


@pytest.mark.parametrize("form", FORMATS)
def test_what_an_uploaded_picture_carries_is_dropped(form: Any) -> None:
    file = encode(Image.new("RGB", (8, 8)), form, 90, parameters_text(PLAIN))
    assert decode(file, Limits()).info == {}
    assert b"red circle" not in encode(decode(file, Limits()), form)


def read_from(file: bytes) -> str:
    """The text as a reader finds it."""
    picture = Image.open(io.BytesIO(file))
    if picture.format == "PNG":
        return str(picture.info["parameters"])
    comment: bytes = picture.getexif().get_ifd(0x8769)[0x9286]
    assert comment[:8] == b"UNICODE\0"
    return comment[8:].decode("utf-16-be")
