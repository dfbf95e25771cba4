"""What the studio's tests share: the astronaut, a finder, and portraits of any photograph."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from services.operations import Portrait
from services.pictures import Picture
from services.portrait import studio
from services.portrait.cutters import Cutters
from services.portrait.haar import HaarFinder
from services.portrait.yunet import FILE

Make = Callable[..., studio.Made]


@pytest.fixture(scope="session")
def astronaut(samples: Path) -> Image.Image:
    """By hand: her pupils are at (202.5, 100) and (246.5, 102.5), her chin at (226, 177), her hair's top at 16."""
    return Image.open(samples / "astronaut.jpg").convert("RGB")


@pytest.fixture(scope="session")
def finder() -> HaarFinder:
    return HaarFinder()


@pytest.fixture(scope="session")
def make(finder: HaarFinder, tmp_path_factory: pytest.TempPathFactory) -> Make:
    """`make(photo, size="passport", cutter="grabcut")`; nothing is cut out unless it is asked for."""
    cutters = Cutters(tmp_path_factory.mktemp("models"))

    def begin(photo: Image.Image, **fields: Any) -> studio.Made:
        ask = Portrait(image=Picture("part:image", photo), **({"cutter": "none"} | fields))
        return studio.portrait(ask, finder, cutters.engine(ask.cutter), lambda _done, _total: None)

    return begin


@pytest.fixture(scope="session")
def yunet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Finds a face of 64 x 80 pixels where a square of eight is white; a real one's outputs, at one stride."""
    onnx = pytest.importorskip("onnx")
    from onnx import TensorProto, helper, numpy_helper

    nodes, weights, outputs = [], [], []

    def head(name: str, stride: int, kernel: Any, bias: list[float], *, clipped: bool = False) -> None:
        channels = len(bias)
        weights.extend(
            [
                numpy_helper.from_array(kernel.astype(np.float32), f"{name}.w"),
                numpy_helper.from_array(np.array(bias, np.float32), f"{name}.b"),
                numpy_helper.from_array(np.array([1, -1, channels], np.int64), f"{name}.s"),
            ]
        )
        nodes.append(
            helper.make_node(
                "Conv",
                ["input", f"{name}.w", f"{name}.b"],
                [f"{name}.c"],
                kernel_shape=[stride, stride],
                strides=[stride, stride],
            )
        )
        nodes.append(helper.make_node("Transpose", [f"{name}.c"], [f"{name}.t"], perm=[0, 2, 3, 1]))
        nodes.append(helper.make_node("Reshape", [f"{name}.t", f"{name}.s"], [name]))
        outputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, None, channels]))

    for stride in (8, 16, 32):
        bright = np.full((1, 3, stride, stride), 1 / (3 * stride * stride * 255.0))
        shut = np.zeros_like(bright)
        for kind in ("cls", "obj"):
            head(f"{kind}_{stride}", stride, bright if stride == 8 else shut, [0.0])
        box = [0.5, 0.5, math.log(64 / stride), math.log(80 / stride)]
        head(f"bbox_{stride}", stride, np.zeros((4, 3, stride, stride)), box)
        # right and left eye, nose, corners of the mouth, in strides from the square's corner
        points = [2.5, -1.0, -1.5, 0.0, 0.5, 1.0, 2.0, 3.0, -1.0, 4.0]
        head(f"kps_{stride}", stride, np.zeros((10, 3, stride, stride)), points)
    shape = [1, 3, 640, 640]
    graph = helper.make_graph(
        nodes,
        "yunet",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, shape)],
        outputs,
        weights,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 11)], ir_version=7)
    path = tmp_path_factory.mktemp("yunet") / FILE
    onnx.save(model, str(path))
    return path
