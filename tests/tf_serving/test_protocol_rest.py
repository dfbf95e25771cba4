"""REST as TensorFlow Serving's documentation shows it (g3doc/api_rest.md), with its sources' codes and words."""

from __future__ import annotations

import base64
import json
import math
from typing import Any

import numpy as np
import pytest

from tests.tf_serving.running import Running, colour_of, png

RED = base64.b64encode(png((255, 0, 0))).decode()
GREY = np.full((4, 4, 3), 0.5).tolist()


def post(toy: Running, body: Any, who: str = "toy", method: str = "predict") -> tuple[int, dict[str, Any]]:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    answer = toy.rest.post(f"/v1/models/{who}:{method}", content=content)
    assert answer.headers["content-type"] == "application/json"
    return answer.status_code, answer.json()


def made(value: dict[str, str]) -> tuple[int, ...]:
    assert set(value) == {"b64"}
    return colour_of(base64.b64decode(value["b64"]))


def test_rows_of_pictures(toy: Running) -> None:
    status, answer = post(toy, {"instances": [{"b64": RED}, {"image_bytes": {"b64": RED}}]}, "toy/versions/1")
    assert status == 400 and "Expecting value/list but got object at item 1" in answer["error"]
    status, answer = post(toy, {"instances": [{"b64": RED}, {"b64": RED}]}, "toy/versions/1")
    assert status == 200 and [made(one) for one in answer["predictions"]] == [(255, 255, 64)] * 2
    status, answer = post(toy, {"instances": [{"image_bytes": {"b64": RED}}]}, "toy/versions/1")
    assert status == 200 and [made(one) for one in answer["predictions"]] == [(255, 255, 64)]


def test_columns_of_pictures(toy: Running) -> None:
    for inputs in ([{"b64": RED}], {"image_bytes": [{"b64": RED}]}):
        status, answer = post(toy, {"inputs": inputs})
        assert status == 200 and [made(one) for one in answer["outputs"]] == [(255, 0, 0)]


def test_a_signature_is_named_in_the_body(toy: Running) -> None:
    status, answer = post(toy, {"signature_name": "picture", "inputs": {"b64": RED}}, "toy/labels/stable")
    assert status == 200 and made(answer["outputs"]) == (255, 255, 64)
    status, answer = post(toy, {"signature_name": "tensor", "instances": [GREY, GREY]})
    assert status == 200 and np.allclose(answer["predictions"], 0.5, atol=1e-6)
    assert np.shape(answer["predictions"]) == (2, 4, 4, 3)


def test_whole_numbers_are_decimals_and_nan_is_nan(toy: Running) -> None:
    body = {"signature_name": "tensor", "instances": [np.ones((4, 4, 3), int).tolist()]}
    answer = toy.rest.post("/v1/models/toy:predict", json=body)
    assert answer.status_code == 200 and b"1.0" in answer.content
    body["instances"][0][0][0][0] = math.nan  # type: ignore[index]
    answer = toy.rest.post("/v1/models/toy:predict", content=json.dumps(body).encode())
    assert answer.status_code == 200 and b"NaN" in answer.content


def test_status(toy: Running) -> None:
    fine = {"error_code": "OK", "error_message": ""}
    one = {"version": "1", "state": "AVAILABLE", "status": fine}
    two = {"version": "2", "state": "AVAILABLE", "status": fine}
    assert toy.rest.get("/v1/models/toy").json() == {"model_version_status": [two, one]}
    assert toy.rest.get("/v1/models/toy/versions/1").json() == {"model_version_status": [one]}
    assert toy.rest.get("/v1/models/toy/labels/canary").json() == {"model_version_status": [two]}


def test_metadata(toy: Running) -> None:
    answer = toy.rest.get("/v1/models/toy/labels/stable/metadata").json()
    assert answer["model_spec"] == {"name": "toy", "signature_name": "", "version": "1"}
    signatures = answer["metadata"]["signature_def"]["signature_def"]
    assert set(signatures) == {"serving_default", "picture", "tensor"}
    shape = signatures["tensor"]["inputs"]["image"]["tensor_shape"]
    assert [dim["size"] for dim in shape["dim"]] == ["-1", "-1", "-1", "3"]
    assert signatures["picture"]["method_name"] == "tensorflow/serving/predict"


