"""The Open Inference Protocol, as Triton's official clients ask, and by hand where they do not reach."""

from __future__ import annotations

import base64
import json
from typing import Any

import grpc
import httpx
import numpy as np
import tritonclient.http as triton
from tritonclient.grpc import service_pb2

from tests.end_to_end.doors.conformance.checks import House, Table, base64_of, opened, photo, png, scene

MODEL = "/v2/models/preprocess"
HEAD = "inference-header-content-length"
TRITON = "/inference.GRPCInferenceService/"

rest = Table("of the protocol over REST")
infer = Table("of an inference request")
rpc = Table("of the protocol over gRPC")
answers = Table("of the protocol's answers")


def tensor(name: str, value: Any, **more: Any) -> dict[str, Any]:
    return {"name": name, "datatype": "BYTES", "shape": [1], "data": [value], **more}


def asked(**more: Any) -> dict[str, Any]:
    return {"inputs": [tensor("image", base64_of(png(scene()))), tensor("kind", "canny")], **more}


def post(
    house: House, document: dict[str, Any], path: str = f"{MODEL}/infer", **headers: str
) -> httpx.Response:
    return house.http.post(path, json=document, headers=headers)


def inferred(answer: httpx.Response) -> dict[str, Any]:
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def in_its_form(answer: httpx.Response) -> httpx.Response:
    assert list(answer.json()) == ["error"], answer.text
    return answer


# ── REST ──────────────────────────────────────────────────────────────────────────────────────────────────────


def _tells(path: str, holds: Any) -> None:
    @rest.works(f"GET {path}")
    def _(house: House) -> None:
        answer = house.http.get(path.replace("/M", "/preprocess"))
        assert answer.status_code == 200
        assert holds(answer.json()), answer.text


_tells("/v2", lambda told: told["extensions"] == ["binary_tensor_data"])
_tells("/v2/health/live", lambda told: told["live"])
_tells("/v2/health/ready", lambda told: told["ready"])
for _base in ("/v2/models/M", "/v2/models/M/versions/1"):
    _tells(_base, lambda told: told["versions"] == ["1"] and told["outputs"][0]["name"] == "image")
    _tells(f"{_base}/ready", lambda told: told["ready"])


@rest.works("POST /v2/models/M/infer", "POST /v2/models/M/versions/1/infer")
def _(house: House) -> None:
    for path in (f"{MODEL}/infer", f"{MODEL}/versions/1/infer"):
        (image,) = inferred(post(house, asked(), path))["outputs"]
        assert opened(image["data"][0]).size == scene().size


def _missing(method: str, path: str) -> None:
    @rest.refused(f"{method} {path}")
    def _(house: House) -> httpx.Response:
        where = path.replace("/M", "/preprocess")
        return in_its_form(house.http.request(method, where, json={} if method == "POST" else None))


for _name in (
    *("models/nobody", "models/M/versions/2", "models/M/config", "models/M/stats", "models/stats"),
    *("systemsharedmemory/status", "cudasharedmemory/status", "trace/setting", "logging"),
):
    _missing("GET", f"/v2/{_name}")
for _name in (
    *("models/M/generate", "models/M/generate_stream", "repository/index"),
    *("repository/models/M/load", "repository/models/M/unload"),
):
    _missing("POST", f"/v2/{_name}")

# ── a request ─────────────────────────────────────────────────────────────────────────────────────────────────


@infer.works("id")
def _(house: House) -> None:
    assert inferred(post(house, asked(id="mine")))["id"] == "mine"


@infer.works("inputs", "name", "datatype", "shape", "data")
def _(house: House) -> None:
    kept = house.http.post("/v1/assets", content=png(scene()), headers={"content-type": "image/png"}).json()
    low = {"name": "low", "datatype": "INT32", "shape": [1, 1], "data": [[3]]}
    high = {"name": "high", "datatype": "FP32", "shape": [1], "data": [9.0]}
    inputs = [tensor("image", f"asset:{kept['id']}"), tensor("kind", "canny"), low, high]
    assert inferred(post(house, {"inputs": inputs}))["outputs"][0]["shape"] == [1]
    for wrong in ({"name": "imag"}, {"datatype": 7}, {"data": []}):
        broken = {"inputs": [tensor("image", "") | wrong, tensor("kind", "canny")]}
        assert in_its_form(post(house, broken)).status_code == 400


