"""Training: a `Run` in; out come its checkpoints, its history, and pictures of how it went, all in the run's folder.

Each step is a function of the checkpoint before it and its own number (which decides the pairs, their order and their
jitter), so that going on from a checkpoint ends where an unbroken training ends.
"""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import FrameType
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from PIL import Image
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from tf_serving.pix2pix import checkpoints, data, model, plots
from tf_serving.pix2pix.errors import RunError, Stopped
from tf_serving.pix2pix.measures import NAMES, Measures, mean, measure
from tf_serving.pix2pix.ranges import Tensor, bytes_of_shares, shares_of_net
from tf_serving.pix2pix.run import Recipe, Run

SAMPLES = 8  # pairs on the contact sheet
LOOKED_AT = 128  # held-out pairs that a look measures; the report takes all
LOSSES = ("generator", "l1", "adversarial", "discriminator")


@dataclass
class Outcome:
    steps: int
    stopped: str | None  # why before the last step, if so
    measures: Measures | None  # at the last look, on held-out pairs


class Trainer:
    """The two nets with their optimisers; `step` trains both on one batch."""

    def __init__(self, shape: model.Shape, recipe: Recipe) -> None:
        keras.utils.set_random_seed(recipe.seed)
        self.recipe = recipe
        self.generator = model.generator(shape, 2 * recipe.seed)
        self.judge = model.discriminator(shape, 2 * recipe.seed + 1)
        self.generator_rate = keras.optimizers.Adam(recipe.learning_rate, beta_1=0.5)
        self.judge_rate = keras.optimizers.Adam(recipe.judge_learning_rate, beta_1=0.5)
        self.generator_rate.build(self.generator.trainable_variables)
        self.judge_rate.build(self.judge.trainable_variables)
        self._step = tf.function(self._trained)

    @property
    def variables(self) -> dict[str, list[Any]]:
        return {
            "generator": self.generator.variables,
            "discriminator": self.judge.variables,
            "generator-optimiser": self.generator_rate.variables,
            "discriminator-optimiser": self.judge_rate.variables,
        }

    def step(self, number: int, sketch: Tensor, picture: Tensor) -> dict[str, Tensor]:
        factor = decay(number, self.recipe)
        self.generator_rate.learning_rate = self.recipe.learning_rate * factor
        self.judge_rate.learning_rate = self.recipe.judge_learning_rate * factor
        losses = self._step(sketch, picture)
        return dict(zip(LOSSES, losses, strict=True))

    def _trained(self, sketch: Tensor, picture: Tensor) -> tuple[Tensor, ...]:
        with tf.GradientTape(persistent=True) as tape:
            made = self.generator(sketch, training=True)
            true_said = self.judge([sketch, picture], training=True)
            made_said = self.judge([sketch, made], training=True)
            l1 = tf.reduce_mean(tf.abs(picture - made))
            adversarial = _entropy(made_said, 1.0)
            generator = adversarial + self.recipe.l1 * l1
            judge = _entropy(true_said, 1.0) + _entropy(made_said, 0.0)
        generator_slopes = tape.gradient(generator, self.generator.trainable_variables)
        judge_slopes = tape.gradient(judge, self.judge.trainable_variables)
        del tape
        self.generator_rate.apply(generator_slopes, self.generator.trainable_variables)
        self.judge_rate.apply(judge_slopes, self.judge.trainable_variables)
        return generator, l1, adversarial, judge


def _entropy(logits: Tensor, truth: float) -> Tensor:
    return tf.reduce_mean(
        tf.nn.sigmoid_cross_entropy_with_logits(labels=tf.fill(tf.shape(logits), truth), logits=logits)
    )


def decay(step: int, recipe: Recipe) -> float:
    """What the learning rates are multiplied with: 1, and from `decay_from` on down to a hundredth, in a line."""
    first = recipe.decay_from * recipe.steps
    if step < first:
        return 1.0
    return max(0.01, 1.0 - (step - first) / max(1.0, recipe.steps - first))


