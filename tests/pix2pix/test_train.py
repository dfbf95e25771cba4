"""Training: it learns, shows how, and a stopped one ends as one that was not."""

from __future__ import annotations

import io
import itertools
import os
import shutil
import signal
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from tf_serving.pix2pix import checkpoints, train
from tf_serving.pix2pix.errors import RunError, Stopped
from tf_serving.pix2pix.run import Recipe, Run


def quiet() -> Console:
    return Console(file=io.StringIO(), width=160)


def numbers(path: Path) -> dict[str, np.ndarray]:
    with np.load(path) as saved:
        return {name: saved[name] for name in saved.files if name != "facts"}


def test_three_steps_and_three_more_are_six(tiny: Any, trained: Run, tmp_path: Path) -> None:
    first = tiny(tmp_path / "parts")
    half = replace(first, recipe=replace(first.recipe, steps=6, look_every=3))

    class Enough(Exception):
        pass

    def stop(*args: Any, **kwargs: Any) -> Any:
        save(*args, **kwargs)
        raise Enough  # as if killed right after the checkpoint of step 3

    save = checkpoints.save
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checkpoints, "save", stop)
        with pytest.raises(Enough):
            train.train(half, console=quiet())
    assert checkpoints.last(half.checkpoints).name == "step-00000003.npz"
    train.train(half, resume=True, console=quiet())

    whole, parts = (numbers(checkpoints.last(run.checkpoints)) for run in (trained, half))
    assert whole.keys() == parts.keys() and len(whole) > 50
    for name in whole:  # weights, both optimisers' moments and counters, the states of dropout's generators
        assert np.allclose(whole[name], parts[name], atol=1e-6), name
    assert [look["step"] for look in half.past()] == [3, 6]
    for one, other in zip(trained.past(), half.past(), strict=True):
        assert one["held_out/l1"] == pytest.approx(other["held_out/l1"], abs=1e-6)


@pytest.mark.slow
def test_another_seed_ends_elsewhere(tiny: Any, trained: Run, tmp_path: Path) -> None:
    other = tiny(tmp_path, seed=2)
    train.train(other, console=quiet())
    a, b = (numbers(checkpoints.last(run.checkpoints)) for run in (trained, other))
    assert not np.allclose(a["generator/0"], b["generator/0"], atol=1e-3)


def test_a_run_leaves_pictures_and_numbers_of_how_it_went(trained: Run) -> None:
    looks = trained.past()
    assert [look["step"] for look in looks] == [3, 6]
    for name in (
        "loss/generator",
        "loss/discriminator",
        "train/l1",
        "held_out/l1",
        "held_out/ssim",
        "seconds",
    ):
        assert all(np.isfinite(look[name]) for look in looks), name
    assert Image.open(trained.folder / "curves.png").width > 500
    sheets = sorted((trained.folder / "samples").iterdir())
    assert [path.name for path in sheets] == [f"step-{n:08d}.png" for n in (0, 3, 6)]
    assert Image.open(sheets[0]).tobytes() != Image.open(sheets[-1]).tobytes()
    with Image.open(trained.folder / "progress.webp") as moving:
        assert getattr(moving, "n_frames", 1) == 3
    events = list((trained.folder / "tensorboard").glob("events.*"))
    assert events and b"held_out/ssim" in events[0].read_bytes()


def test_the_best_checkpoint_is_that_of_the_best_look(trained: Run) -> None:
    best = min(trained.past(), key=lambda look: look["held_out/l1"])
    assert trained.generator("best")[1] == best["step"]
    assert trained.generator("last")[1] == 6


@pytest.mark.slow
def test_the_bar_says_losses_and_time_left(tiny: Any, tmp_path: Path) -> None:
    out = Console(file=io.StringIO(), width=160, force_terminal=True)
    train.train(tiny(tmp_path, steps=3), console=out)
    said = out.file.getvalue()  # type: ignore[attr-defined]
    assert "3/3" in said and "l1 " in said and "adversarial " in said and "left" in said
    assert "to train on" in said and "held out" in said


