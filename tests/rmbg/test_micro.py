"""The shipped net: whole, small, and as good on scenes that it never saw as its page says; and what it learned from."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from services.models import read_catalogue
from services.onnx import open_net
from services.rmbg.engine import Engine
from services.rmbg.engines import engines
from services.rmbg.micro.scenes import KINDS, UNSEEN, scene

ENTRY = next(entry for entry in read_catalogue() if entry.name == "micro-matte")
FOLDER = Path(ENTRY.folder)


def quiet(_done: int, _total: int) -> None:
    """No progress."""


def judged(engine: Engine, seeds: range, side: int) -> tuple[float, float]:
    """Mean absolute error, and intersection over union."""
    errors, overlaps = [], []
    for seed in seeds:
        pixels, alpha = scene(seed, side)
        found = np.asarray(engine.mask(Image.fromarray(pixels), quiet)) / 255
        errors.append(np.abs(found - alpha).mean())
        one, other = found > 0.5, alpha > 0.5
        overlaps.append((one & other).sum() / max(1, (one | other).sum()))
    return float(np.mean(errors)), float(np.mean(overlaps))


def test_the_ledger_holds_and_the_file_is_small() -> None:
    files = json.loads((FOLDER / "ledger.json").read_text())["files"]
    assert set(files) == {path.name for path in FOLDER.iterdir()} - {"ledger.json"}
    for name, told in files.items():
        content = (FOLDER / name).read_bytes()
        assert len(content) == told["bytes"] <= 3 * 10**6
        assert hashlib.sha256(content).hexdigest() == told["sha256"]
        assert (FOLDER.parents[2] / told["script"]).is_file()


def test_it_takes_batches_of_any_size_and_answers_with_alphas() -> None:
    net = open_net(FOLDER / ENTRY.single_file, ENTRY.name)
    batch = np.random.default_rng(0).standard_normal((3, 3, 96, 160), dtype=np.float32)
    (found,) = net.run(batch)
    assert found.shape == (3, 1, 96, 160)
    assert 0 <= found.min() <= found.max() <= 1
    np.testing.assert_allclose(net.run(batch[1:2])[0], found[1:2], atol=1e-4)


@pytest.mark.slow
def test_it_cuts_out_what_it_never_saw_and_better_than_grabcut_does() -> None:
    there = engines()
    seeds = range(UNSEEN + 20_000, UNSEEN + 20_030)
    error, overlap = judged(there["micro-matte"], seeds, 256)
    plain_error, plain_overlap = judged(there["grabcut"], seeds, 256)
    assert error < 0.1
    assert overlap > 0.7
    assert error < plain_error
    assert overlap > plain_overlap


# ── its lessons ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_seed_is_always_the_same_scene() -> None:
    one, other = scene(5, 64), scene(5, 64)
    np.testing.assert_array_equal(one[0], other[0])
    np.testing.assert_array_equal(one[1], other[1])
    assert (scene(6, 64)[0] != one[0]).any()


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_subject_has_an_alpha_with_inside_outside_and_edge(kind: str) -> None:
    for seed in range(UNSEEN, UNSEEN + 5):
        picture, alpha = scene(seed, 96, kind)
        assert (picture.shape, picture.dtype, alpha.shape) == ((96, 96, 3), np.uint8, (96, 96))
        assert 0 <= alpha.min() < 0.01
        assert alpha.max() > 0.5
        assert 0.005 < alpha.mean() < 0.95
        assert ((alpha > 0.02) & (alpha < 0.98)).any()


def test_training_and_judging_never_share_a_seed() -> None:
    from services.rmbg.micro import train

    assert train.STEPS * train.NEW + train.BATCH * 100 < UNSEEN


def test_lessons_are_of_all_kinds_sizes_and_colours() -> None:
    shares = [round(scene(seed, 64)[1].mean() * 4) for seed in range(60)]
    assert len(Counter(shares)) >= 3
    greys = [bool(np.ptp(scene(seed, 64)[0].astype(int), axis=2).mean() < 6) for seed in range(60)]
    assert 0 < sum(greys) < 30