def train(run: Run, *, resume: bool = False, console: Console | None = None) -> Outcome:
    """Trains until the last step, until it gets no better, or until Ctrl-C, which saves and raises `Stopped`."""
    console = console or Console(stderr=True)
    pairs = data.find(run.source, lambda sentence: console.print(sentence, highlight=False))
    console.print(
        f"{len(pairs.train)} pairs to train on, {len(pairs.held_out)} held out, {len(pairs.skipped)} skipped"
    )
    trainer = Trainer(run.shape, run.recipe)
    done, best, since_best, spent, past = 0, float("inf"), 0, 0.0, []
    if resume:
        facts = checkpoints.load(checkpoints.last(run.checkpoints), trainer.variables)
        done, best, since_best, spent = (facts[name] for name in ("step", "best", "since_best", "seconds"))
        past = [look for look in run.past() if look["step"] <= done]
        if done >= run.recipe.steps:
            raise RunError(f"All {done} steps are done; ask for more with --steps.")
    run.write()
    run.history.write_text("".join(json.dumps(look) + "\n" for look in past))
    watcher = Watcher(run, pairs, trainer.generator, past, spent)
    recipe = run.recipe
    batches = data.training(
        pairs.train, run.source.order, run.shape.side, recipe.batch,
        seed=recipe.seed, start=done, steps=recipe.steps,
        jitter=recipe.jitter, shrink=recipe.shrink, mirror=recipe.mirror,
    )  # fmt: skip

    def save(as_best: bool = False) -> None:
        facts = {"best": best, "since_best": since_best, "seconds": watcher.seconds()}
        checkpoints.save(run.checkpoints, done, trainer.variables, facts, as_best=as_best)

    if not done:
        watcher.sheet(0)
    stopped, running = None, _Running()
    with _bar(console) as bar, _interrupted() as interrupted:
        task = bar.add_task("training", total=recipe.steps, completed=done, losses="")
        for sketch, picture in batches:
            running.add(trainer.step(done, sketch, picture))
            done += 1
            if done % 10 == 0 or done == recipe.steps:
                bar.update(task, completed=done, losses=running.line())
            looked = done % recipe.look_every == 0 or done == recipe.steps
            if looked:
                seen = watcher.look(done, running.take())
                better = seen.l1 < best
                best, since_best = (seen.l1, 0) if better else (best, since_best + 1)
                save(as_best=better)
                if recipe.patience and since_best >= recipe.patience:
                    stopped = f"the held-out L1 has not become better for {since_best} looks"
            if interrupted() and done < recipe.steps:
                if not looked:
                    save()
                stopped = "Ctrl-C"
            if stopped:
                break
    watcher.finish()
    if stopped == "Ctrl-C":
        raise Stopped(
            f"Stopped at step {done} of {recipe.steps}, and saved. Go on with: --run {run.folder} --resume"
        )
    return Outcome(done, stopped, watcher.last)


class Watcher:
    """Looks at the model on the held-out pairs, and writes down and draws what it sees."""

    def __init__(
        self, run: Run, pairs: data.Pairs, generator: keras.Model, past: list[dict[str, Any]], spent: float
    ) -> None:
        self.run, self.generator, self.past = run, generator, past
        self.judge = Judge(generator)
        side, order = run.shape.side, run.source.order
        self.sets = {
            "train": data.evaluation(pairs.train[:LOOKED_AT], order, side, 16),
            "held_out": data.evaluation(pairs.held_out[:LOOKED_AT], order, side, 16),
        }
        samples = data.evaluation(pairs.held_out[:SAMPLES], order, side, SAMPLES)
        self.sketches, self.pictures = next(iter(samples))
        self.board = tf.summary.create_file_writer(str(run.folder / "tensorboard"))
        self.last: Measures | None = None
        self.began = time.monotonic() - spent

    def seconds(self) -> float:
        """How long this has been trained, interruptions left out."""
        return round(time.monotonic() - self.began, 1)

    def look(self, step: int, losses: dict[str, float]) -> Measures:
        seen = {name: self.judge(pairs) for name, pairs in self.sets.items()}
        self.last = held_out = seen["held_out"]
        said: dict[str, Any] = {"step": step, "seconds": self.seconds()}
        said |= {f"loss/{name}": value for name, value in losses.items()}
        for name, one in seen.items():
            said |= {f"{name}/{measured}": getattr(one, measured) for measured in NAMES}
        self.past.append(said)
        with self.run.history.open("a") as file:
            file.write(json.dumps(said) + "\n")
        with self.board.as_default(step):
            for name, value in said.items():
                tf.summary.scalar(name, value)
            tf.summary.image("held-out", np.asarray(self.sheet(step))[None])
        self.board.flush()
        self.curves()
        return held_out

    def sheet(self, step: int) -> Image.Image:
        """The same held-out sketches each time: above the sketch, then what is made of it, then the truth."""
        made = self.generator(self.sketches, training=False)
        rows = [images(self.sketches), images(made), images(self.pictures)]
        return plots.sheet(rows, self.run.folder / "samples" / f"step-{step:08d}.png")

    def curves(self) -> None:
        def of(name: str) -> list[tuple[float, float]]:
            return [(look["step"], look[name]) for look in self.past if name in look]

        plots.panels(
            {
                "losses": {"adversarial": of("loss/adversarial"), "discriminator": of("loss/discriminator")},
                "L1 inside (0 to 1)": {"train": of("train/inside"), "held-out": of("held_out/inside")},
                "SSIM": {"train": of("train/ssim"), "held-out": of("held_out/ssim")},
                "feature distance": {"train": of("train/features"), "held-out": of("held_out/features")},
            },
            self.run.folder / "curves.png",
        )

    def finish(self) -> None:
        self.board.close()
        plots.animation(
            sorted((self.run.folder / "samples").glob("step-*.png")), self.run.folder / "progress.webp"
        )


