"""A client that was written for TensorFlow Serving: `tensorflow-serving-api`'s own messages and stubs,
against this server."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.tf_serving.running import Running, environment, png

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(300),
    pytest.mark.skipif(
        find_spec("tensorflow_serving") is None, reason="tensorflow-serving-api is not installed"
    ),
]

CLIENT = """
import sys
from pathlib import Path

import grpc
import tensorflow as tf
from google.protobuf import text_format
from tensorflow_serving.apis import (
    classification_pb2, get_model_metadata_pb2, get_model_status_pb2, model_management_pb2, model_service_pb2_grpc,
    predict_pb2, prediction_service_pb2_grpc,
)
from tensorflow_serving.config import model_server_config_pb2

address, picture, config = sys.argv[1], Path(sys.argv[2]).read_bytes(), Path(sys.argv[3]).read_text()
channel = grpc.insecure_channel(address)
prediction = prediction_service_pb2_grpc.PredictionServiceStub(channel)
models = model_service_pb2_grpc.ModelServiceStub(channel)


def ask(**spec):
    request = predict_pb2.PredictRequest()
    request.model_spec.name = spec.pop("name", "toy")
    request.model_spec.signature_name = spec.pop("signature", "serving_default")
    if "version" in spec:
        request.model_spec.version.value = spec["version"]
    if "label" in spec:
        request.model_spec.version_label = spec["label"]
    return request


def refused(call, request):
    try:
        call(request, timeout=20)
    except grpc.RpcError as error:
        return error.code().name, error.details()
    raise SystemExit(f"{request} was not refused")


request = ask(label="stable")
request.inputs["image_bytes"].CopyFrom(tf.make_tensor_proto([picture, picture]))
answer = prediction.Predict(request, timeout=20)
made = tf.make_ndarray(answer.outputs["image_bytes"])
assert made.shape == (2,) and tf.io.decode_png(made[0]).shape == (12, 20, 3)
assert answer.model_spec.version.value == 1 and answer.model_spec.signature_name == "serving_default"

request = ask(signature="tensor")
request.inputs["image"].CopyFrom(tf.make_tensor_proto(tf.fill([2, 8, 8, 3], 0.5)))
made = tf.make_ndarray(prediction.Predict(request, timeout=20).outputs["image"])
assert made.shape == (2, 8, 8, 3) and abs(made - 0.5).max() < 1e-5

request = ask()
request.inputs["image_bytes"].CopyFrom(tf.make_tensor_proto([1.0]))
assert refused(prediction.Predict, request) == (
    "INVALID_ARGUMENT", "Expects arg[0] to be string but float is provided")
assert refused(prediction.Predict, ask(name="nobody")) == (
    "NOT_FOUND", "Servable not found for request: Latest(nobody)")
assert refused(prediction.Predict, ask(version=9)) == (
    "NOT_FOUND", "Servable not found for request: Specific(toy, 9)")
assert refused(prediction.Predict, ask(signature="dream")) == (
    "FAILED_PRECONDITION", 'Serving signature key "dream" not found.')
assert refused(prediction.Classify, classification_pb2.ClassificationRequest())[0] == "UNIMPLEMENTED"

request = get_model_metadata_pb2.GetModelMetadataRequest()
request.model_spec.name = "toy"
request.metadata_field.append("signature_def")
found = get_model_metadata_pb2.SignatureDefMap()
assert prediction.GetModelMetadata(request, timeout=20).metadata["signature_def"].Unpack(found)
assert found.signature_def["serving_default"].inputs["image_bytes"].dtype == tf.string.as_datatype_enum

request = get_model_status_pb2.GetModelStatusRequest()
request.model_spec.name = "toy"
states = {one.version: one.state for one in models.GetModelStatus(request, timeout=20).model_version_status}
available = get_model_status_pb2.ModelVersionStatus.AVAILABLE
assert states == {1: available, 2: available}, states

request = model_management_pb2.ReloadConfigRequest()
text_format.Parse(config, request.config)
answer = models.HandleReloadConfigRequest(request, timeout=20)
assert answer.status.error_code == 0
request = ask(label="canary")
request.inputs["image_bytes"].CopyFrom(tf.make_tensor_proto([picture]))
assert prediction.Predict(request, timeout=20).model_spec.version.value == 1
print("all of it")
"""


def test_a_client_of_tensorflow_serving_cannot_tell(toy: Running, tmp_path: Path) -> None:
    (tmp_path / "red.png").write_bytes(png())
    base = toy.log.split("Loading servable version")[1].split(" from ")[1].split("\n")[0].rpartition("/")[0]
    (tmp_path / "models.config").write_text(
        textwrap.dedent(f"""
            model_config_list {{ config {{ name: "toy" base_path: "{base}" model_platform: "tensorflow"
                model_version_policy {{ all {{}} }}
                version_labels {{ key: "stable" value: 1 }} version_labels {{ key: "canary" value: 1 }} }} }}
        """)
    )
    command = [sys.executable, "-c", CLIENT, toy.address, tmp_path / "red.png", tmp_path / "models.config"]
    # a process of its own: the client's TensorFlow is none of this one's
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=200, env=environment(), check=False
    )
    assert done.returncode == 0 and "all of it" in done.stdout, done.stderr[-3000:]
