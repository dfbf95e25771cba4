"""Tiny ONNX files with the inputs and outputs of real nets, written by the tests themselves."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest
from onnx import TensorProto, helper

Write = Callable[..., Path]


@pytest.fixture
def write_net(tmp_path: Path) -> Write:
    """Writes a net of `nodes` from `x` to `y`; sizes that are letters are free."""

    def write(
        nodes: list[Any],
        *,
        inputs: dict[str, list[int | str]],
        outputs: dict[str, list[int | str]],
        constants: dict[str, Any] | None = None,
        file: Path | None = None,
        kind: int = TensorProto.FLOAT,
    ) -> Path:
        graph = helper.make_graph(
            nodes,
            "tiny",
            [helper.make_tensor_value_info(name, kind, shape) for name, shape in inputs.items()],
            [helper.make_tensor_value_info(name, kind, shape) for name, shape in outputs.items()],
            [onnx.numpy_helper.from_array(value, name) for name, value in (constants or {}).items()],
        )
        path = file or tmp_path / "net.onnx"
        path.parent.mkdir(parents=True, exist_ok=True)
        # the oldest format that has what is needed here, so that every onnxruntime of the extra reads it
        onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
        return path

    return write
