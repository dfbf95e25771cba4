"""Flags are made from the operations' schemas."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from gateway.cli.console import Stop
from gateway.cli.flags import Given, command, describe
from gateway.cli.operations import accepts
from services.operations import OPERATIONS


def described(name: str) -> Any:
    kind = OPERATIONS[name]
    return describe(name, kind.summary(), kind.answers, kind.json_schema(), partial(accepts, kind))


def typed(name: str, *words: str) -> Given:
    """What `darkroom run NAME WORDS` would act on."""
    acted: list[Given] = []
    app = typer.Typer()
    app.command()(command(described(name), acted.append))
    result = CliRunner().invoke(app, list(words), catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return acted[0]


@pytest.mark.parametrize("name", sorted(OPERATIONS))
def test_every_operation_has_a_flag_for_each_parameter(name: str) -> None:
    app = typer.Typer(rich_markup_mode=None)
    app.command()(command(described(name), lambda _: None))
    shown = CliRunner().invoke(app, ["--help"], env={"COLUMNS": "200"})
    assert shown.exit_code == 0
    assert OPERATIONS[name].summary() in shown.output
    for field in OPERATIONS[name].model_fields:
        assert f"--{field.replace('_', '-')}" in shown.output


def test_what_is_not_given_is_left_to_the_gateway() -> None:
    assert typed("text-to-image", "a", "cat").params == {}


def test_values_have_the_types_of_their_parameters() -> None:
    given = typed(
        "text-to-image", "--prompt", "a cat", "--steps", "12", "--guidance", "3.5", "--sampler", "euler",
        "--loras", '[{"name": "ink", "weight": 0.5}]', "--count", "2",
    )  # fmt: skip
    assert given.params == {
        "prompt": "a cat",
        "steps": 12,
        "guidance": 3.5,
        "sampler": "euler",
        "loras": [{"name": "ink", "weight": 0.5}],
        "count": 2,
    }


def test_a_word_or_a_number_is_what_it_looks_like() -> None:
    assert typed("portrait", "--tone", "warm").params == {"tone": "warm"}
    assert typed("portrait", "--tone=-0.5").params == {"tone": -0.5}


def test_a_switch_can_be_on_off_or_not_given() -> None:
    assert typed("remove-background", "--trim").params == {"trim": True}
    assert typed("remove-background", "--no-trim").params == {"trim": False}
    assert typed("remove-background").params == {}


def test_the_answers_place_is_not_confused_with_a_parameter_of_that_name() -> None:
    given = typed("remove-background", "a.png", "--output", "mask", "-o", "b.png")
    assert (given.params, given.to, given.inputs) == ({"output": "mask"}, "b.png", ["a.png"])
    assert typed("cleanup", "a.png", "--output", "b.png").to == "b.png"


def test_out_of_bounds_and_unknown_choices_are_refused_as_usage() -> None:
    app = typer.Typer()
    app.command()(command(described("text-to-image"), lambda _: None))
    for words in (["--steps", "0"], ["--sampler", "magic"], ["--nonsense"]):
        assert CliRunner().invoke(app, words).exit_code == 2


def test_broken_json_names_its_flag() -> None:
    with pytest.raises(Stop, match="--loras must be JSON"):
        typed("text-to-image", "--loras", "[oops")


def test_a_picture_is_not_given_twice() -> None:
    with pytest.raises(Stop, match="Give image once"):
        typed("cleanup", "a.png", "--image", "b.png")


@pytest.mark.parametrize("name", ["DPM++ 2M Karras", "Euler a", "dpmpp_2m", "euler-a"])
def test_a_name_that_the_operation_understands_is_a_choice_too(name: str) -> None:
    assert typed("text-to-image", "x", "--sampler", name).params["sampler"] == name


def test_the_help_shows_the_names_proper() -> None:
    app = typer.Typer(rich_markup_mode=None)
    app.command()(command(described("text-to-image"), lambda _: None))
    shown = CliRunner().invoke(app, ["--help"], env={"COLUMNS": "400"}).output
    assert "[ddim|dpm++-2m|dpm++-2m-karras|" in shown


def test_of_an_operation_that_only_the_gateway_knows_the_gateway_judges_the_names() -> None:
    kind = OPERATIONS["text-to-image"]
    acted: list[Given] = []
    app = typer.Typer()
    remote = describe("remote", kind.summary(), kind.answers, kind.json_schema(), lambda _name, _value: True)
    app.command()(command(remote, acted.append))
    assert CliRunner().invoke(app, ["x", "--sampler", "Whatever"]).exit_code == 0
    assert acted[0].params["sampler"] == "Whatever"
