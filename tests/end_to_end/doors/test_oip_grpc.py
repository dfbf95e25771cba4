"""The Open Inference Protocol over gRPC, asked by Triton's official client."""

from __future__ import annotations

import io
import json
import random
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import httpx
import numpy as np
import pytest
import tritonclient.grpc as triton
from google.protobuf.descriptor import FieldDescriptor
from PIL import Image
from tritonclient.grpc import service_pb2
from tritonclient.utils import InferenceServerException

from gateway.doors.grpc.oip_messages import MESSAGES, METHODS, SERVICE, message

SAMPLE = Path(__file__).parents[3] / "docs" / "samples" / "astronaut.jpg"


@pytest.fixture(scope="module")
def client(stack: Any) -> Iterator[Any]:
    with triton.InferenceServerClient(stack.inference) as found:
        yield found


def tensor(name: str, value: Any, datatype: str = "BYTES") -> Any:
    kinds = {"BYTES": np.object_, "INT64": np.int64, "INT32": np.int32, "FP32": np.float32, "BOOL": np.bool_}
    made = triton.InferInput(name, [1], datatype)
    made.set_data_from_numpy(np.array([value], dtype=kinds[datatype]))
    return made


def opened(data: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(data))
    image.load()
    return image


def told(field: FieldDescriptor) -> tuple[Any, ...]:
    kind = field.message_type.full_name if field.message_type else None
    return field.name, field.number, field.type, field.is_repeated, kind


@pytest.mark.parametrize("name", MESSAGES)
def test_our_messages_are_those_of_the_official_client(name: str) -> None:
    theirs: Any = service_pb2
    for part in name.split("."):
        theirs = getattr(theirs, part)
    fields = {field.number: told(field) for field in theirs.DESCRIPTOR.fields}
    ours = message(name).DESCRIPTOR.fields
    assert [told(field) for field in ours] == [fields[field.number] for field in ours]


def test_the_server_and_its_models_tell_of_themselves(client: Any) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("cleanup", "1")
    assert client.get_server_metadata().name == "darkroom"
    model = client.get_model_metadata("text-to-image")
    assert list(model.versions) == ["1"]
    assert [(one.name, list(one.shape)) for one in model.outputs] == [("image", [-1]), ("seed", [-1])]


def test_a_picture_goes_in_and_comes_out(client: Any) -> None:
    answer = client.infer(
        "remove-background",
        [tensor("image", SAMPLE.read_bytes()), tensor("trim", True, "BOOL")],
        request_id="mine",
    )
    cut = opened(answer.as_numpy("image")[0])
    assert cut.mode == "RGBA"
    assert cut.width < Image.open(SAMPLE).width
    assert answer.get_response().id == "mine"


def test_a_picture_of_five_megabytes_needs_no_chunks(client: Any) -> None:
    noise = Image.frombytes("RGB", (1400, 1400), random.Random(1).randbytes(1400 * 1400 * 3))
    picture, mask = io.BytesIO(), io.BytesIO()
    noise.save(picture, "PNG")
    black = Image.new("L", (1400, 1400))
    black.paste(255, (100, 100, 140, 140))
    black.save(mask, "PNG")
    sent = [tensor("image", picture.getvalue()), tensor("mask", mask.getvalue()), tensor("model", "cv2")]
    made = opened(client.infer("cleanup", sent).as_numpy("image")[0])
    assert made.getpixel((700, 700)) == noise.getpixel((700, 700))


def test_numbers_of_any_type_and_parameters_are_understood(client: Any) -> None:
    sent = [tensor("prompt", "a red circle"), tensor("steps", 4, "INT32"), tensor("guidance", 5.0, "FP32")]
    answer = client.infer("text-to-image", sent, parameters={"count": 2, "seed": 7, "guess_mode": False})
    assert [opened(data).format for data in answer.as_numpy("image")] == ["PNG", "PNG"]
    assert answer.as_numpy("seed").tolist() == [7, 8]
    answer = client.infer("caption", [tensor("image", SAMPLE.read_bytes())], parameters={"phrases": 1})
    assert json.loads(answer.as_numpy("data")[0])["prompt"]


def test_elements_that_are_not_raw_are_understood(stack: Any) -> None:
    asked = message("ModelInferRequest")(model_name="preprocess")
    for name, values in (("image", [SAMPLE.read_bytes()]), ("kind", [b"canny"])):
        one = asked.inputs.add(name=name, datatype="BYTES", shape=[1])
        one.contents.bytes_contents.extend(values)
    with grpc.insecure_channel(stack.inference) as channel:
        answer = called(channel, "ModelInfer", asked.SerializeToString())
    assert answer.outputs[0].parameters["media_type"].string_param == "image/png"
    assert opened(answer.raw_output_contents[0][4:]).size == Image.open(SAMPLE).size


