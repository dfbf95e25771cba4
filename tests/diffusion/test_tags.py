"""LoRAs that a prompt names."""

from __future__ import annotations

import pytest

from services.diffusion.tags import tagged
from services.errors import BadInput, UnknownModel
from services.operations import Lora, TextToImage

KNOWN = {"outlined", "crayon"}


def test_a_tag_becomes_a_lora_and_leaves_the_prompt() -> None:
    ask = tagged(TextToImage(prompt="a red circle <lora:outlined:0.8>, bright<lora:crayon>"), KNOWN)
    assert ask.prompt == "a red circle, bright"
    assert [(lora.name, lora.weight) for lora in ask.loras] == [("outlined", 0.8), ("crayon", 1.0)]


def test_tags_come_after_what_the_request_names() -> None:
    ask = tagged(TextToImage(prompt="<lora:crayon:-1:1>x", loras=[Lora(name="outlined")]), KNOWN)
    assert (ask.prompt, [lora.name for lora in ask.loras]) == ("x", ["outlined", "crayon"])


def test_a_prompt_without_tags_stays_as_it_is() -> None:
    ask = TextToImage(prompt="a < b <lora> (c:1.2) ")
    assert tagged(ask, KNOWN) is ask


def test_a_name_that_is_not_here_is_named() -> None:
    with pytest.raises(UnknownModel, match="'ink'") as refused:
        tagged(TextToImage(prompt="a <lora:ink:1>"), KNOWN)
    assert refused.value.field == "prompt"


@pytest.mark.parametrize("prompt", ["<lora:crayon:much>", "<lora:crayon:9>", "<lora:crayon>" * 9])
def test_a_weight_or_a_number_that_cannot_be_is_refused(prompt: str) -> None:
    with pytest.raises(BadInput) as refused:
        tagged(TextToImage(prompt=prompt), KNOWN)
    assert refused.value.field == "prompt"