def test_ctrl_c_finishes_the_step_and_saves(tiny: Any, tmp_path: Path) -> None:
    run = tiny(tmp_path, steps=100_000, look_every=100_000)

    def press() -> None:
        deadline = time.monotonic() + 60
        while not (run.folder / "samples" / "step-00000000.png").exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        time.sleep(1.5)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=press)
    thread.start()
    with pytest.raises(Stopped, match=r"--resume"):
        train.train(run, console=quiet())
    thread.join()
    step = int(checkpoints.last(run.checkpoints).stem[5:])
    assert 0 <= step < 100_000
    more = train.again(run, steps=step + 3, learning_rate=1e-5)
    assert train.train(more, resume=True, console=quiet()).steps == step + 3


@pytest.mark.slow
def test_a_learning_rate_may_change_at_a_checkpoint(tiny: Any, trained: Run, tmp_path: Path) -> None:
    moved = []
    for name, rate in (("slow", 1e-9), ("fast", 1e-2)):
        shutil.copytree(trained.folder, tmp_path / name)
        run = replace(trained, folder=tmp_path / name)
        before = numbers(checkpoints.last(run.checkpoints))["generator/0"]
        again = train.again(run, steps=9, learning_rate=rate)
        train.train(again, resume=True, console=quiet())
        assert Run.read(run.folder).recipe.learning_rate == rate
        moved.append(np.abs(numbers(checkpoints.last(run.checkpoints))["generator/0"] - before).max())
    assert moved[0] < 1e-6 < 1e-3 < moved[1]


@pytest.mark.slow
def test_training_stops_when_held_out_pairs_get_no_better(tiny: Any, tmp_path: Path) -> None:
    run = tiny(tmp_path, steps=200, look_every=1, patience=2, learning_rate=0.0, judge_learning_rate=0.0)
    outcome = train.train(run, console=quiet())
    assert outcome.steps == 3 and outcome.stopped and "2 looks" in outcome.stopped


@pytest.mark.slow
def test_it_learns(tiny: Any, tmp_path: Path) -> None:
    run = tiny(tmp_path, steps=60, look_every=60, learning_rate=5e-3, dropout=0.0)
    before = train.Judge(train.Trainer(run.shape, run.recipe).generator)(_held_out(run)).l1
    outcome = train.train(run, console=quiet())
    assert outcome.measures and outcome.measures.l1 < 0.5 * before


def _held_out(run: Run) -> Any:
    from tf_serving.pix2pix import data

    return data.evaluation(data.find(run.source).held_out, run.source.order, run.shape.side, 8)


def test_the_rates_fall_to_nothing_after_their_share_of_the_steps() -> None:
    recipe = Recipe(steps=100, decay_from=0.5)
    factors = [train.decay(step, recipe) for step in range(100)]
    assert factors[:50] == [1.0] * 50 and factors[99] < 0.05
    assert all(a >= b for a, b in itertools.pairwise(factors))
    assert train.decay(99, replace(recipe, decay_from=1.0)) == 1.0


def test_what_cannot_be_gone_on_with_is_said(tiny: Any, trained: Run, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="ask for more"):
        train.train(trained, resume=True, console=quiet())
    with pytest.raises(RunError, match="no checkpoint"):
        train.train(tiny(tmp_path / "new"), resume=True, console=quiet())
    with pytest.raises(RunError, match="another model"):
        wider = replace(
            trained, shape=replace(trained.shape, width=8), recipe=replace(trained.recipe, steps=9)
        )
        train.train(replace(wider, folder=trained.folder), resume=True, console=quiet())
    with pytest.raises(RunError, match="no run"):
        Run.read(tmp_path / "nowhere")
    with pytest.raises(RunError, match="--resume"):
        train.new(trained.folder, trained.source, trained.shape, trained.recipe)


def test_a_run_is_read_as_it_was_written(trained: Run) -> None:
    read = Run.read(trained.folder)
    assert (read.shape, read.recipe) == (trained.shape, trained.recipe)
    assert read.source.as_dict() == trained.source.as_dict()
