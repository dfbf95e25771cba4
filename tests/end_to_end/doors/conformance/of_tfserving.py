"""TensorFlow Serving passed through, asked with its own messages and its own JSON."""

from __future__ import annotations

import base64
from typing import Any

import grpc
import httpx
from PIL import Image, ImageDraw

from tests.end_to_end.doors.conformance.checks import House, Table, base64_of, opened, png
from tf_serving.stubs import GetModelMetadataRequest, GetModelStatusRequest, ModelSpec, PredictRequest
from tf_serving.stubs.services import MODEL, PREDICTION, Stub

NAME = "creatures"
PATH = f"/tfserving/v1/models/{NAME}"

rpc = Table("of TensorFlow Serving's gRPC")
rest = Table("of TensorFlow Serving's REST")
answers = Table("of TensorFlow Serving's answers")


def sketch() -> bytes:
    image = Image.new("RGB", (64, 64), "white")
    ImageDraw.Draw(image).ellipse((8, 8, 56, 56), outline="black", width=2)
    return png(image)


def request(picture: bytes, model: str = NAME, **spec: Any) -> Any:
    made = PredictRequest(model_spec=ModelSpec(name=model, **spec))
    tensor = made.inputs["image_bytes"]
    tensor.dtype = 7
    tensor.tensor_shape.dim.add(size=1)
    tensor.string_val.append(picture)
    return made


def predict(house: House, asked: Any, timeout: float = 30) -> Any:
    return Stub(house.foreign, PREDICTION).Predict(asked, timeout=timeout)


def refusal(house: House, asked: Any, timeout: float = 30) -> grpc.RpcError:
    try:
        predict(house, asked, timeout)
    except grpc.RpcError as error:
        return error
    raise AssertionError("it was answered")


def version(house: House) -> int:
    return int(predict(house, request(sketch())).model_spec.version.value)


@rpc.works("PredictionService.Predict", "model_spec.name")
def _(house: House) -> None:
    answer = predict(house, request(sketch()))
    assert answer.model_spec.name == NAME
    assert opened(answer.outputs["image_bytes"].string_val[0]).size == (64, 64)


@rpc.works("PredictionService.GetModelMetadata", "ModelService.GetModelStatus")
def _(house: House) -> None:
    spec = ModelSpec(name=NAME)
    status = Stub(house.foreign, MODEL).GetModelStatus(GetModelStatusRequest(model_spec=spec), timeout=10)
    assert [one.state for one in status.model_version_status] == [30]
    asked = GetModelMetadataRequest(model_spec=spec, metadata_field=["signature_def"])
    assert "signature_def" in Stub(house.foreign, PREDICTION).GetModelMetadata(asked, timeout=10).metadata


@rpc.works("model_spec.version", "model_spec.version_label", "model_spec.signature_name")
def _(house: House) -> None:
    named = request(sketch(), signature_name="serving_default")
    named.model_spec.version.value = number = version(house)
    assert predict(house, named).model_spec.version.value == number
    named.model_spec.version.value = 999
    assert refusal(house, named).code() is grpc.StatusCode.NOT_FOUND
    for wrong in ({"version_label": "of-nobody"}, {"signature_name": "of-nobody"}):
        assert "of-nobody" in refusal(house, request(sketch(), **wrong)).details()


@rpc.refused("model_spec.name: another")
def _(house: House) -> grpc.RpcError:
    return refusal(house, request(sketch(), "nobody"))


@rpc.refused("inputs.image_bytes: no picture")
def _(house: House) -> grpc.RpcError:
    return refusal(house, request(b"no picture"))


def _unimplemented(service: str, name: str) -> None:
    @rpc.refused(f"{service.rpartition('.')[2]}.{name}")
    def _(house: House) -> grpc.RpcError:
        try:
            house.foreign.unary_unary(f"/{service}/{name}")(b"", timeout=10)
        except grpc.RpcError as error:
            return error
        raise AssertionError("it was answered")


