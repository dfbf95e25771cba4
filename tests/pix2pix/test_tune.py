"""Tuning: a search goes on where it was stopped, and its best values train."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

pytest.importorskip("keras_tuner", reason='KerasTuner is not installed: pip install "darkroom[pix2pix]"')

from tf_serving.pix2pix import tune
from tf_serving.pix2pix.errors import Stopped, TuningError
from tf_serving.pix2pix.run import Recipe, Run

# KerasTuner calls what Python has renamed
pytestmark = [
    pytest.mark.filterwarnings("ignore:currentThread:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:getName:DeprecationWarning"),
]

VALUES = {
    "learning_rate": 1e-3,
    "judge_learning_rate": 1e-4,
    "l1": 50.0,
    "width": 6,
    "dropout": 0.25,
    "norm": "batch",
}


def search(tiny: Any, folder: Path, **options: Any) -> dict[str, Any]:
    run = tiny(folder)
    quiet = Console(file=io.StringIO())
    return tune.tune(folder, run.source, run.shape, run.recipe, console=quiet, **options)


def test_a_trials_values_are_its_runs(tiny: Any, tmp_path: Path) -> None:
    run = tune.trial_run(tiny(tmp_path), tmp_path / "7", {**VALUES, "tuner/epochs": 3}, 10)
    assert (run.shape.width, run.shape.dropout, run.shape.norm) == (6, 0.25, "batch")
    assert (run.recipe.learning_rate, run.recipe.judge_learning_rate, run.recipe.l1) == (1e-3, 1e-4, 50.0)
    assert (run.recipe.steps, run.recipe.look_every, run.recipe.decay_from) == (30, 10, 1.0)


def test_the_best_values_feed_a_training(tmp_path: Path) -> None:
    from tf_serving.pix2pix.model import Shape

    with pytest.raises(TuningError, match="holds no search"):
        tune.best_of(tmp_path, Shape(), Recipe())
    (tmp_path / "best.json").write_text(json.dumps({"best": VALUES}))
    shape, recipe = tune.best_of(tmp_path, Shape(), Recipe())
    assert (shape.width, shape.norm, shape.side) == (6, "batch", 128)
    assert (recipe.l1, recipe.learning_rate, recipe.steps) == (50.0, 1e-3, Recipe().steps)


def test_an_unknown_way_is_refused(tiny: Any, tmp_path: Path) -> None:
    with pytest.raises(TuningError, match="hyperband, bayesian"):
        search(tiny, tmp_path, way="grid")


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_stopped_bayesian_search_goes_on_with_the_trial_it_was_at(
    tiny: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("sklearn", reason='scikit-learn is not installed: pip install "darkroom[pix2pix]"')
    ran: list[tuple[str, bool]] = []
    real = tune.train

    def train(run: Run, resume: bool, **options: Any) -> Any:
        ran.append((run.folder.name, resume))
        if len(ran) == 2:
            raise Stopped("Ctrl-C")
        return real(run, resume=resume, **options)

    monkeypatch.setattr(tune, "train", train)
    options = {"way": "bayesian", "trials": 3, "unit": 1, "longest": 2}
    with pytest.raises(Stopped):
        search(tiny, tmp_path, **options)
    found = search(tiny, tmp_path, **options)
    assert found["trials"] == 3
    names = [name for name, _ in ran]
    assert names[1] == names[2] and len(set(names)) == 3, "the first trial is not run again, the second is"
    looks = [
        min(look["held_out/l1"] for look in Run.read(tmp_path / "trials" / name).past())
        for name in set(names)
    ]
    assert found["held_out_l1"] == pytest.approx(min(looks))
    assert (tmp_path / "trials.png").stat().st_size > 10_000
    assert json.loads((tmp_path / "best.json").read_text())["best"]["norm"] in ("instance", "batch")


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_hyperbands_longer_trials_go_on_from_the_shorter_ones(tiny: Any, tmp_path: Path) -> None:
    found = search(tiny, tmp_path, way="hyperband", unit=1, longest=3)
    runs = [Run.read(path) for path in (tmp_path / "trials").iterdir()]
    lengths = [run.recipe.steps for run in runs]
    assert min(lengths) < max(lengths) == 3 and found["trials"] == len(runs)
    longer = [run for run in runs if len(run.past()) > 1 and run.past()[0]["step"] == 1]
    assert longer and all(run.past()[-1]["step"] == run.recipe.steps for run in longer)
