"""gRPC as TensorFlow Serving speaks it. Each refusal's code and words are those of its sources;
docs/tf-serving.md names the file of each."""

from __future__ import annotations

from typing import Any

import grpc
import numpy as np
import pytest

from tests.tf_serving.running import Running, asked, colour_of, png
from tf_serving.stubs import (
    DT_FLOAT,
    DT_INT64,
    ClassificationRequest,
    GetModelMetadataRequest,
    GetModelStatusRequest,
    ModelSpec,
    MultiInferenceRequest,
    PredictRequest,
    RegressionRequest,
    ReloadConfigRequest,
    SignatureDefMap,
)

RED = png((255, 0, 0))


def floats(shape: tuple[int, ...], *values: float, name: str = "image") -> PredictRequest:
    request = PredictRequest()
    request.model_spec.name, request.model_spec.signature_name = "toy", "tensor"
    request.inputs[name].dtype = DT_FLOAT
    request.inputs[name].float_val.extend(values)
    for size in shape:
        request.inputs[name].tensor_shape.dim.add(size=size)
    return request


def test_pictures_of_any_sizes_come_back_in_their_own(toy: Running) -> None:
    answer = toy.predict(asked(png(size=(40, 30)), png((0, 0, 255), (30, 40)), version=1))
    made = list(answer.outputs["image_bytes"].string_val)
    assert [colour_of(one) for one in made] == [(255, 255, 64), (0, 255, 191)]
    assert [int(dim.size) for dim in answer.outputs["image_bytes"].tensor_shape.dim] == [2]


def test_the_answer_says_which_model_and_signature_made_it(toy: Running) -> None:
    spec = toy.predict(asked(RED)).model_spec
    assert (spec.name, spec.version.value, spec.signature_name) == ("toy", 2, "serving_default")


@pytest.mark.parametrize(
    ("spec", "colour"),
    [
        ({}, (255, 0, 0)),
        ({"version": 1}, (255, 255, 64)),
        ({"label": "stable"}, (255, 255, 64)),
        ({"label": "canary"}, (255, 0, 0)),
    ],
    ids=["latest", "number", "stable", "canary"],
)
def test_a_version_is_named_by_number_or_label_or_is_the_latest(
    toy: Running, spec: dict[str, Any], colour: tuple[int, ...]
) -> None:
    assert colour_of(toy.predict(asked(RED, **spec)).outputs["image_bytes"].string_val[0]) == colour


def test_one_picture_as_a_scalar(toy: Running) -> None:
    request = asked(RED, signature="picture", version=1)
    request.inputs["image_bytes"].tensor_shape.Clear()
    answer = toy.predict(request).outputs["image_bytes"]
    assert not answer.tensor_shape.dim and colour_of(answer.string_val[0]) == (255, 255, 64)


def test_a_tensor_of_shares_keeps_its_shape_and_range(toy: Running) -> None:
    request = floats((1, 4, 4, 3), 0.5)  # one value stands for all, as in TensorFlow
    answer = toy.predict(request).outputs["image"]
    assert answer.dtype == DT_FLOAT and [dim.size for dim in answer.tensor_shape.dim] == [1, 4, 4, 3]
    assert np.allclose(answer.float_val, 0.5, atol=1e-6)


def test_tensor_content_is_read_too(toy: Running) -> None:
    request = floats((1, 2, 2, 3))
    request.inputs["image"].tensor_content = np.full((1, 2, 2, 3), 0.25, np.float32).tobytes()
    assert np.allclose(toy.predict(request).outputs["image"].float_val, 0.25, atol=1e-6)


def test_no_pictures_give_none(toy: Running) -> None:
    assert not toy.predict(asked()).outputs["image_bytes"].string_val


def test_an_output_filter_chooses(toy: Running) -> None:
    request = asked(RED)
    request.output_filter.append("image_bytes")
    assert set(toy.predict(request).outputs) == {"image_bytes"}
    request.output_filter.append("image_bytes")
    assert toy.refused(request) == ("INVALID_ARGUMENT", "duplicate output tensor alias: image_bytes")
    request.output_filter[:] = ["mask"]
    assert toy.refused(request) == (
        "INVALID_ARGUMENT",
        "output tensor alias not found in signature: mask Outputs expected to be in the set {image_bytes}.",
    )


def missing_name() -> PredictRequest:
    return asked(RED, model="")


