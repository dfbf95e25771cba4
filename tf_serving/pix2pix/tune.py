"""Tuning: data in; out come the best shape and recipe that KerasTuner's Hyperband or Bayesian search finds.

A trial is a run like any other, in a folder of its own; its measure is the held-out L1. Hyperband's longer trials go on
from the checkpoints of the shorter ones. A search that was stopped goes on when it is started again.
"""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

os.environ.setdefault("KERAS_BACKEND", "tensorflow")

import keras_tuner
from rich.console import Console

from tf_serving.pix2pix import checkpoints, data, model, plots
from tf_serving.pix2pix.errors import RunError, TuningError
from tf_serving.pix2pix.run import Recipe, Run
from tf_serving.pix2pix.train import train

OBJECTIVE = "held_out_l1"
BEST = "best.json"
WAYS = ("hyperband", "bayesian")


def space(shape: model.Shape) -> keras_tuner.HyperParameters:
    """What is searched. Widths are around the asked one."""
    hp = keras_tuner.HyperParameters()
    hp.Float("learning_rate", 1e-4, 4e-3, sampling="log", default=8e-4)
    hp.Float("judge_learning_rate", 5e-5, 1e-3, sampling="log", default=2e-4)
    hp.Float("l1", 10, 300, sampling="log", default=100)
    widths = sorted({max(4, shape.width // 2), shape.width, shape.width * 3 // 2})
    hp.Choice("width", widths, default=shape.width)
    hp.Choice("dropout", [0.0, 0.25, 0.5], default=0.0)
    hp.Choice("norm", ["instance", "batch"], default="instance")
    return hp


class _Tuner(keras_tuner.engine.base_tuner.BaseTuner):  # type: ignore[misc]
    """KerasTuner's search, in which a trial is one of our runs."""

    def __init__(self, first: Run, unit: int, oracle: Any, folder: Path, console: Console) -> None:
        self.first, self.unit, self.console = first, unit, console
        super().__init__(oracle=oracle, directory=str(folder), project_name="search")

    def run_trial(self, trial: Any, *args: Any, **kwargs: Any) -> float:
        values = trial.hyperparameters.values
        run = trial_run(self.first, Path(self.directory) / "trials" / trial.trial_id, values, self.unit)
        before = values.get("tuner/trial_id")
        if before and not run.folder.exists():  # Hyperband: this trial is the longer form of that one
            shutil.copytree(Path(self.directory) / "trials" / before, run.folder)
        if done(run) < run.recipe.steps:
            train(run, resume=done(run) > 0, console=self.console)
        return min(float(look["held_out/l1"]) for look in run.past())


def trial_run(first: Run, folder: Path, values: dict[str, Any], unit: int) -> Run:
    """The run of a trial's values. Its rates do not fall, so that it can be made longer."""
    steps = unit * int(values.get("tuner/epochs") or 1)
    recipe = replace(
        first.recipe,
        steps=steps,
        look_every=unit,
        decay_from=1.0,
        patience=0,
        learning_rate=float(values["learning_rate"]),
        judge_learning_rate=float(values["judge_learning_rate"]),
        l1=float(values["l1"]),
    )
    shape = replace(
        first.shape, width=int(values["width"]), dropout=float(values["dropout"]), norm=str(values["norm"])
    )
    return Run(folder, first.source, shape, recipe)


def done(run: Run) -> int:
    """The steps that a run has behind it."""
    try:
        return int(checkpoints.NAME.fullmatch(checkpoints.last(run.checkpoints).name)[1])  # type: ignore[index]
    except RunError:
        return 0


def tune(
    folder: Path, source: data.Source, shape: model.Shape, recipe: Recipe, *,
    way: str = "hyperband", trials: int = 12, unit: int = 200, longest: int = 9, console: Console | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Searches, or goes on searching, and returns the best values.

    `unit` is the steps between two looks. Hyperband lets a trial take one to `longest` units, and decides itself how
    many trials there are; the Bayesian search makes `trials`, each of `longest` units.
    """
    if way not in WAYS:
        raise TuningError(f"The search is one of {', '.join(WAYS)}, not {way!r}.")
    console = console or Console(stderr=True)
    objective = keras_tuner.Objective(OBJECTIVE, "min")
    common: dict[str, Any] = {"objective": objective, "hyperparameters": space(shape), "seed": recipe.seed}
    first = Run(folder / "trials", source, shape, recipe)
    if way == "hyperband":
        oracle = keras_tuner.oracles.HyperbandOracle(max_epochs=longest, factor=3, **common)
    else:
        try:
            oracle = keras_tuner.oracles.BayesianOptimizationOracle(max_trials=trials, **common)
        except ImportError as error:
            raise TuningError(
                'The Bayesian search needs scikit-learn: pip install "darkroom[pix2pix]"'
            ) from error
        unit *= longest
    tuner = _Tuner(first, unit, oracle, folder, console)
    tuner.search()
    return written(folder, tuner.oracle, unit)


def written(folder: Path, oracle: Any, unit: int) -> dict[str, Any]:
    """`best.json` and `trials.png`, from all trials so far."""
    ended = [trial for trial in oracle.trials.values() if trial.score is not None]
    if not ended:
        raise TuningError(f"No trial has come to its end: {folder / 'trials'} holds what there is of them.")
    for trial in ended:
        trial.steps = unit * int(trial.hyperparameters.values.get("tuner/epochs") or 1)
    one = min(ended, key=lambda trial: trial.score)
    keys = ("learning_rate", "judge_learning_rate", "l1", "width", "dropout", "norm")
    best = {key: one.hyperparameters.values[key] for key in keys}
    said = {
        "best": best,
        OBJECTIVE: one.score,
        "trial": one.trial_id,
        "trials": len(ended),
        "steps": one.steps,
    }
    part = folder / "best.part"
    part.write_text(json.dumps(said, indent=2) + "\n")
    part.replace(folder / BEST)
    content: dict[str, plots.Series] = {}
    for key in keys:
        points = [(trial.hyperparameters.values[key], trial.score, trial.steps) for trial in ended]
        lengths = sorted({steps for _, _, steps in points})
        content[key] = {f"{n} steps": [(x, y) for x, y, steps in points if steps == n] for n in lengths}
    plots.panels(content, folder / "trials.png", across="held-out L1 over this", dots=True)
    return said


def best_of(folder: Path, shape: model.Shape, recipe: Recipe) -> tuple[model.Shape, Recipe]:
    """A shape and a recipe with the best values of a search put in."""
    path = folder / BEST
    if not path.exists():
        raise TuningError(
            f"{folder} holds no search: it has no {BEST}. Search first: darkroom pix2pix tune --help"
        )
    best = json.loads(path.read_text())["best"]
    return (
        replace(shape, **{key: best[key] for key in ("width", "dropout", "norm")}),
        replace(recipe, **{key: best[key] for key in ("learning_rate", "judge_learning_rate", "l1")}),
    )
