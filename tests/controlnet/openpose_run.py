"""Runs the OpenPose reader with the real controlnet-aux: arguments are a folder for weights and a picture.

It is a process of its own, because torchvision is installed for it alone. The weights are random, but for one net that
stands for a trained one: it answers with the heat and the limbs of a person whose points are known, and
controlnet-aux finds that person in the answer.
"""

# ruff: noqa: E402 - torchvision comes first, or what stands for its missing library

from __future__ import annotations

import json
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch

torch.set_num_threads(1)
try:
    import torchvision  # noqa: F401
except (ImportError, RuntimeError):
    # a build for CUDA on a machine without: its library with these operators does not load, and nothing here calls them
    with suppress(RuntimeError):
        missing = torch.library.Library("torchvision", "DEF")
        missing.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        missing.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
        del sys.modules[name]

from controlnet_aux.open_pose.body import Body
from controlnet_aux.open_pose.face import FaceNet
from controlnet_aux.open_pose.model import bodypose_model, handpose_model
from PIL import Image

from services.controlnet.openpose import BODY_FILE, FACE_FILE, HAND_FILE, OpenposeReader
from services.errors import Unavailable

# where a person's points are, in shares of the picture
POINTS = [
    *(
        (0.50, 0.18),
        (0.50, 0.30),
        (0.40, 0.30),
        (0.33, 0.42),
        (0.26, 0.54),
        (0.60, 0.30),
        (0.67, 0.42),
        (0.74, 0.54),
    ),
    *((0.44, 0.56), (0.43, 0.72), (0.42, 0.88), (0.56, 0.56), (0.57, 0.72), (0.58, 0.88)),
    *((0.47, 0.15), (0.53, 0.15), (0.43, 0.17), (0.57, 0.17)),
]
# OpenPose's limbs (from 1) and the two layers that hold each one's direction
LIMBS = [
    *(
        (2, 3, 12),
        (2, 6, 20),
        (3, 4, 14),
        (4, 5, 16),
        (6, 7, 22),
        (7, 8, 24),
        (2, 9, 0),
        (9, 10, 2),
        (10, 11, 4),
    ),
    *(
        (2, 12, 6),
        (12, 13, 8),
        (13, 14, 10),
        (2, 1, 28),
        (1, 15, 30),
        (15, 17, 34),
        (1, 16, 32),
        (16, 18, 36),
    ),
]


class KnownPerson(torch.nn.Module):
    """Answers as the trained body net would for a picture with that person."""

    def __init__(self) -> None:
        super().__init__()
        self.unused = torch.nn.Parameter(torch.zeros(1))

    def forward(self, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        height, width = pixels.shape[2] // 8, pixels.shape[3] // 8
        y, x = np.mgrid[0:height, 0:width].astype(np.float32)
        heat, limbs = np.zeros((19, height, width), np.float32), np.zeros((38, height, width), np.float32)
        at = [np.array([px * (width - 0.5), py * (height - 0.5)]) for px, py in POINTS]
        for layer, (px, py) in enumerate(at):
            heat[layer] = 0.9 * np.exp(-((x - px) ** 2 + (y - py) ** 2) / 2)
        for start, end, layer in LIMBS:
            along = at[end - 1] - at[start - 1]
            length = float(np.hypot(*along)) or 1.0
            along = along / length
            dx, dy = x - at[start - 1][0], y - at[start - 1][1]
            near = (np.abs(dx * along[1] - dy * along[0]) < 1.5) & (dx * along[0] + dy * along[1] > -2)
            near &= dx * along[0] + dy * along[1] < length + 2
            limbs[layer][near], limbs[layer + 1][near] = along
        return torch.from_numpy(limbs)[None], torch.from_numpy(heat)[None]


def saved(model: torch.nn.Module, path: Path) -> None:
    """As the original files are: without the names of the nets inside."""
    state = model.state_dict()
    bare = isinstance(model, FaceNet)
    torch.save({name if bare else name.partition(".")[2]: value for name, value in state.items()}, path)


def main(folder: Path, picture: Path) -> None:
    torch.manual_seed(0)
    told: dict[str, Any] = {}
    image = Image.open(picture).convert("RGB")
    try:
        OpenposeReader(folder)
    except Unavailable as error:
        told["missing"] = str(error)
    saved(bodypose_model(), folder / BODY_FILE)
    bodies_only = OpenposeReader(folder)
    told["bodies_only"] = [bodies_only.hands, bodies_only.face]
    told["random"] = len(bodies_only.read(image, hands=False, face=False))
    saved(handpose_model(), folder / HAND_FILE)
    face = FaceNet()
    torch.nn.init.constant_(face.Mconv7_stage6.bias, 0.3)  # so that random weights find something
    saved(face, folder / FACE_FILE)
    reader = OpenposeReader(folder)
    told["all"] = [reader.hands, reader.face]
    assert isinstance(reader._detector.body_estimation, Body)
    reader._detector.body_estimation.model = KnownPerson()
    people = reader.read(image, hands=True, face=True)
    told["people"] = [person.model_dump(mode="json") for person in people]
    told["expected"] = [(x * image.width, y * image.height) for x, y in POINTS]
    (folder / HAND_FILE).write_bytes((folder / FACE_FILE).read_bytes())
    try:
        OpenposeReader(folder)
    except Unavailable as error:
        told["damaged"] = str(error)
    print(json.dumps(told))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