def called(channel: grpc.Channel, name: str, data: bytes, **more: Any) -> Any:
    stub = channel.unary_unary(
        f"/{SERVICE}/{name}", response_deserializer=message(f"{name}Response").FromString
    )
    return stub(data, timeout=30, **more)


def test_a_mistake_has_its_code(client: Any) -> None:
    for name, tensors, code in (
        ("nobody", [tensor("image", "x")], "NOT_FOUND"),
        ("remove-background", [tensor("image", b"no picture")], "INVALID_ARGUMENT"),
        ("text-to-image", [tensor("prompt", "x"), tensor("steps", 900, "INT64")], "INVALID_ARGUMENT"),
    ):
        with pytest.raises(InferenceServerException) as caught:
            client.infer(name, tensors)
        assert caught.value.status() == f"StatusCode.{code}"
    with pytest.raises(InferenceServerException, match="DEADLINE_EXCEEDED"):
        client.infer(
            "text-to-image", [tensor("prompt", "x"), tensor("steps", 150, "INT64")], client_timeout=0.1
        )
    with pytest.raises(InferenceServerException) as caught:
        client.get_model_repository_index()
    assert caught.value.status() == "StatusCode.UNIMPLEMENTED"


def test_nothing_is_told_without_a_key_where_there_are_keys(begin_stack: Any, tmp_path: Path) -> None:
    key = "an-admin-key-of-more-than-24-letters"
    locked = begin_stack(tmp_path / "locked", "gateway", admin_key=key)
    try:
        locked.wait(lambda: "Darkroom is ready" in locked.said)
        with grpc.insecure_channel(locked.inference) as channel:
            for name in METHODS:
                with pytest.raises(grpc.RpcError) as caught:
                    called(channel, name, b"x" * 5_000_000)
                error: Any = caught.value
                assert error.code() is grpc.StatusCode.UNAUTHENTICATED
            assert called(channel, "ServerLive", b"", metadata=(("authorization", f"Bearer {key}"),)).live
    finally:
        locked.stop()


@pytest.mark.parametrize("count", [200, pytest.param(2000, marks=pytest.mark.slow)])
def test_nonsense_is_the_callers_mistake(stack: Any, count: int) -> None:
    chance = random.Random(count)
    dot = io.BytesIO()
    Image.new("RGB", (16, 16)).save(dot, "PNG")
    asked = message("ModelInferRequest")(model_name="preprocess", id="1", model_version="1")
    asked.inputs.add(name="image", datatype="BYTES", shape=[1])
    asked.inputs.add(name="low", datatype="INT64", shape=[1])
    asked.raw_input_contents.extend(
        [len(dot.getvalue()).to_bytes(4, "little") + dot.getvalue(), (5).to_bytes(8, "little")]
    )
    asked.parameters["kind"].string_param = "canny"
    whole = asked.SerializeToString()
    codes: Counter[str] = Counter()
    with grpc.insecure_channel(stack.inference) as channel:
        for _ in range(count):
            data = bytearray(whole)
            for _ in range(chance.choice((0, 1, 2, 8))):
                at = chance.randrange(len(data))
                match chance.randrange(3):
                    case 0:
                        data[at] ^= 1 << chance.randrange(8)
                    case 1:
                        del data[at : at + chance.randrange(1, 9)]
                    case 2:
                        data[at:at] = chance.randbytes(chance.randrange(1, 9))
            try:
                called(channel, chance.choice(("ModelInfer",) * 5 + METHODS), bytes(data))
                codes["OK"] += 1
            except grpc.RpcError as error:
                refused: Any = error
                codes[refused.code().name] += 1
                assert "Traceback" not in refused.details()
    assert not codes.keys() - {"OK", "INVALID_ARGUMENT", "NOT_FOUND"}, codes
    assert min(codes["OK"], codes["INVALID_ARGUMENT"]) > count / 10


def test_the_metrics_name_the_door(client: Any, stack: Any) -> None:
    client.infer("caption", [tensor("image", SAMPLE.read_bytes())], parameters={"phrases": 0})
    assert 'door="oip",operation="caption"' in httpx.get(f"{stack.url}/metrics").text