def test_paths_are_read_without_regard_to_case(toy: Running) -> None:
    assert toy.rest.get("/V1/Models/toy/Versions/1").status_code == 200


GETS = {
    "/v1/models": (400, "Missing model name in request."),
    "/v1/models/nobody": (404, "Could not find any versions of model nobody"),
    "/v1/models/toy/versions/7": (404, "Could not find version 7 of model toy"),
    "/v1/models/toy/labels/beta": (400, "Unrecognized servable version label: beta"),
    "/v1/models/nobody/metadata": (404, "Servable not found for request: Latest(nobody)"),
    "/v1/models/toy/versions/7/metadata": (404, "Servable not found for request: Specific(toy, 7)"),
    "/v1/models/toy/versions/99999999999999999999": (
        400,
        "Failed to convert version: 99999999999999999999 to numeric.",
    ),
    "/v1/models/toy/what/is/this": (400, "Malformed request: GET /v1/models/toy/what/is/this"),
    "/v1/models/toy:predict": (400, "Malformed request: GET /v1/models/toy:predict"),
}


@pytest.mark.parametrize("path", GETS)
def test_what_is_not_there_is_said_in_tensorflow_servings_words(toy: Running, path: str) -> None:
    answer = toy.rest.get(path)
    assert (answer.status_code, answer.json()) == (GETS[path][0], {"error": GETS[path][1]})


def test_what_is_not_below_v1_is_nothing(toy: Running) -> None:
    assert toy.rest.get("/").status_code == 404


POSTS: dict[str, tuple[Any, int, str]] = {
    "empty": (b"", 400, "JSON Parse error: The document is empty"),
    "cut": (b'{"instances": [', 400, "JSON Parse error: Invalid value. at offset: 15"),
    "no-json": (b"hello", 400, "JSON Parse error: Invalid value. at offset: 0"),
    "no-colon": (
        b'{"a" 1}',
        400,
        "JSON Parse error: Missing a colon after a name of object member. at offset: 5",
    ),
    "no-object": (b"[1]", 400, "JSON Value: [\n    1\n] Is not object"),
    "neither": ({}, 400, "Missing 'inputs' or 'instances' key"),
    "no-rows": ({"instances": []}, 400, "No values in 'instances' array"),
    "rows-no-list": ({"instances": "x"}, 400, "Excepting 'instances' to be an list/array"),
    "both": (
        {"instances": [1], "inputs": [1]},
        400,
        "Not formatted correctly expecting only one of 'inputs' or 'instances' keys to exist ",
    ),
    "signature-no-string": ({"signature_name": 100}, 400, "'signature_name' key must be a string value."),
    "unknown-signature": (
        {"signature_name": "dream", "instances": [1]},
        400,
        'Serving signature name: "dream" not found in signature def',
    ),
    "missing-input": ({"inputs": {"x": 1}}, 400, "Missing named input: image_bytes in 'inputs' object."),
    "wrong-key": (
        {"instances": [{"x": "a"}]},
        400,
        "Failed to process element: 0 key: x of 'instances' list. Error: INVALID_ARGUMENT: JSON object: does not have "
        "named input: x",
    ),
    "wrong-type": ({"inputs": [1.5]}, 400, "JSON Value: 1.5 Type: Number is not of expected type: string"),
    "text-for-a-number": (
        {"signature_name": "tensor", "inputs": [[[["a", 1, 1]]]]},
        400,
        'JSON Value: "a" Type: String is not of expected type: float',
    ),
    "true-for-a-number": (
        {"signature_name": "tensor", "inputs": [[[[True, 1, 1]]]]},
        400,
        "JSON Value: true Type: True is not of expected type: float",
    ),
    "too-large-a-number": (
        {"signature_name": "tensor", "inputs": [[[[2**24, 1, 1]]]]},
        400,
        "Cannot convert JSON value: 16777216 to float without loss of precision.",
    ),
    "bad-base64": ({"inputs": [{"b64": "a"}]}, 400, "Unable to base64 decode"),
    "no-base64": (
        {"inputs": [{"b64": 3}]},
        400,
        "not formatted correctly for base64 data",
    ),
    "ragged": (
        {"signature_name": "tensor", "inputs": [[[[1, 2, 3], [1, 2]]]]},
        400,
        "Encountered list at unexpected size: 2 at level: 3 expected size: 3",
    ),
    "too-deep": (
        {"signature_name": "tensor", "inputs": [1, [2]]},
        400,
        "Encountered list at unexpected level: 1 expected < 1",
    ),
    "not-deep-enough": (
        {"signature_name": "tensor", "inputs": [[1], 2]},
        400,
        "JSON Value: 2 found at incorrect level: 2 in the JSON DOM. Expected at level: 2",
    ),
    "rows-of-two-sizes": (
        {"signature_name": "tensor", "instances": [[[[1, 2, 3]]], [[[1, 2, 3], [1, 2, 3]]]]},
        400,
        "Failed to process element: 1 of 'instances' list. Error: INVALID_ARGUMENT: Expecting tensor size: 3 but got: "
        "6",
    ),
    "wrong-shape": ({"signature_name": "tensor", "inputs": [1, 2]}, 400, "[-1,-1,-1,3]"),
    "no-picture": (
        {"inputs": ["Not a picture."]},
        400,
        "Unknown image file format. One of JPEG, PNG, GIF, BMP required.",
    ),
}


