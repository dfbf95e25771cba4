"""TensorFlow Serving's gRPC through the gateway, asked with its own messages."""

from __future__ import annotations

import io
import random
from collections import Counter
from collections.abc import Iterator
from typing import Any

import grpc
import httpx
import pytest
from PIL import Image, ImageDraw

from tf_serving.stubs import GetModelMetadataRequest, GetModelStatusRequest, ModelSpec, PredictRequest
from tf_serving.stubs.services import MODEL, PREDICTION, Stub

KEY = "an-admin-key-of-more-than-24-letters"
AUTHORIZED = (("authorization", f"Bearer {KEY}"),)


@pytest.fixture(scope="module")
def house(begin_stack: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    started = begin_stack(tmp_path_factory.mktemp("tfserving"), "gateway", "pix2pix", admin_key=KEY)
    try:
        started.wait(lambda: "Darkroom is ready" in started.said)
        yield started
    finally:
        started.stop()


@pytest.fixture(scope="module")
def channel(house: Any) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(house.inference) as found:
        yield found


def sketch(side: int = 64) -> bytes:
    image = Image.new("RGB", (side, side), "white")
    ImageDraw.Draw(image).ellipse((8, 8, side - 8, side - 8), outline="black", width=2)
    out = io.BytesIO()
    image.save(out, "PNG")
    return out.getvalue()


def asked(picture: bytes, model: str = "creatures", **spec: Any) -> Any:
    request = PredictRequest(model_spec=ModelSpec(name=model, signature_name="serving_default", **spec))
    tensor = request.inputs["image_bytes"]
    tensor.dtype = 7
    tensor.tensor_shape.dim.add(size=1)
    tensor.string_val.append(picture)
    return request


def predict(channel: grpc.Channel, request: Any, metadata: Any = AUTHORIZED, timeout: float = 30) -> Any:
    return Stub(channel, PREDICTION).Predict(request, timeout=timeout, metadata=metadata)


def code(caught: Any) -> str:
    return str(caught.value.code().name)


def test_a_sketch_is_coloured_as_if_there_were_no_gateway(channel: grpc.Channel, house: Any) -> None:
    answer = predict(channel, asked(sketch()))
    picture = answer.outputs["image_bytes"].string_val[0]
    assert Image.open(io.BytesIO(picture)).size == (64, 64)
    assert answer.model_spec.name == "creatures"
    version = answer.model_spec.version.value
    assert version > 0
    with httpx.Client(base_url=house.url, headers={"x-api-key": KEY}) as http:
        ours = http.post("/v1/sketch-to-image", files={"image": ("s.png", sketch())})
        assert ours.content == picture
        told = http.get("/metrics").text
    assert 'darkroom_requests_total{door="tfserving",operation="sketch-to-image",status="2xx"}' in told


def test_models_tell_of_themselves(channel: grpc.Channel) -> None:
    status = Stub(channel, MODEL).GetModelStatus(
        GetModelStatusRequest(model_spec=ModelSpec(name="creatures")), timeout=10, metadata=AUTHORIZED
    )
    assert [one.state for one in status.model_version_status] == [30]
    request = GetModelMetadataRequest(
        model_spec=ModelSpec(name="creatures"), metadata_field=["signature_def"]
    )
    metadata = Stub(channel, PREDICTION).GetModelMetadata(request, timeout=10, metadata=AUTHORIZED)
    assert "signature_def" in metadata.metadata


def test_a_key_is_needed(channel: grpc.Channel) -> None:
    for metadata in ((), (("x-api-key", "wrong"),)):
        with pytest.raises(grpc.RpcError) as caught:
            predict(channel, asked(sketch()), metadata)
        assert code(caught) == "UNAUTHENTICATED"


def test_what_is_refused_has_tensorflow_servings_codes(channel: grpc.Channel) -> None:
    absent = asked(sketch())
    absent.model_spec.version.value = 999
    for request, expected in (
        (asked(sketch(), "nobody"), "NOT_FOUND"),
        (absent, "NOT_FOUND"),
        (asked(b"no picture"), "INVALID_ARGUMENT"),
        (asked(sketch()[:-40]), "INVALID_ARGUMENT"),
        (asked(sketch(), version_label="nothing"), "INVALID_ARGUMENT"),
    ):
        with pytest.raises(grpc.RpcError) as caught:
            predict(channel, request)
        assert code(caught) == expected, caught.value
    broken = channel.unary_unary(f"/{PREDICTION}/Predict")
    with pytest.raises(grpc.RpcError) as caught:
        broken(b"\xff\xff", timeout=10, metadata=AUTHORIZED)
    assert code(caught) == "INVALID_ARGUMENT"


def test_nobody_reconfigures_it_from_outside(channel: grpc.Channel) -> None:
    reload = channel.unary_unary(f"/{MODEL}/HandleReloadConfigRequest")
    with pytest.raises(grpc.RpcError) as caught:
        reload(b"", timeout=10, metadata=AUTHORIZED)
    assert code(caught) == "UNIMPLEMENTED"


def test_a_quota_counts_what_is_made_here(channel: grpc.Channel, house: Any) -> None:
    with httpx.Client(base_url=house.url, headers={"x-api-key": KEY}) as http:
        made = http.post("/v1/admin/keys", json={"name": "poor", "daily_pictures": 1}).json()
    poor = (("x-api-key", made["secret"]),)
    with pytest.raises(grpc.RpcError):
        predict(channel, asked(sketch()[:-40]), poor)
    predict(channel, asked(sketch()), poor)
    with pytest.raises(grpc.RpcError) as caught:
        predict(channel, asked(sketch()), poor)
    assert code(caught) == "RESOURCE_EXHAUSTED"


@pytest.mark.parametrize("count", [200, pytest.param(2000, marks=pytest.mark.slow)])
def test_nonsense_is_the_callers_mistake(channel: grpc.Channel, count: int) -> None:
    chance = random.Random(count)
    whole = asked(sketch(16)).SerializeToString()
    call = channel.unary_unary(f"/{PREDICTION}/Predict")
    codes: Counter[str] = Counter()
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
            call(bytes(data), timeout=30, metadata=AUTHORIZED)
            codes["OK"] += 1
        except grpc.RpcError as error:
            told: Any = error
            codes[told.code().name] += 1
    # FAILED_PRECONDITION, UNIMPLEMENTED: TensorFlow Serving's own, of a signature or a label that was bent
    known = {"OK", "INVALID_ARGUMENT", "NOT_FOUND", "FAILED_PRECONDITION", "UNIMPLEMENTED"}
    assert not codes.keys() - known, codes
    assert min(codes["OK"], codes["INVALID_ARGUMENT"]) > count / 20, codes
