"""Opening ONNX files: what a net tells of itself, how it runs, and what is said of a file that is none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper

from services.errors import BadInput, Unavailable
from services.onnx import open_net

FREE = ["N", 3, "H", "W"]


def double() -> list[Any]:
    return [helper.make_node("Add", ["x", "x"], ["y"])]


def test_a_net_tells_its_inputs_and_which_sizes_are_free(write_net: Any) -> None:
    net = open_net(write_net(double(), inputs={"x": FREE}, outputs={"y": FREE}), "toy")
    assert [(port.name, port.shape, port.side) for port in net.inputs] == [("x", (None, 3, None, None), None)]
    fixed: list[int | str] = [1, 3, 8, 6]
    net = open_net(write_net(double(), inputs={"x": fixed}, outputs={"y": fixed}), "toy")
    assert (net.inputs[0].side, net.inputs[0].one_by_one) == ((8, 6), True)


def test_a_batch_runs_as_one_and_where_the_file_takes_one_picture_one_by_one(write_net: Any) -> None:
    batch = np.random.default_rng(1).random((3, 3, 8, 6), dtype=np.float32)
    for shape in (FREE, [1, 3, 8, 6]):
        net = open_net(write_net(double(), inputs={"x": shape}, outputs={"y": shape}), "toy")
        (found,) = net.run(batch)
        np.testing.assert_array_equal(found, batch * 2)


def test_two_inputs_are_given_in_the_files_order(write_net: Any) -> None:
    mask = ["N", 1, "H", "W"]
    path = write_net(
        [helper.make_node("Mul", ["image", "mask"], ["y"])],
        inputs={"image": FREE, "mask": mask},
        outputs={"y": FREE},
    )
    net = open_net(path, "toy")
    (found,) = net.run(np.full((1, 3, 2, 2), 3.0), np.full((1, 1, 2, 2), 0.5))
    assert (found == 1.5).all()
    with pytest.raises(Unavailable, match="2 inputs"):
        net.run(np.zeros((1, 3, 2, 2), np.float32))


def test_a_net_in_half_precision_takes_what_it_is_given(write_net: Any) -> None:
    path = write_net(double(), inputs={"x": FREE}, outputs={"y": FREE}, kind=TensorProto.FLOAT16)
    (found,) = open_net(path, "toy").run(np.ones((1, 3, 2, 2), np.float32))
    assert (found.dtype, found.max()) == (np.float16, 2)


def test_arrays_of_a_size_that_it_does_not_take_are_told_with_the_size(write_net: Any) -> None:
    net = open_net(write_net(double(), inputs={"x": FREE}, outputs={"y": FREE}), "toy")
    with pytest.raises(Unavailable, match="1x4x2x2"):
        net.run(np.zeros((1, 4, 2, 2), np.float32))


@pytest.mark.parametrize("spoil", ["cut", "page", "empty", "away"])
def test_a_file_that_is_damaged_or_none_is_named_with_the_command_that_fetches_it(
    write_net: Any, spoil: str
) -> None:
    path: Path = write_net(double(), inputs={"x": FREE}, outputs={"y": FREE})
    data = path.read_bytes()
    if spoil == "away":
        path.unlink()
    else:
        path.write_bytes(
            {"cut": data[: len(data) // 2], "page": b"<html>sign in</html>", "empty": b""}[spoil]
        )
    with pytest.raises(Unavailable, match=r"net\.onnx") as caught:
        open_net(path, "toy")
    assert "darkroom models pull toy" in caught.value.what_to_do


def test_a_net_that_is_not_for_pictures_is_refused(write_net: Any) -> None:
    path = write_net(
        [helper.make_node("Identity", ["x"], ["y"])],
        inputs={"x": ["N"]},
        outputs={"y": ["N"]},
        kind=TensorProto.STRING,
    )
    with pytest.raises(Unavailable, match="no net for pictures"):
        open_net(path, "toy")


def test_a_device_that_is_not_here_is_told(write_net: Any) -> None:
    path = write_net(double(), inputs={"x": FREE}, outputs={"y": FREE})
    with pytest.raises(BadInput, match="tpu"):
        open_net(path, "toy", device="tpu")
    assert open_net(path, "toy", device="cpu").device == "cpu"