for _name in ("Classify", "Regress", "MultiInference"):
    _unimplemented(PREDICTION, _name)
_unimplemented(MODEL, "HandleReloadConfigRequest")

# ── REST ──────────────────────────────────────────────────────────────────────────────────────────────────────


def rows(*pictures: bytes) -> dict[str, Any]:
    return {"instances": [{"b64": base64_of(one)} for one in pictures]}


def in_its_form(answer: httpx.Response) -> httpx.Response:
    assert list(answer.json()) == ["error"], answer.text
    return answer


@rest.works("GET /v1/models/M", "GET /v1/models/M/versions/N", "GET /v1/models/M/metadata")
def _(house: House) -> None:
    for path in (PATH, f"{PATH}/versions/{version(house)}"):
        assert house.http.get(path).json()["model_version_status"][0]["state"] == "AVAILABLE"
    assert "signature_def" in house.http.get(f"{PATH}/metadata").json()["metadata"]
    assert in_its_form(house.http.get(f"{PATH}/versions/999")).status_code == 404


@rest.works("GET /v1/models/M/labels/L")
def _(house: House) -> None:
    assert house.http.get(f"{PATH}/labels/stable").json()["model_version_status"][0]["state"] == "AVAILABLE"
    assert "of-nobody" in in_its_form(house.http.get(f"{PATH}/labels/of-nobody")).json()["error"]


@rest.works("POST /v1/models/M:predict", "POST /v1/models/M/versions/N:predict")
def _(house: House) -> None:
    for path in (PATH, f"{PATH}/versions/{version(house)}"):
        (one,) = house.http.post(f"{path}:predict", json=rows(sketch())).json()["predictions"]
        assert opened(one["b64"]).size == (64, 64)


@rest.works("instances", "inputs", "signature_name")
def _(house: House) -> None:
    named = rows(sketch()) | {"signature_name": "serving_default"}
    by_row = house.http.post(f"{PATH}:predict", json=named).json()["predictions"]
    columns = {"inputs": {"image_bytes": [{"b64": base64_of(sketch())}]}}
    assert house.http.post(f"{PATH}:predict", json=columns).json()["outputs"] == by_row
    wrong = house.http.post(f"{PATH}:predict", json=named | {"signature_name": "nobody"})
    assert in_its_form(wrong).status_code == 400


@rest.refused("instances: no picture")
def _(house: House) -> httpx.Response:
    return in_its_form(house.http.post(f"{PATH}:predict", json=rows(b"no picture")))


def _missing(method: str, path: str) -> None:
    @rest.refused(f"{method} {path}")
    def _(house: House) -> httpx.Response:
        where = "/tfserving" + path.replace("/M", f"/{NAME}")
        return in_its_form(
            house.http.request(method, where, json=rows(sketch()) if method == "POST" else None)
        )


_missing("POST", "/v1/models/M:classify")
_missing("POST", "/v1/models/M:regress")
_missing("GET", "/monitoring/prometheus/metrics")
_missing("GET", "/v1/models/nobody")


@answers.works("predictions", "outputs")
def _(house: House) -> None:
    two = house.http.post(f"{PATH}:predict", json=rows(sketch(), sketch())).json()["predictions"]
    native = house.http.post("/v1/sketch-to-image", files={"image": ("s.png", sketch())})
    assert [base64.b64decode(one["b64"]) for one in two] == [native.content] * 2
    assert predict(house, request(sketch())).outputs["image_bytes"].string_val[0] == native.content


@answers.works("error")
def _(house: House) -> None:
    absent = request(sketch())
    absent.model_spec.version.value = 999
    assert "999" in refusal(house, absent).details()
    assert "999" in in_its_form(house.http.get(f"{PATH}/versions/999")).json()["error"]


@answers.works("the client's deadline")
def _(house: House) -> None:
    assert refusal(house, request(sketch()), timeout=0.001).code() is grpc.StatusCode.DEADLINE_EXCEEDED
