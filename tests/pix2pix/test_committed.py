"""The committed model: whole, as good as it says, and small."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("ai_edge_litert", reason='LiteRT is not installed: pip install "darkroom[pix2pix]"')

import tensorflow as tf

from tf_serving.pix2pix import creatures, ledger
from tf_serving.pix2pix.convert import FILES, Runner
from tf_serving.pix2pix.graph import ink_of_shares, net_of_ink
from tf_serving.pix2pix.measures import Measures, mean, measure
from tf_serving.pix2pix.ranges import shares_of_net

FOLDER = ledger.MODELS / "creatures" / "1"
SAMPLES = Path(__file__).parent / "samples"
UNSEEN = range(1_000_000, 1_000_048)  # seeds that no training set reaches


def shares(pictures: list) -> tf.Tensor:  # type: ignore[type-arg]
    return tf.constant(np.stack([np.asarray(one) for one in pictures]) / 255, tf.float32)


@pytest.fixture(scope="module")
def drawn() -> tuple[tf.Tensor, tf.Tensor]:
    """Sketches for the net, and the true pictures."""
    pairs = [creatures.pair(seed, 128) for seed in UNSEEN]
    return net_of_ink(ink_of_shares(shares([p[0] for p in pairs])), 128), shares([p[1] for p in pairs])


def seen(file: str, drawn: tuple[tf.Tensor, tf.Tensor]) -> Measures:
    sketches, true = drawn
    run = Runner((FOLDER / file).read_bytes())
    made = tf.concat([run(sketches[i : i + 8].numpy()) for i in range(0, len(UNSEEN), 8)], 0)
    return mean([measure(shares_of_net(made), true)])


def test_the_ledger_holds_and_all_is_small() -> None:
    assert json.loads(ledger.LEDGER.read_text())["files"] == ledger.entries()
    assert sum(int(entry["bytes"]) for entry in ledger.entries().values()) <= ledger.MOST
    assert {f"creatures/1/{file}" for file in FILES.values()} < set(ledger.entries())


def test_sketches_that_it_never_saw_get_their_pictures(drawn: tuple[tf.Tensor, tf.Tensor]) -> None:
    found = seen("model.tflite", drawn)
    assert found.ssim >= 0.75 and found.l1 <= 0.08, "what issue 4 asks for"
    # and what was reached, which a white page with the sketch on it would not pass: L1 0.08, inside 0.24, SSIM 0.83
    assert found.ssim >= 0.92 and found.l1 <= 0.025 and found.inside <= 0.08


def test_each_kind_gets_the_colour_of_its_skin(drawn: tuple[tf.Tensor, tf.Tensor]) -> None:
    """The share of unseen creatures whose made skin is nearer to their own kind's colour than to any other's."""
    run = Runner((FOLDER / "model.tflite").read_bytes())
    own = {
        kind: np.mean([creatures.creature(seed, kind).tints["body"] for seed in range(20)], axis=0) / 255
        for kind in creatures.KINDS
    }
    right = 0
    for i, seed in enumerate(UNSEEN):
        made = shares_of_net(run(drawn[0][i : i + 1].numpy()))[0].numpy()
        creature = creatures.creature(seed)
        skin = np.abs(drawn[1][i].numpy() - np.array(creature.tints["body"]) / 255).max(-1) < 0.02
        colour = np.median(made[skin], axis=0)
        right += min(own, key=lambda kind: float(np.abs(own[kind] - colour).sum())) == creature.kind
    assert right >= 0.9 * len(UNSEEN), f"{right} of {len(UNSEEN)}"


@pytest.mark.slow
@pytest.mark.parametrize("file", [file for file in FILES.values() if file != "model.tflite"])
def test_the_smaller_files_are_nearly_as_good(file: str, drawn: tuple[tf.Tensor, tf.Tensor]) -> None:
    assert seen(file, drawn).inside < 1.1 * seen("model.tflite", drawn).inside


def test_it_says_what_it_is_and_how_good() -> None:
    said = json.loads((FOLDER / "model.json").read_text())
    assert (said["name"], said["version"], said["side"], said["pictures"]) == ("creatures", 1, 128, 1)
    assert said["figures"]["held_out"]["ssim"] >= 0.75 and said["figures"]["held_out"]["l1"] <= 0.08
    assert "over-fit" in said["figures"]["verdict"]


@pytest.mark.parametrize("path", sorted(SAMPLES.glob("*-sketch.png")), ids=lambda path: path.stem)
def test_the_samples_are_what_it_makes(path: Path) -> None:
    from tf_serving.pix2pix.predict import coloured, from_version

    made = Image.open(io.BytesIO(coloured(from_version(FOLDER), path)))
    shown = Image.open(path.with_name(path.name.replace("sketch", "picture"))).convert("RGB")
    assert made.size == shown.size == Image.open(path).size
    assert np.abs(np.asarray(made).astype(int) - np.asarray(shown)).max() <= 3