@infer.refused("shape: [2]")
def _(house: House) -> httpx.Response:
    two = tensor("image", "", shape=[2], data=[base64_of(png(scene()))] * 2)
    return in_its_form(post(house, {"inputs": [two]}))


@infer.works("parameters")
def _(house: House) -> None:
    only = {"inputs": asked()["inputs"][:1], "parameters": {"kind": "canny", "format": "webp"}}
    (image,) = inferred(post(house, only))["outputs"]
    assert opened(image["data"][0]).format == "WEBP"


@infer.works("timeout")
def _(house: House) -> None:
    words = {"inputs": [tensor("prompt", "x")], "parameters": {"steps": 150, "timeout": 1000}}
    assert in_its_form(post(house, words, "/v2/models/text-to-image/infer")).status_code == 504


def edges(house: House, more: dict[str, Any]) -> str:
    found: str = inferred(post(house, asked(parameters=more)))["outputs"][0]["data"][0]
    return found


infer.ignored(edges, priority=3, sequence_id=9, sequence_start=True, sequence_end=True)


@infer.works("outputs")
def _(house: House) -> None:
    words = {"inputs": [tensor("prompt", "x")], "parameters": {"steps": 1, "seed": 5, "count": 2}}
    where = "/v2/models/text-to-image/infer"
    both = inferred(post(house, words, where))["outputs"]
    assert [(one["name"], one["shape"]) for one in both] == [("image", [2]), ("seed", [2])]
    (only,) = inferred(post(house, words | {"outputs": [{"name": "seed"}]}, where))["outputs"]
    assert only["data"] == [5, 6]
    caption = {"inputs": [tensor("image", base64_of(photo()))], "parameters": {"phrases": 0}}
    (data,) = inferred(post(house, caption, "/v2/models/caption/infer"))["outputs"]
    assert json.loads(data["data"][0])["caption"]


@infer.refused("outputs: another name")
def _(house: House) -> httpx.Response:
    return in_its_form(post(house, asked(outputs=[{"name": "nothing"}])))


@infer.works("binary_data", "binary_data_output", "binary_data_size", "Inference-Header-Content-Length")
def _(house: House) -> None:
    image = triton.InferInput("image", [1], "BYTES")
    image.set_data_from_numpy(np.array([png(scene())], dtype=np.object_))
    kind = triton.InferInput("kind", [1], "BYTES")
    kind.set_data_from_numpy(np.array([b"canny"], dtype=np.object_))
    with triton.InferenceServerClient(f"127.0.0.1:{house.stack.port}") as client:
        for binary in (True, False):
            wanted = [triton.InferRequestedOutput("image", binary_data=binary)]
            data = client.infer("preprocess", [image, kind], outputs=wanted).as_numpy("image")[0]
            assert opened(data if binary else base64.b64decode(data)).size == scene().size
    whole = post(house, asked(parameters={"binary_data_output": True}))
    assert opened(whole.content[int(whole.headers[HEAD]) + 4 :]).size == scene().size


@infer.refused("classification", "shared_memory_region")
def _(house: House) -> httpx.Response:
    wanted = asked(outputs=[{"name": "image", "parameters": {"classification": 2}}])
    assert in_its_form(post(house, wanted)).status_code == 400
    shared = {"shared_memory_region": "mine", "shared_memory_byte_size": 9}
    bare = {"name": "image", "datatype": "BYTES", "shape": [1], "parameters": shared}
    return in_its_form(post(house, {"inputs": [bare, tensor("kind", "canny")]}))


@infer.refused("Content-Encoding")
def _(house: House) -> httpx.Response:
    return in_its_form(post(house, asked(), **{"content-encoding": "gzip"}))


# ── gRPC ──────────────────────────────────────────────────────────────────────────────────────────────────────