def wrong_input() -> PredictRequest:
    request = PredictRequest()
    request.model_spec.name = "toy"
    request.inputs["picture"].CopyFrom(asked(RED).inputs["image_bytes"])
    return request


def extra_input() -> PredictRequest:
    request = asked(RED)
    request.inputs["seed"].CopyFrom(floats((1,), 1.0).inputs["image"])
    return request


def no_input() -> PredictRequest:
    request = asked(RED)
    del request.inputs["image_bytes"]
    return request


def wrong_type() -> PredictRequest:
    return floats((1,), 1.0, name="image_bytes")


def as_default(request: PredictRequest) -> PredictRequest:
    request.model_spec.signature_name = ""
    return request


def too_many_values() -> PredictRequest:
    request = asked(RED)
    request.inputs["image_bytes"].string_val.append(RED)
    return request


def unknown_rank() -> PredictRequest:
    request = asked(RED)
    request.inputs["image_bytes"].tensor_shape.unknown_rank = True
    return request


REFUSED = {
    "no-model-name": (missing_name(), "INVALID_ARGUMENT", "ModelSpec has no name specified."),
    "unknown-model": (
        asked(RED, model="nobody"),
        "NOT_FOUND",
        "Servable not found for request: Latest(nobody)",
    ),
    "unknown-version": (
        asked(RED, version=7),
        "NOT_FOUND",
        "Servable not found for request: Specific(toy, 7)",
    ),
    "unknown-label": (
        asked(RED, label="beta"),
        "INVALID_ARGUMENT",
        "Unrecognized servable version label: beta",
    ),
    "unknown-signature": (
        asked(RED, signature="classify"),
        "FAILED_PRECONDITION",
        'Serving signature key "classify" not found.',
    ),
    "wrong-input-name": (
        wrong_input(),
        "INVALID_ARGUMENT",
        "input tensor alias not found in signature: picture. Inputs expected to be in the set {image_bytes}.",
    ),
    "extra-input": (
        extra_input(),
        "INVALID_ARGUMENT",
        "input size does not match signature: 2!=1 len({image_bytes,seed}) != len({image_bytes}). Sent extra: {seed}. "
        "Missing but required: {}.",
    ),
    "no-input": (
        no_input(),
        "INVALID_ARGUMENT",
        "input size does not match signature: 0!=1 len({}) != len({image_bytes}). Sent extra: {}. "
        "Missing but required: {image_bytes}.",
    ),
    "wrong-type": (
        as_default(wrong_type()),
        "INVALID_ARGUMENT",
        "Expects arg[0] to be string but float is provided",
    ),
    "more-values-than-the-shape": (
        too_many_values(),
        "INVALID_ARGUMENT",
        "tensor parsing error: image_bytes",
    ),
    "unknown-rank": (unknown_rank(), "INVALID_ARGUMENT", "tensor parsing error: image_bytes"),
    "negative-size": (floats((1, -1, 2, 3), 0.0), "INVALID_ARGUMENT", "tensor parsing error: image"),
    "no-picture": (
        asked(b"Not a picture."),
        "INVALID_ARGUMENT",
        "Unknown image file format. One of JPEG, PNG, GIF, BMP required.",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_refusal_has_tensorflow_servings_code_and_words(toy: Running, case: str) -> None:
    request, code, words = REFUSED[case]
    assert toy.refused(request) == (code, words)


@pytest.mark.parametrize("shape", [(2, 2, 3), (1, 2, 2, 4), (1, 2, 2, 3, 1)])
def test_a_wrong_shape_is_refused_with_both_shapes(toy: Running, shape: tuple[int, ...]) -> None:
    code, words = toy.refused(floats(shape, 0.0))
    assert code == "INVALID_ARGUMENT" and "[-1,-1,-1,3]" in words
    assert "[" + ",".join(map(str, shape)) + "]" in words


def test_a_wrong_type_is_named_though_its_shape_fits(toy: Running) -> None:
    request = floats((1, 2, 2, 3))
    request.inputs["image"].dtype = DT_INT64
    request.inputs["image"].int64_val.append(1)
    assert toy.refused(request) == ("INVALID_ARGUMENT", "Expects arg[0] to be float but int64 is provided")


def test_a_shape_of_a_few_bytes_makes_no_terabytes(toy: Running) -> None:
    code, words = toy.refused(floats((1, 2**20, 2**20, 3), 0.0))
    assert code == "RESOURCE_EXHAUSTED" and "image" in words
    assert colour_of(toy.predict(asked(RED)).outputs["image_bytes"].string_val[0]) == (255, 0, 0)


def test_a_picture_past_the_pixel_bound_is_refused_before_it_is_decoded(toy: Running) -> None:
    code, words = toy.refused(asked(png(size=(1001, 1000))))
    assert code == "INVALID_ARGUMENT" and "1001 x 1000" in words


@pytest.mark.parametrize(
    ("call", "request_"),
    [
        ("Classify", ClassificationRequest(model_spec=ModelSpec(name="toy"))),
        ("Regress", RegressionRequest(model_spec=ModelSpec(name="toy"))),
        ("MultiInference", MultiInferenceRequest()),
    ],
)
def test_what_the_server_does_not_do_it_says(toy: Running, call: str, request_: Any) -> None:
    code, words = toy.refused(request_, call)
    assert code == "UNIMPLEMENTED" and "Predict" in words


def test_metadata_holds_the_signatures(toy: Running) -> None:
    request = GetModelMetadataRequest(model_spec=ModelSpec(name="toy"), metadata_field=["signature_def"])
    response = toy.prediction.GetModelMetadata(request, timeout=10)
    found = SignatureDefMap()
    assert response.metadata["signature_def"].Unpack(found)
    assert set(found.signature_def) == {"serving_default", "picture", "tensor"}
    assert found.signature_def["tensor"].inputs["image"].dtype == DT_FLOAT
    assert found.signature_def["tensor"].method_name == "tensorflow/serving/predict"
    assert response.model_spec.version.value == 2


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        (GetModelMetadataRequest(metadata_field=["signature_def"]), "Missing ModelSpec"),
        (
            GetModelMetadataRequest(model_spec=ModelSpec(name="toy")),
            "GetModelMetadataRequest must specify at least one metadata_field",
        ),
        (
            GetModelMetadataRequest(model_spec=ModelSpec(name="toy"), metadata_field=["size"]),
            "Metadata field size is not supported",
        ),
    ],
)
def test_metadata_that_is_asked_for_wrongly(toy: Running, request_: Any, words: str) -> None:
    assert toy.refused(request_, "GetModelMetadata") == ("INVALID_ARGUMENT", words)