class Judge:
    """Measures a generator on sets of pairs; compiled once, and used at every look."""

    def __init__(self, generator: keras.Model) -> None:
        self._generator = generator
        self._measured = tf.function(self._measure, reduce_retracing=True)

    def __call__(self, pairs: tf.data.Dataset) -> Measures:
        """The means over all pictures of a set."""
        return mean(self._measured(sketch, picture) for sketch, picture in pairs)

    def _measure(self, sketch: Tensor, picture: Tensor) -> tuple[Tensor, ...]:
        made = self._generator(sketch, training=False)
        return measure(shares_of_net(made), shares_of_net(picture))


def images(values: Tensor) -> list[Image.Image]:
    """The net's pictures as PIL's."""
    return [Image.fromarray(one) for one in bytes_of_shares(shares_of_net(values)).numpy()]


class _Running:
    """Losses: smoothed for the bar, and their means since they were last taken."""

    def __init__(self) -> None:
        self.smooth: dict[str, float] = {}
        self.since: list[dict[str, float]] = []

    def add(self, losses: dict[str, Tensor]) -> None:
        values = {name: float(value) for name, value in losses.items()}
        self.since.append(values)
        for name, value in values.items():
            self.smooth[name] = 0.95 * self.smooth.get(name, value) + 0.05 * value

    def line(self) -> str:
        return " ".join(f"{name} {self.smooth[name]:.3f}" for name in ("l1", "adversarial", "discriminator"))

    def take(self) -> dict[str, float]:
        means = {name: float(np.mean([one[name] for one in self.since])) for name in LOSSES}
        self.since = []
        return means


def _bar(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[losses]}"),
        TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn(), console=console,
    )  # fmt: skip


@contextmanager
def _interrupted() -> Iterator[Any]:
    """Whether Ctrl-C was pressed; the step that runs is finished first. A second Ctrl-C does not wait."""
    seen: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        if seen:
            raise KeyboardInterrupt
        seen.append(number)

    try:
        before = signal.signal(signal.SIGINT, note)
    except ValueError:  # not in the main thread: then Ctrl-C does not come here
        yield lambda: False
        return
    try:
        yield lambda: bool(seen)
    finally:
        signal.signal(signal.SIGINT, before)


def again(run: Run, **changed: Any) -> Run:
    """The run with another learning rate, more steps, or other parts of its recipe."""
    return replace(
        run, recipe=replace(run.recipe, **{key: value for key, value in changed.items() if value is not None})
    )


def new(folder: Path, source: data.Source, shape: model.Shape, recipe: Recipe) -> Run:
    if (folder / "run.json").exists():
        raise RunError(
            f"{folder} holds a training already. Go on with --resume, or name another folder with --run."
        )
    return Run(folder, source, shape, recipe)