def called(house: House, name: str, request: Any = None, *, stream: bool = False) -> Any:
    kind = "stream_stream" if stream else "unary_unary"
    answer = getattr(service_pb2, f"{name}Response")
    stub = getattr(house.foreign, kind)(TRITON + name, response_deserializer=answer.FromString)
    data = (request or getattr(service_pb2, f"{name}Request")()).SerializeToString()
    return list(stub(iter([data]), timeout=30)) if stream else stub(data, timeout=30)


def refusal(house: House, name: str, request: Any = None, *, stream: bool = False) -> grpc.RpcError:
    try:
        called(house, name, request, stream=stream)
    except grpc.RpcError as error:
        return error
    raise AssertionError(f"{name} was answered")


def picture() -> Any:
    request = service_pb2.ModelInferRequest(model_name="preprocess", id="mine")
    for name, data in (("image", png(scene())), ("kind", b"canny")):
        request.inputs.add(name=name, datatype="BYTES", shape=[1])
        request.raw_input_contents.append(len(data).to_bytes(4, "little") + data)
    return request


@rpc.works("ServerLive", "ServerReady", "ModelReady", "ServerMetadata", "ModelMetadata")
def _(house: House) -> None:
    assert called(house, "ServerLive").live
    assert called(house, "ServerReady").ready
    assert called(house, "ModelReady", service_pb2.ModelReadyRequest(name="cleanup")).ready
    assert called(house, "ServerMetadata").name == "darkroom"
    told = called(house, "ModelMetadata", service_pb2.ModelMetadataRequest(name="cleanup"))
    assert [one.name for one in told.outputs] == ["image"]


@rpc.works("ModelReady: nobody")
def _(house: House) -> None:
    assert not called(house, "ModelReady", service_pb2.ModelReadyRequest(name="nobody")).ready
    assert not called(house, "ModelReady", service_pb2.ModelReadyRequest(name="cleanup", version="2")).ready


@rpc.works("ModelInfer")
def _(house: House) -> None:
    answer = called(house, "ModelInfer", picture())
    assert opened(answer.raw_output_contents[0][4:]).size == scene().size
    other = service_pb2.ModelInferRequest(model_name="preprocess")
    for name, data in (("image", png(scene())), ("kind", b"canny")):
        one = other.inputs.add(name=name, datatype="BYTES", shape=[1])
        one.contents.bytes_contents.append(data)
    assert called(house, "ModelInfer", other).raw_output_contents == answer.raw_output_contents


@rpc.refused("ModelInfer: shared_memory_region")
def _(house: House) -> grpc.RpcError:
    request = picture()
    request.inputs[0].parameters["shared_memory_region"].string_param = "mine"
    return refusal(house, "ModelInfer", request)


def _unimplemented(name: str) -> None:
    @rpc.refused(name)
    def _(house: House) -> grpc.RpcError:
        return refusal(house, name, picture() if name == "ModelStreamInfer" else None)


_known = {"ServerLive", "ServerReady", "ModelReady", "ServerMetadata", "ModelMetadata", "ModelInfer"}
for _method in service_pb2.DESCRIPTOR.services_by_name["GRPCInferenceService"].methods_by_name:
    if _method not in _known:
        _unimplemented(_method)

# ── answers ───────────────────────────────────────────────────────────────────────────────────────────────────


@answers.works("model_name", "model_version", "outputs")
def _(house: House) -> None:
    told = inferred(post(house, asked()))
    assert (told["model_name"], told["model_version"]) == ("preprocess", "1")
    assert "model" in told["parameters"]
    assert told["outputs"][0]["parameters"] == {"content_type": "base64", "media_type": "image/png"}
    assert called(house, "ModelInfer", picture()).model_name == "preprocess"


@answers.works("error")
def _(house: House) -> None:
    wrong = asked()
    wrong["inputs"][1] = tensor("kind", "depth")
    assert in_its_form(post(house, wrong)).status_code == 400
    unknown = refusal(house, "ModelMetadata", service_pb2.ModelMetadataRequest(name="nobody"))
    assert unknown.code() is grpc.StatusCode.NOT_FOUND
