"""Conversion: four TFLite files that hold the weights, are the model, and are timed; what is not so is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

pytest.importorskip("ai_edge_litert", reason='LiteRT is not installed: pip install "darkroom[pix2pix]"')

from tf_serving.pix2pix import convert, model
from tf_serving.pix2pix.errors import ExportError

SIDE = 32
# what LiteRT and the converter say of themselves
pytestmark = pytest.mark.filterwarnings("ignore:Statistics for quantized inputs:UserWarning")


@pytest.fixture(scope="module")
def generator() -> Any:
    return model.generator(model.Shape(side=SIDE, width=4, depth=3), seed=3)


@pytest.fixture(scope="module")
def sketches() -> np.ndarray:
    return tf.random.stateless_uniform([6, SIDE, SIDE, 3], [1, 2], -1, 1).numpy()


@pytest.fixture(scope="module")
def content(generator: Any, sketches: np.ndarray) -> bytes:
    return convert.converted(generator, "float32", sketches)


def test_float32_is_the_keras_model_for_any_number_of_pictures(
    generator: Any, content: bytes, sketches: np.ndarray
) -> None:
    run = convert.Runner(content)
    assert run.side == SIDE
    for count in (1, 3, 6, 2):
        wanted = generator(sketches[:count], training=False).numpy()
        assert np.allclose(run(sketches[:count]), wanted, atol=1e-5)


def test_a_file_without_its_weights_is_refused(
    generator: Any, sketches: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As `tf.saved_model.save` and `from_saved_model` make it: it converts, is small, and knows nothing."""

    class Loser:
        def convert(self) -> bytes:
            return b"x" * 1000

    monkeypatch.setattr(tf.lite.TFLiteConverter, "from_keras_model", lambda _: Loser())
    with pytest.raises(ExportError, match="lost"):
        convert.converted(generator, "float32", sketches)


def test_a_file_of_another_model_is_refused(content: bytes, sketches: np.ndarray) -> None:
    other = model.generator(model.Shape(side=SIDE, width=4, depth=3), seed=4)
    with pytest.raises(ExportError, match="dB"):
        convert.judged(other, "float32", content, sketches, None)


def test_slower_than_float32_is_called_slow(content: bytes, sketches: np.ndarray, generator: Any) -> None:
    first = convert.judged(generator, "float32", content, sketches, None)
    assert not first.slow and first.psnr > 80 and first.bytes == len(content) and first.milliseconds > 0
    fast = convert.Converted("float32", "", 0, "", 0, first.milliseconds / 100, 0, False)
    assert convert.judged(generator, "float16", content, sketches, fast).slow
    assert "**slow**" in convert.table([convert.judged(generator, "float16", content, sketches, fast)])


def test_psnr_of_a_hundredth_is_forty_decibels() -> None:
    one = np.zeros((4, 4), np.float32)
    assert convert.psnr(one, one + 0.01) == pytest.approx(40, abs=0.01)
    assert convert.psnr(one, one) == 120


@pytest.mark.slow
def test_all_four_kinds_are_written_whole_with_a_table(
    generator: Any, sketches: np.ndarray, tmp_path: Path
) -> None:
    folder = convert.convert(generator, tmp_path / "tiny", "tiny", {"step": 4}, sketches)
    assert folder.name == "1"
    said = json.loads((folder / "model.json").read_text())
    assert (said["name"], said["side"], said["pictures"], said["step"]) == ("tiny", SIDE, 1, 4)
    assert set(said["files"]) == set(convert.FILES.values())
    for file, facts in said["files"].items():
        assert (folder / file).stat().st_size == facts["bytes"]
    sizes = {facts["kind"]: facts["bytes"] for facts in said["files"].values()}
    assert sizes["dynamic"] < sizes["float16"] < sizes["float32"]
    table = (folder / "conversion.md").read_text()
    assert all(f"| {kind} |" in table for kind in convert.FILES)
