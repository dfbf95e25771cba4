"""Checkpoints: everything that decides the next step, in one file, written whole or not at all.

In goes a `Trainer`'s variables (weights, the optimisers' moments, the states of its random generators) and a few
numbers; a training that goes on from it ends as one that was never stopped.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tf_serving.pix2pix.errors import RunError

NAME = re.compile(r"step-(\d{8})\.npz")
Groups = Mapping[str, Sequence[Any]]  # names and Keras variables


def save(
    folder: Path, step: int, groups: Groups, facts: dict[str, Any], keep: int = 3, as_best: bool = False
) -> Path:
    """Writes `step-NNNNNNNN.npz` (and `best.npz`), and removes all but the last few."""
    folder.mkdir(parents=True, exist_ok=True)
    arrays: dict[str, Any] = {
        f"{name}/{i}": np.asarray(v) for name, group in groups.items() for i, v in enumerate(group)
    }
    arrays["facts"] = np.array(json.dumps({**facts, "step": step}))
    path = folder / f"step-{step:08d}.npz"
    part = path.with_suffix(".part")
    with part.open("wb") as file:
        np.savez(file, **arrays)
    part.replace(path)
    if as_best:
        copy = folder / "best.part"
        copy.write_bytes(path.read_bytes())
        copy.replace(folder / "best.npz")
    for old in sorted(folder.glob("step-*.npz"))[:-keep]:
        old.unlink()
    return path


def last(folder: Path) -> Path:
    """The checkpoint of the highest step."""
    found = sorted(p for p in folder.glob("step-*.npz") if NAME.fullmatch(p.name))
    if not found:
        raise RunError(f"There is no checkpoint in {folder}. Train first: darkroom pix2pix train --help")
    return found[-1]


def best(folder: Path) -> Path:
    """The checkpoint that was best on the held-out pairs, or the last one."""
    path = folder / "best.npz"
    return path if path.exists() else last(folder)


def load(path: Path, groups: Groups) -> dict[str, Any]:
    """Puts a checkpoint's numbers into the variables of `groups` and returns its facts."""
    with np.load(path, allow_pickle=False) as saved:
        for name, group in groups.items():
            there = sum(key.startswith(f"{name}/") for key in saved.files)
            if there != len(group):
                raise RunError(
                    f"{path} holds another model: {name} has {there} tensors and not {len(group)}."
                )
            for i, variable in enumerate(group):
                value = saved[f"{name}/{i}"]
                if value.shape != tuple(variable.shape):
                    raise RunError(
                        f"{path} holds another model: {name}/{i} has the shape {value.shape} "
                        f"and not {tuple(variable.shape)}."
                    )
                variable.assign(value)
        return dict(json.loads(str(saved["facts"])))
