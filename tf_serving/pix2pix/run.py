"""A run: the folder of one training. `run.json` holds what was asked for; this reads it, and the model out of it."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras

from tf_serving.pix2pix import checkpoints, model
from tf_serving.pix2pix.data import Source
from tf_serving.pix2pix.errors import RunError


@dataclass(frozen=True)
class Recipe:
    """How a model is trained. The defaults train the creatures."""

    steps: int = 6000
    batch: int = 8
    learning_rate: float = 8e-4
    judge_learning_rate: float = 2e-4
    l1: float = 100.0  # lambda: what a difference costs beside what the discriminator says
    decay_from: float = 0.5  # the share of the steps after which the rates fall to nothing
    jitter: float = 0.12  # enlarge by up to this, and crop
    shrink: float = 0.0  # or make smaller by up to this, on white: for drawings
    mirror: bool = True
    seed: int = 1
    look_every: int = 500  # steps between two looks at the held-out pairs
    patience: int = 0  # looks without a better one, after which training stops; 0: never

    def as_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)


@dataclass(frozen=True)
class Run:
    folder: Path
    source: Source
    shape: model.Shape
    recipe: Recipe

    @property
    def checkpoints(self) -> Path:
        return self.folder / "checkpoints"

    @property
    def history(self) -> Path:
        return self.folder / "history.jsonl"

    def write(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        said = {"data": self.source.as_dict(), "shape": self.shape.as_dict(), "recipe": self.recipe.as_dict()}
        part = self.folder / "run.json.part"
        part.write_text(json.dumps(said, indent=2) + "\n")
        part.replace(self.folder / "run.json")

    @classmethod
    def read(cls, folder: Path) -> Run:
        path = folder / "run.json"
        if not path.exists():
            raise RunError(
                f"{folder} is not the folder of a training: it has no run.json. Name what --run named."
            )
        said = json.loads(path.read_text())
        return cls(
            folder, Source.of_dict(said["data"]), model.Shape(**said["shape"]), Recipe(**said["recipe"])
        )

    def past(self) -> list[dict[str, Any]]:
        """What was seen at each look so far."""
        if not self.history.exists():
            return []
        return [json.loads(line) for line in self.history.read_text().splitlines()]

    def generator(self, which: str = "best") -> tuple[keras.Model, int]:
        """The trained generator, and the step it is of; `which` is `best` or `last`."""
        path = (checkpoints.best if which == "best" else checkpoints.last)(self.checkpoints)
        made = model.generator(self.shape)
        facts = checkpoints.load(path, {"generator": made.variables})
        return made, int(facts["step"])
