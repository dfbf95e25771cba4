"""Trains the micro family: `python -m services.micro.train all`, or one stage by its name.

Each stage is seeded, keeps a checkpoint in the work folder and goes on from it when it is started again, and says
how long it still takes. The times are of one core of a 2024 server processor that has nothing else to do.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

import torch

from services.micro import adapter, clip, control, family, judge, lora, pose, unet, vae

# The stage's minutes, what it needs before it, and how it is started
Stage = tuple[int, tuple[str, ...], Callable[[Path], object]]
STAGES: dict[str, Stage] = {
    "vae": (14, (), vae.train),
    "clip": (8, (), clip.train),
    "unet": (45, ("vae", "clip"), unet.train),
    "decoder": (6, ("vae",), vae.train_decoder),
    "canny": (12, ("unet",), lambda work: control.train(work, "canny")),
    "openpose": (14, ("unet",), lambda work: control.train(work, "openpose")),
    "ip-adapter": (8, ("unet",), adapter.train),
    "lora": (6, ("unet",), lora.train),
    "judge": (4, (), judge.train),
    "pose": (6, (), pose.train),
    "assemble": (1, (), family.assemble),
}


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m services.micro.train", description=__doc__)
    parser.add_argument("stage", choices=["all", *STAGES])
    parser.add_argument(
        "--work", type=Path, default=Path(".darkroom/micro"), help="checkpoints and trained parts"
    )
    parser.add_argument("--threads", type=int, default=1)
    chosen = parser.parse_args(arguments)
    torch.set_num_threads(chosen.threads)
    chosen.work.mkdir(parents=True, exist_ok=True)
    for name in STAGES if chosen.stage == "all" else [chosen.stage]:
        minutes, _, start = STAGES[name]
        print(f"{name}: about {minutes} minutes on one core", file=sys.stderr, flush=True)  # noqa: T201
        start(chosen.work)


if __name__ == "__main__":
    main()
