"""How a prompt is read: weights, brackets, and prompts longer than an encoder reads at once."""

from __future__ import annotations

import time

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from services.diffusion.checkpoint import Checkpoint
from services.diffusion.encode import encode
from services.diffusion.prompts import MAX_ROWS, parse, tokenize
from services.errors import BadInput
from tests.diffusion.tiny import TOLERANCE, alone, apart, pipeline, recipe, theirs, tokenizer


def read(prompt: str) -> list[tuple[str, float]]:
    return [(piece.text, round(piece.weight, 4)) for piece in parse(prompt)]


@pytest.mark.parametrize(
    ("prompt", "pieces"),
    [
        ("a red circle", [("a red circle", 1.0)]),
        ("", []),
        ("a (red) circle", [("a ", 1.0), ("red", 1.1), (" circle", 1.0)]),
        ("a (red:1.3) circle", [("a ", 1.0), ("red", 1.3), (" circle", 1.0)]),
        ("(red: .5 )", [("red", 0.5)]),
        ("(red:-1)", [("red", -1.0)]),
        ("[red]", [("red", 0.9091)]),
        ("((red))", [("red", 1.21)]),
        ("[[red]]", [("red", 0.8264)]),
        ("(a (red:2) cat:1.5)", [("a ", 1.5), ("red", 3.0), (" cat", 1.5)]),
        (r"a \(red\) \[cat\] \\", [("a (red) [cat] \\", 1.0)]),
        ("a) b] c", [("a) b] c", 1.0)]),
        ("a (red", [("a ", 1.0), ("red", 1.1)]),
        ("time 10:30) and (a:b)", [("time 10:30) and ", 1.0), ("a:b", 1.1)]),
        (r"C:\pictures", [(r"C:\pictures", 1.0)]),
        ("BREAKFAST", [("BREAKFAST", 1.0)]),
        ("red BREAK cat", [("red ", 1.0), ("", 1.0), (" cat", 1.0)]),
    ],
)
def test_weights_are_read_as_people_write_them(prompt: str, pieces: list[tuple[str, float]]) -> None:
    assert read(prompt) == pieces


@given(st.text(alphabet="ab()[]:1.\\ BREAK,", max_size=200))
@settings(max_examples=300, deadline=None)
def test_whatever_is_written_is_read(prompt: str) -> None:
    kept = "".join(piece.text for piece in parse(prompt))
    assert set(kept) <= set(prompt)
    assert [c for c in kept if c == ","] == [c for c in prompt if c == ","]


def test_a_prompt_of_brackets_alone_takes_no_time() -> None:
    before = time.perf_counter()
    parse("(a" * 2_500 + ")" * 5_000)
    parse("(" * 5_000 + "[a]" * 1_600)
    assert time.perf_counter() - before < 1


def test_a_short_prompt_is_one_row_of_77_tokens_as_the_tokenizer_gives_them() -> None:
    words = "a red circle, a (cat"
    plain = tokenizer()(
        words.replace("(", ""), padding="max_length", max_length=77, truncation=True
    ).input_ids
    assert tokenize(words.replace("(", ""), tokenizer(), 77).ids == [plain]
    assert tokenize("", tokenizer(), 77).ids == [
        tokenizer()("", padding="max_length", max_length=77).input_ids
    ]


def test_a_long_prompt_is_cut_into_rows_that_each_have_a_start_and_an_end() -> None:
    known = tokenizer()
    words = " ".join(["cat"] * 160)
    rows = tokenize(words, known, 77)
    assert [len(row) for row in rows.ids] == [77, 77, 77]
    assert all(row[0] == known.bos_token_id for row in rows.ids)
    assert [row.count(known.convert_tokens_to_ids("cat</w>")) for row in rows.ids] == [75, 75, 10]
    assert all(row[76] == known.eos_token_id for row in rows.ids)


def test_break_begins_a_new_row() -> None:
    assert len(tokenize("red BREAK cat", tokenizer(), 77).ids) == 2


