"""Trains the micro matting net: `python -m services.rmbg.micro.train`.

Seeded; it keeps a checkpoint in the work folder, goes on from it when it is started again, and says how long it still
takes: about an hour on one core of a 2024 server processor. `--export` only writes what the last checkpoint has.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from services.micro.loop import Loop
from services.rmbg.micro.net import MEAN, STD, MatteNet
from services.rmbg.micro.scenes import UNSEEN, scene
from services.rmbg.micro.textures import Chance, Map

WEIGHTS = Path(__file__).parents[1] / "weights"
FILE = WEIGHTS / "micro.onnx"
LEDGER = WEIGHTS / "ledger.json"
SEED = 20261121
STEPS, BATCH, SIDE = 1900, 12, 128
LARGE_FROM, LARGE_BATCH, LARGE = 0.75, 8, 224  # the last steps see pictures as large as the service's
DRAWN, NEW, KEPT = 240, 2, 1200  # scenes' side; new ones a step; how many are kept to be seen again


class Scenes:
    """Batches of crops of drawn scenes; each scene is seen about six times, cropped and coloured anew."""

    def __init__(self, first: int) -> None:
        self._next = first
        self._kept: list[tuple[Map, Map]] = []

    def batch(self, chance: Chance, count: int, side: int) -> tuple[Tensor, Tensor]:
        for _ in range(NEW if len(self._kept) >= count * 4 else count * 4):
            drawn = scene(self._next, DRAWN)
            self._next += 1
            if len(self._kept) < KEPT:
                self._kept.append(drawn)
            else:
                self._kept[self._next % KEPT] = drawn
        chosen = [self._kept[at] for at in chance.integers(0, len(self._kept), count)]
        pairs = [changed(chance, picture, alpha, side) for picture, alpha in chosen]
        pictures = np.stack([picture for picture, _ in pairs]).transpose(0, 3, 1, 2)
        return prepared(pictures), torch.from_numpy(np.stack([alpha for _, alpha in pairs])[:, None])


def prepared(pictures: Map) -> Tensor:
    """Bytes (N, 3, H, W) as the net takes them."""
    return ((torch.from_numpy(np.ascontiguousarray(pictures)).float() / 255) - MEAN) / STD


def changed(chance: Chance, picture: Map, alpha: Map, side: int) -> tuple[Map, Map]:
    """A crop of it, stretched a little, turned over, its colours exchanged."""
    height, width = (round(DRAWN * float(chance.uniform(0.72, 1))) for _ in range(2))
    top, left = int(chance.integers(0, DRAWN - height + 1)), int(chance.integers(0, DRAWN - width + 1))
    window = slice(top, top + height), slice(left, left + width)
    smaller = height > side and width > side
    how = cv2.INTER_AREA if smaller else cv2.INTER_LINEAR
    cut = cv2.resize(picture[window], (side, side), interpolation=how)
    matte = cv2.resize(alpha[window], (side, side), interpolation=how)
    if chance.random() < 0.5:
        cut, matte = cut[:, ::-1], matte[:, ::-1]
    if chance.random() < 0.4:
        cut = cut[..., chance.permutation(3)]
    light = np.clip(cut * chance.uniform(0.7, 1.25) + chance.normal(0, 12), 0, 255)
    return light.astype(np.uint8), np.ascontiguousarray(matte, np.float32)


def loss_of(net: MatteNet, pictures: Tensor, alphas: Tensor) -> tuple[Tensor, dict[str, float]]:
    out, rough = net.both(pictures)
    found = out.sigmoid()
    away = (found - alphas).abs().mean()
    likely = functional.binary_cross_entropy_with_logits(out, alphas)
    small = functional.interpolate(alphas, size=rough.shape[2:], mode="area")
    depth = functional.binary_cross_entropy_with_logits(rough, small)
    both, either = (found * alphas).sum((1, 2, 3)), (found + alphas - found * alphas).sum((1, 2, 3))
    overlap = 1 - (both / (either + 1.0)).mean()
    steps = sum((torch.diff(found, dim=dim) - torch.diff(alphas, dim=dim)).abs().mean() for dim in (2, 3))
    total = likely + away + 0.5 * overlap + 0.5 * depth + steps
    return total, {"mae": float(away.detach()), "iou": 1 - float(overlap.detach())}


def train(work: Path, steps: int = STEPS) -> None:
    torch.manual_seed(SEED)
    work.mkdir(parents=True, exist_ok=True)
    net = MatteNet().to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # a third faster
    loop = Loop("matte", {"net": net}, steps, lr=4e-3, work=work, average=0.998)
    scenes = Scenes(loop.done * NEW)

    def step(at: int) -> tuple[Tensor, dict[str, float]]:
        chance = np.random.default_rng([SEED, at])
        large = at >= steps * LARGE_FROM
        net.train()
        pictures, alphas = scenes.batch(chance, *((LARGE_BATCH, LARGE) if large else (BATCH, SIDE)))
        return loss_of(net, pictures.contiguous(memory_format=torch.channels_last), alphas)

    loop.run(step, look=lambda _: look(averaged(loop)), every=25, save=50, looks=400)
    export(averaged(loop), loop.done)


def averaged(loop: Loop) -> MatteNet:
    net = MatteNet()
    net.load_state_dict(loop.average["net"])
    return net.eval()


@torch.no_grad()
def look(net: MatteNet) -> str:
    """Its error on scenes that it never saw."""
    drawn = [scene(UNSEEN + at) for at in range(48)]
    alphas = np.stack([alpha for _, alpha in drawn])
    pictures = np.stack([picture for picture, _ in drawn]).transpose(0, 3, 1, 2)
    found = torch.cat([net(prepared(pictures[at : at + 8])).sigmoid() for at in range(0, 48, 8)])
    mattes = found[:, 0].numpy()
    one, other = mattes > 0.5, alphas > 0.5
    overlap = (one & other).sum((1, 2)) / np.maximum(1, (one | other).sum((1, 2)))
    return f"unseen: mean error {np.abs(mattes - alphas).mean():.4f}, IoU {overlap.mean():.3f}"


class Exported(nn.Module):
    """The net with its sigmoid."""

    def __init__(self, net: MatteNet) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.net(x)
        return out.sigmoid()


def export(net: MatteNet, steps: int) -> None:
    """Writes the ONNX file, its numbers in half precision and computed in single, and the ledger."""
    from services.rmbg.micro.halved import halved

    WEIGHTS.mkdir(parents=True, exist_ok=True)
    sizes = {0: "n", 2: "height", 3: "width"}
    torch.onnx.export(
        Exported(net).eval(),
        (torch.zeros(1, 3, LARGE, LARGE),),
        str(FILE),
        input_names=["image"],
        output_names=["alpha"],
        dynamic_axes={"image": sizes, "alpha": sizes},
        opset_version=17,
        dynamo=False,
    )
    halved(FILE)
    content = FILE.read_bytes()
    entry = {
        "bytes": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
        "script": "services/rmbg/micro/train.py",
        "steps": steps,
        "seed": SEED,
        "licence": "Apache-2.0",
    }
    LEDGER.write_text(json.dumps({"files": {FILE.name: entry}}, indent=2) + "\n")


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m services.rmbg.micro.train", description=__doc__)
    parser.add_argument(
        "--work", type=Path, default=Path(".darkroom/micro-matte"), help="the checkpoint's folder"
    )
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument(
        "--export", action="store_true", help="write the last checkpoint's net, train nothing"
    )
    chosen = parser.parse_args(arguments)
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    if chosen.export:
        loop = Loop("matte", {"net": MatteNet()}, chosen.steps, lr=0.0, work=chosen.work)
        export(averaged(loop), loop.done)
    else:
        train(chosen.work, chosen.steps)


if __name__ == "__main__":
    main()
