"""Trains the micro net: `python -m services.cleanup.micro.train`. In go seeds, out come `weights/micro.onnx` and its
ledger.

About a quarter of an hour on one core of a 2024 server processor that has nothing else to do. It is seeded, keeps a
checkpoint in the work folder, goes on from it when it is started again, and says how long it still takes; `--export`
writes what a checkpoint has reached.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as f

from services.cleanup.micro.export import write
from services.cleanup.micro.net import Net
from services.cleanup.micro.pictures import Painter, hole
from services.cleanup.micro.smooth import Fills
from services.micro.loop import Loop

WEIGHTS = Path(__file__).parent.parent / "weights"
SCRIPT = "services/cleanup/micro/train.py"
SEED, UNSEEN = 20, 9_000_000  # what is judged has seeds from UNSEEN on
CANVAS, POOL = 288, 320
SMALL, LARGE = (8, 96), (2, 192)  # pictures of a batch, and their side


class Lessons:
    """Batches of pictures and holes; a pool of pictures, of which one is drawn anew for every other batch."""

    def __init__(self, seed: int, pool: int = POOL) -> None:
        self.painter = Painter(seed)
        self.chance = np.random.default_rng(seed + 1)
        self.pool = [self.painter.picture(CANVAS) for _ in range(pool)]

    def batch(self, count: int, side: int) -> tuple[Tensor, Tensor]:
        if self.chance.random() < 0.5:
            self.pool[self.chance.integers(len(self.pool))] = self.painter.picture(CANVAS)
        pictures = np.stack([self._cut(side) for _ in range(count)])
        holes = np.stack([hole(self.chance, side) for _ in range(count)])
        image = torch.from_numpy(pictures).permute(0, 3, 1, 2).float() / 255
        return image.contiguous(), torch.from_numpy(holes)[:, None].float()

    def _cut(self, side: int) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
        chance = self.chance
        picture = self.pool[chance.integers(len(self.pool))]
        if side * 2 <= CANVAS and chance.random() < 0.3:
            picture = picture[: CANVAS // 2 * 2, : CANVAS // 2 * 2].reshape(CANVAS // 2, 2, CANVAS // 2, 2, 3)
            picture = picture.mean((1, 3)).astype(np.uint8)
        top, left = chance.integers(0, picture.shape[0] - side + 1, 2)
        part = picture[top : top + side, left : left + side]
        part = part[:, ::-1] if chance.random() < 0.5 else part
        return np.ascontiguousarray(np.rot90(part, int(chance.integers(4))))


def loss(made: Tensor, true: Tensor, mask: Tensor, begun: Tensor) -> tuple[Tensor, Tensor]:
    """How much of the smooth fill's error is left in each hole, and the squared error as PSNR counts it.

    By the hole, and not by the pixel: else the few that nobody could fill would drown the many that can be filled.
    """
    change = (made - true) * mask
    area = mask.sum((1, 2, 3)) * 3
    square = (change**2).sum((1, 2, 3)) / area
    colour = change.abs().sum((1, 2, 3)) / area
    before = ((begun - true) * mask).abs().sum((1, 2, 3)) / area
    coarse = f.avg_pool2d(change, 8).abs().sum((1, 2, 3)) * 64 / area
    left = (colour + 0.5 * coarse) / (before + 0.01)
    return (left + 0.3 * torch.log(square + 1e-4)).mean(), square.mean()


def psnr(net: Net, lessons: list[tuple[Tensor, Tensor]]) -> tuple[float, float]:
    """Mean PSNR inside the holes, of the net and of the smooth fill that it begins with."""
    smooth = Fills()
    found: list[list[float]] = [[], []]
    with torch.no_grad():
        for image, mask in lessons:
            for at, filled in enumerate((net(image, mask), smooth(image, mask)[:, -3:])):
                change = ((filled.clamp(0, 1) - image) ** 2 * mask).sum((1, 2, 3)) / (mask.sum((1, 2, 3)) * 3)
                found[at] += (-10 * torch.log10(change + 1e-6)).tolist()
    return float(np.mean(found[0])), float(np.mean(found[1]))


def train(
    work: Path, steps: int, *, export_only: bool = False, weights: Path = WEIGHTS, pool: int = POOL
) -> None:
    work.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(SEED)
    net = Net().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    loop = Loop("cleanup", {"net": net}, steps, lr=4e-4, work=work, average=0.99, muon=False)
    if not export_only:
        lessons = Lessons(SEED + loop.done, pool)
        judged = Lessons(UNSEEN, min(pool, 40))
        unseen = [judged.batch(4, 128) for _ in range(6)] + [judged.batch(2, 256) for _ in range(4)]

        def step(at: int) -> tuple[Tensor, dict[str, float]]:
            image, mask = lessons.batch(*(LARGE if at % 4 == 3 else SMALL))
            image = image.to(memory_format=torch.channels_last)
            fills = net.fills(image, mask)
            with torch.autocast("cpu", torch.bfloat16):
                made = net.drawn(fills, mask)
            value, square = loss(made, image, mask, fills[:, -3:])
            return value, {"rmse": float(square.detach()) ** 0.5}

        def look(_: int) -> str:
            made, begun = psnr(net, unseen)
            return f"{made:.2f} dB in unseen holes, {begun:.2f} dB filled smoothly"

        loop.run(step, look=look, looks=250)
    loop.averaged()
    weights.mkdir(parents=True, exist_ok=True)
    write(net.eval(), weights / "micro.onnx")
    data = (weights / "micro.onnx").read_bytes()
    told = {
        "bytes": len(data),
        "sha256": hashlib.sha256(data).hexdigest(),
        "script": SCRIPT,
        "seed": SEED,
        "steps": loop.done,
    }
    (weights / "ledger.json").write_text(json.dumps({"files": {"micro.onnx": told}}, indent=2) + "\n")


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m services.cleanup.micro.train", description=__doc__)
    parser.add_argument(
        "--work", type=Path, default=Path(".darkroom/cleanup"), help="the checkpoint's folder"
    )
    parser.add_argument("--steps", type=int, default=1_250)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--export", action="store_true", help="train no further; write the checkpoint's net")
    chosen = parser.parse_args(arguments)
    torch.set_num_threads(chosen.threads)
    print("cleanup: about a quarter of an hour on one core", file=sys.stderr, flush=True)  # noqa: T201
    train(chosen.work, chosen.steps, export_only=chosen.export)


if __name__ == "__main__":
    main()
