"""Writes the micro net as ONNX: in goes the trained net, out comes one file with LaMa's own inputs and output.

Weights are stored in half precision and widened once, when a session opens the file. Any size that is a multiple
of 32 goes in.
"""

from __future__ import annotations

import warnings
from io import BytesIO
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import helper, numpy_helper

from services.cleanup.micro.net import Net
from services.cleanup.micro.smooth import MULTIPLE

OPSET = 17
LARGE_ENOUGH = 256  # values of a tensor, below which halving it saves nothing


def write(net: Net, path: Path) -> None:
    size = 4 * MULTIPLE
    given = torch.rand(1, 3, size, size + MULTIPLE), torch.ones(1, 1, size, size + MULTIPLE)
    out = BytesIO()
    axes = {0: "batch", 2: "height", 3: "width"}
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore"
        )  # the older exporter, which follows sizes without onnxscript, says it is old
        torch.onnx.export(
            net,
            given,
            out,  # type: ignore[arg-type]
            input_names=["image", "mask"],
            output_names=["output"],
            dynamic_axes={"image": axes, "mask": axes, "output": axes},
            opset_version=OPSET,
            dynamo=False,
        )
    model = halved(onnx.load_from_string(out.getvalue()))
    model.producer_name = "darkroom"
    onnx.checker.check_model(model)
    path.write_bytes(model.SerializeToString())


def halved(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same model whose large weights are stored as float16."""
    graph = model.graph
    casts = []
    for tensor in graph.initializer:
        values = numpy_helper.to_array(tensor)
        if values.dtype != np.float32 or values.size < LARGE_ENOUGH:
            continue
        name = tensor.name
        tensor.CopyFrom(numpy_helper.from_array(values.astype(np.float16), f"{name}.half"))
        casts.append(helper.make_node("Cast", [f"{name}.half"], [name], to=onnx.TensorProto.FLOAT))
    nodes = list(graph.node)
    del graph.node[:]
    graph.node.extend([*casts, *nodes])
    return model
