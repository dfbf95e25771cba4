"""CLIP's vectors, and the tables of phrases."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from transformers import CLIPModel, CLIPTokenizer

from services.caption import tables as tables_module
from services.caption.clip import Clip
from services.caption.tables import NEGATIVE, RANKED, Table, nearest, tables, words

TEXTS = ["a red circle", "", "a large blue star at the left on a white background", "x" * 400, "a red circle"]


@pytest.fixture(scope="module")
def clip(clip_folder: Path) -> Clip:
    return Clip.load(clip_folder)


def pooled(told: Any) -> torch.Tensor:
    """Older versions of transformers answer with the tensor itself."""
    vectors: torch.Tensor = told if isinstance(told, torch.Tensor) else told.pooler_output
    return torch.nn.functional.normalize(vectors, dim=-1)


def test_texts_lie_where_transformers_own_call_puts_them(clip: Clip, clip_folder: Path) -> None:
    model, tokenizer = (
        CLIPModel.from_pretrained(clip_folder).eval(),
        CLIPTokenizer.from_pretrained(clip_folder),
    )
    whole = tokenizer(TEXTS, padding="max_length", truncation=True, max_length=320, return_tensors="pt")
    with torch.inference_mode():
        expected = pooled(model.get_text_features(input_ids=whole.input_ids))
    got = clip.texts(TEXTS)
    assert (got - expected).abs().max() < 1e-5, "padding to the longest changes nothing"
    assert torch.equal(got[0], got[4])
    assert (got[0] - got[2]).abs().max() > 0.01


def test_a_picture_lies_where_transformers_own_call_puts_it(
    clip: Clip, clip_folder: Path, picture: Image.Image
) -> None:
    from services.caption.pixels import Preparation

    model = CLIPModel.from_pretrained(clip_folder).eval()
    pixels = torch.from_numpy(Preparation.read(clip_folder, otherwise=48)(picture))
    with torch.inference_mode():
        expected = pooled(model.get_image_features(pixel_values=pixels))[0]
    assert (clip.picture(picture) - expected).abs().max() < 1e-5


def test_many_texts_come_back_in_their_order(clip: Clip) -> None:
    many = [f"{'a ' * (n % 17)}red circle {n}" for n in range(150)]
    together = clip.texts(many)
    for at in (0, 63, 64, 149):
        assert (together[at] - clip.texts([many[at]])[0]).abs().max() < 1e-5


def test_it_knows_what_it_reads_to_the_end(clip: Clip) -> None:
    assert clip.fits("a red circle")
    assert not clip.fits("circle " * 330)


def test_our_lists_are_clean() -> None:
    assert set(words("artists")) >= {"by Vincent van Gogh", "by Claude Monet"}
    for kind in (*RANKED, NEGATIVE):
        phrases = words(kind)
        assert len(phrases) > 30
        assert len({phrase.lower() for phrase in phrases}) == len(phrases), kind
        assert all(phrase == phrase.strip() and "," not in phrase for phrase in phrases)


def test_a_table_ranks_by_the_angle() -> None:
    table = Table(["right", "up", "left"], torch.tensor([[1.0, 0], [0, 1], [-1, 0]]))
    picture = torch.tensor([0.8, 0.6])
    assert [found.phrase for found in table.rank(picture, 5)] == ["right", "up", "left"]
    assert table.rank(picture, 1)[0].score == pytest.approx(0.8)
    assert [found.phrase for found in table.rank(picture, 2, least=True)] == ["left", "up"]
    assert [found.phrase for found in (table + table).rank(picture, 2)] == ["right", "right"]


def test_texts_are_ranked_as_tables_rank_them(clip: Clip, picture: Image.Image) -> None:
    phrases = list(words("mediums"))
    seen = clip.picture(picture)
    table = Table(phrases, clip.texts(phrases))
    assert [f.phrase for f in nearest(clip, seen, phrases)][:5] == [f.phrase for f in table.rank(seen, 5)]


def test_the_tables_are_computed_once_and_kept(
    clip: Clip, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = tables(clip, tmp_path)
    (kept,) = tmp_path.glob("darkroom.phrases-*.safetensors")
    monkeypatch.setattr(Clip, "texts", lambda *_: pytest.fail("they were computed again"))
    again = tables(clip, tmp_path)
    assert all(torch.equal(first[kind].vectors, again[kind].vectors) for kind in first)
    monkeypatch.undo()
    kept.write_bytes(kept.read_bytes()[:1000])
    healed = tables(clip, tmp_path)
    assert all(torch.equal(first[kind].vectors, healed[kind].vectors) for kind in first)


def test_other_weights_or_words_make_other_tables(
    clip: Clip, clip_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tables(clip, tmp_path)
    other = Clip.load(clip_folder)
    other.digest = "of other weights"
    tables(other, tmp_path)
    assert len(list(tmp_path.glob("*.safetensors"))) == 2
    monkeypatch.setattr(tables_module, "words", lambda kind: (*words(kind), "one more"))
    assert "one more" in tables(clip, tmp_path)["flavors"].phrases
    assert len(list(tmp_path.glob("*.safetensors"))) == 3


def test_a_folder_that_cannot_be_written_is_no_harm(clip: Clip, tmp_path: Path) -> None:
    nowhere = tmp_path / "is a file"
    nowhere.write_text(json.dumps({}))
    assert len(tables(clip, nowhere)["movements"].phrases) == len(words("movements"))