def test_a_weight_goes_with_every_token_of_its_words() -> None:
    rows = tokenize("cat (red circle:1.5)", tokenizer(), 77)
    assert rows.weights[0][:6] == [1.0, 1.0, 1.5, 1.5, 1.0, 1.0]
    assert len(rows.weights[0]) == 77


@pytest.mark.parametrize("field", ["prompt", "negative_prompt"])
def test_a_prompt_beyond_all_bounds_is_refused_with_its_field(sdxl: Checkpoint, field: str) -> None:
    with pytest.raises(BadInput) as told:
        encode(sdxl, recipe(**{field: "a " * 5_000}))
    assert told.value.field == field
    assert str(MAX_ROWS * 75) in told.value.detail


@pytest.mark.parametrize("prompt", ["(red:1e9)", "(red:11)", "(" * 20 + "(red:9.9)" + ")" * 20])
def test_a_weight_beyond_all_bounds_is_refused(sdxl: Checkpoint, prompt: str) -> None:
    if "e9" in prompt:  # no number as people write it, so it is a word
        assert read(prompt) == [("red:1e9", 1.1)]
        return
    with pytest.raises(BadInput) as told:
        encode(sdxl, recipe(prompt=prompt))
    assert told.value.field == "prompt"


def test_both_sides_have_equally_many_tokens(sdxl: Checkpoint) -> None:
    for asked in (
        recipe(prompt="cat " * 200),
        recipe(negative_prompt="cat " * 100),
        recipe(prompt="cat " * 100, negative_prompt=""),
    ):
        told = encode(sdxl, asked)
        assert told.negative is not None
        assert told.positive.text.shape == told.negative.text.shape
        assert told.positive.text.shape[1] in (154, 231)
        assert told.positive.pooled is not None
        assert told.positive.pooled.shape == (1, 32)


def test_what_comes_after_the_77th_token_is_still_read(sdxl: Checkpoint) -> None:
    start = "a red circle " * 30
    assert (
        float(
            (alone(sdxl, recipe(prompt=start + "cat")) - alone(sdxl, recipe(prompt=start + "blue")))
            .abs()
            .max()
        )
        > 0
    )


def test_a_long_prompt_gives_what_diffusers_makes_of_the_same_rows(sdxl: Checkpoint) -> None:
    """diffusers cuts long prompts off, but takes embeddings: those of the rows, encoded by itself one by one."""
    pipe = pipeline("sdxl")
    rows = ["cat " * 75, "red circle"]
    sides = [
        pipe.encode_prompt(row, negative_prompt=other, device=torch.device("cpu"))
        for row, other in zip(rows, ("blue", ""), strict=True)
    ]
    # an empty second row of the negative side is an empty prompt, not zeros
    asked = recipe(prompt="cat " * 75 + "red circle")
    empty = pipe.encode_prompt("", negative_prompt="x", device=torch.device("cpu"))[0]
    their = theirs(
        pipe,
        asked,
        prompt=None,
        negative_prompt=None,
        prompt_embeds=torch.cat([sides[0][0], sides[1][0]], dim=1),
        negative_prompt_embeds=torch.cat([sides[0][1], empty], dim=1),
        pooled_prompt_embeds=sides[0][2],
        negative_pooled_prompt_embeds=sides[0][3],
    )
    assert apart(alone(sdxl, asked), their[0]) < TOLERANCE


def test_a_weight_of_1_changes_nothing_and_another_does(sdxl: Checkpoint) -> None:
    plain = encode(sdxl, recipe(prompt="a red circle")).positive.text
    assert torch.equal(encode(sdxl, recipe(prompt="a (red:1.0) circle")).positive.text, plain)
    strong = encode(sdxl, recipe(prompt="a (red:1.5) circle")).positive.text
    change = (strong - plain).abs().mean(dim=(0, 2))
    assert int(change.argmax()) == 2, "the word itself changes most"
    assert torch.isclose(strong[..., :32].abs().mean(), plain[..., :32].abs().mean(), rtol=1e-4)