@pytest.mark.parametrize("case", POSTS)
def test_a_body_that_is_wrong_is_refused_in_tensorflow_servings_words(toy: Running, case: str) -> None:
    body, status, words = POSTS[case]
    found, answer = post(toy, body)
    assert found == status and set(answer) == {"error"}
    assert words in answer["error"]


def test_unknown_models_versions_and_labels(toy: Running) -> None:
    body = {"instances": [{"b64": RED}]}
    assert post(toy, body, "nobody") == (404, {"error": "Servable not found for request: Latest(nobody)"})
    assert post(toy, body, "toy/versions/7") == (
        404,
        {"error": "Servable not found for request: Specific(toy, 7)"},
    )
    assert post(toy, body, "toy/labels/beta") == (400, {"error": "Unrecognized servable version label: beta"})


def test_classify_and_regress_say_what_they_need(toy: Running) -> None:
    for method in ("classify", "regress"):
        status, answer = post(toy, {"examples": [{"x": 1.0}]}, method=method)
        assert status == 501 and "tf.Example" in answer["error"]


def test_a_deeply_nested_body_ends_nothing(toy: Running) -> None:
    status, _ = post(toy, b'{"instances": ' + b"[" * 200_000 + b"]" * 200_000 + b"}")
    assert status == 400
    assert toy.rest.get("/v1/models/toy").status_code == 200


def test_metrics_have_tensorflow_servings_names(toy: Running) -> None:
    post(toy, {"instances": [{"b64": RED}]})
    post(toy, {"instances": ["x"]})
    answer = toy.rest.get("/monitoring/prometheus/metrics")
    assert answer.headers["content-type"] == "text/plain"
    page = answer.text
    assert "# TYPE :tensorflow:serving:request_count counter" in page
    assert ':tensorflow:serving:request_count{model_name="toy",status="OK"} ' in page
    assert ':tensorflow:serving:request_count{model_name="toy",status="INVALID_ARGUMENT"} ' in page
    count = ':tensorflow:serving:request_latency_count{model_name="toy",API="Predict",entrypoint="REST"} '
    assert count in page
    assert (
        ':tensorflow:serving:runtime_latency_bucket{model_name="toy",API="Predict",runtime="LiteRT",le="10"} '
        in page
    )
    assert 'darkroom_tfserving_versions_available{model_name="toy"} 2' in page


def test_unknown_names_do_not_grow_the_metrics(toy: Running) -> None:
    body = {"instances": [{"b64": RED}]}
    for number in range(5):
        assert post(toy, body, f"nobody{number}")[0] == 404
    page = toy.rest.get("/monitoring/prometheus/metrics").text
    assert "nobody3" not in page and ':request_count{model_name="unknown",status="NOT_FOUND"} ' in page