def test_status_of_all_versions_and_of_one(toy: Running) -> None:
    everything = toy.models.GetModelStatus(
        GetModelStatusRequest(model_spec=ModelSpec(name="toy")), timeout=10
    )
    assert [(one.version, one.state) for one in everything.model_version_status] == [(2, 30), (1, 30)]
    spec = ModelSpec(name="toy", version_label="stable")
    one = toy.models.GetModelStatus(GetModelStatusRequest(model_spec=spec), timeout=10).model_version_status
    assert [(found.version, found.status.error_code) for found in one] == [(1, 0)]


@pytest.mark.parametrize(
    ("request_", "code", "words"),
    [
        (GetModelStatusRequest(), "INVALID_ARGUMENT", "Missing ModelSpec"),
        (
            GetModelStatusRequest(model_spec=ModelSpec(name="nobody")),
            "NOT_FOUND",
            "Could not find any versions of model nobody",
        ),
        (
            GetModelStatusRequest(model_spec=ModelSpec(name="toy", version={"value": 7})),
            "NOT_FOUND",
            "Could not find version 7 of model toy",
        ),
    ],
)
def test_status_of_what_is_not_there(toy: Running, request_: Any, code: str, words: str) -> None:
    assert toy.refused(request_, "GetModelStatus") == (code, words)


def test_a_reload_of_no_list_is_refused(toy: Running) -> None:
    assert toy.refused(ReloadConfigRequest(), "HandleReloadConfigRequest") == (
        "INVALID_ARGUMENT",
        "ServerModelConfig type not supported by HandleReloadConfigRequest. Only ModelConfigList is currently "
        "supported",
    )


def test_a_method_that_does_not_exist_is_unimplemented(toy: Running) -> None:
    call = toy.channel.unary_unary("/tensorflow.serving.PredictionService/Dream")
    with pytest.raises(grpc.RpcError) as caught:
        call(b"", timeout=10)
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


def test_bytes_that_are_no_request_are_refused_and_the_server_lives(toy: Running) -> None:
    call = toy.channel.unary_unary("/tensorflow.serving.PredictionService/Predict")
    with pytest.raises(grpc.RpcError):
        call(b"\xff" * 64, timeout=10)
    assert toy.predict(asked(RED)).outputs["image_bytes"].string_val
