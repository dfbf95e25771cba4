"""TensorFlow Serving's messages, read from a descriptor set: the same on the wire, and at peace with
TensorFlow's own."""

import subprocess
import sys
from importlib.util import find_spec

import pytest

from tf_serving.stubs import (
    DT_STRING,
    GetModelMetadataResponse,
    ModelServerConfig,
    PredictionLog,
    PredictRequest,
    SignatureDefMap,
    service,
)
from tf_serving.stubs.services import MODEL, PREDICTION

OURS = "from tf_serving.stubs import PredictRequest as Ours"
THEIRS = "from tensorflow_serving.apis.predict_pb2 import PredictRequest as Theirs"
EXCHANGE = """
ours = Ours()
ours.model_spec.name = "creatures"
ours.model_spec.version.value = 3
ours.inputs["image_bytes"].string_val.append(b"picture")
theirs = Theirs.FromString(ours.SerializeToString())
assert theirs.model_spec.version.value == 3 and theirs.inputs["image_bytes"].string_val[0] == b"picture"
assert Ours.FromString(theirs.SerializeToString()) == ours
"""


def test_a_request_survives_the_wire() -> None:
    request = PredictRequest()
    request.model_spec.name = "creatures"
    request.inputs["image_bytes"].dtype = DT_STRING
    assert PredictRequest.FromString(request.SerializeToString()) == request


def test_an_any_holds_the_signatures() -> None:
    signatures, response = SignatureDefMap(), GetModelMetadataResponse()
    signatures.signature_def["serving_default"].method_name = "tensorflow/serving/predict"
    response.metadata["signature_def"].Pack(signatures)
    found = SignatureDefMap()
    assert response.metadata["signature_def"].Unpack(found) and found == signatures


def test_the_services_have_the_methods_of_tensorflow_serving() -> None:
    assert set(service(PREDICTION)) == {
        "Predict",
        "Classify",
        "Regress",
        "MultiInference",
        "GetModelMetadata",
    }
    assert set(service(MODEL)) == {"GetModelStatus", "HandleReloadConfigRequest"}


def test_what_training_and_serving_need_is_there() -> None:
    log = PredictionLog()
    log.predict_log.request.model_spec.name = "creatures"
    config = ModelServerConfig()
    config.model_config_list.config.add(name="creatures").version_labels["stable"] = 1
    assert log.WhichOneof("log_type") == "predict_log"


def test_tensorflow_is_not_imported() -> None:
    run(f"{OURS}; import sys; assert not any(name.startswith('tensorflow') for name in sys.modules)")


@pytest.mark.slow
@pytest.mark.skipif(find_spec("tensorflow_serving") is None, reason="tensorflow-serving-api is not installed")
@pytest.mark.parametrize("imports", [(OURS, THEIRS), (THEIRS, OURS)], ids=["ours-first", "theirs-first"])
def test_ours_and_theirs_live_in_one_process_in_either_order(imports: tuple[str, str]) -> None:
    run("\n".join([*imports, EXCHANGE]))


def run(code: str) -> None:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
