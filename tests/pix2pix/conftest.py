"""TensorFlow, if it is installed, and a tiny training that several tests look at."""

from __future__ import annotations

import importlib.util
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("KERAS_BACKEND", "tensorflow")

if importlib.util.find_spec("tensorflow") is None:
    pytest.skip('TensorFlow is not installed: pip install "darkroom[pix2pix]"', allow_module_level=True)

SIDE = 32


@pytest.fixture(scope="session")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty small creatures; five of them are held out."""
    from tf_serving.pix2pix import creatures

    folder = tmp_path_factory.mktemp("pairs")
    for number in range(40):
        creatures.write_one(folder, number, SIDE)
    return folder


@pytest.fixture(scope="session")
def tiny(pairs: Path) -> Any:
    """Makes a run in a folder: 32 pixels, 4 channels."""
    from tf_serving.pix2pix import data, model
    from tf_serving.pix2pix.run import Recipe, Run

    shape = model.Shape(side=SIDE, width=4, depth=3, judge_width=4, judge_depth=1, dropout=0.3)
    recipe = Recipe(steps=6, batch=4, look_every=3, decay_from=0.5)

    def make(folder: Path, **changed: Any) -> Run:
        form = {key: changed.pop(key) for key in list(changed) if hasattr(shape, key)}
        return Run(
            folder, data.Source(pairs, held_out=0.2), replace(shape, **form), replace(recipe, **changed)
        )

    return make


@pytest.fixture(scope="session")
def trained(tiny: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A run of six steps, with all that it leaves behind."""
    from tf_serving.pix2pix.train import train

    run = tiny(tmp_path_factory.mktemp("trained"))
    train(run)
    return run
