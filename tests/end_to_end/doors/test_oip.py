"""The Open Inference Protocol, asked by Triton's official client."""

from __future__ import annotations

import base64
import io
import json
import random
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import tritonclient.http as triton
from PIL import Image
from tritonclient.utils import InferenceServerException

SAMPLE = Path(__file__).parents[3] / "docs" / "samples" / "astronaut.jpg"
HEAD = "inference-header-content-length"


@pytest.fixture(scope="module")
def client(stack: Any) -> Iterator[Any]:
    with triton.InferenceServerClient(f"127.0.0.1:{stack.port}", network_timeout=60) as found:
        yield found


@pytest.fixture(scope="module")
def door(stack: Any) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=stack.url, timeout=60) as found:
        yield found


def tensor(name: str, value: Any, *, datatype: str = "BYTES", binary: bool = True) -> Any:
    kinds = {"BYTES": np.object_, "INT64": np.int64, "FP64": np.float64, "BOOL": np.bool_}
    made = triton.InferInput(name, [1], datatype)
    made.set_data_from_numpy(np.array([value], dtype=kinds[datatype]), binary_data=binary)
    return made


def opened(data: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(data))
    image.load()
    return image


def test_the_server_and_its_models_tell_of_themselves(client: Any) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    about = client.get_server_metadata()
    assert (about["name"], about["extensions"]) == ("darkroom", ["binary_tensor_data"])
    assert client.is_model_ready("remove-background")
    assert client.is_model_ready("remove-background", "1")
    model = client.get_model_metadata("remove-background")
    assert model["versions"] == ["1"]
    assert model["inputs"][0] == {"name": "image", "datatype": "BYTES", "shape": [1]}
    assert {"name": "trim", "datatype": "BOOL", "shape": [1], "parameters": {"optional": True}} in model[
        "inputs"
    ]
    assert model["outputs"] == [{"name": "image", "datatype": "BYTES", "shape": [-1]}]
    kinds = {one["name"]: one["datatype"] for one in client.get_model_metadata("text-to-image")["inputs"]}
    assert (kinds["prompt"], kinds["steps"], kinds["guidance"], kinds["loras"]) == (
        "BYTES",
        "INT64",
        "FP64",
        "BYTES",
    )


@pytest.mark.parametrize("binary_in", [True, False])
@pytest.mark.parametrize("binary_out", [True, False])
def test_a_picture_goes_in_and_comes_out_in_either_form(
    client: Any, binary_in: bool, binary_out: bool
) -> None:
    photo = SAMPLE.read_bytes()
    image = tensor("image", photo if binary_in else base64.b64encode(photo).decode(), binary=binary_in)
    trim = tensor("trim", True, datatype="BOOL", binary=binary_in)
    wanted = [triton.InferRequestedOutput("image", binary_data=binary_out)]
    answer = client.infer("remove-background", [image, trim], outputs=wanted, request_id="mine")
    (data,) = answer.as_numpy("image")
    cut = opened(data if binary_out else base64.b64decode(data))
    assert cut.mode == "RGBA"
    assert cut.width < Image.open(SAMPLE).width
    assert answer.get_response()["id"] == "mine"


def test_numbers_words_and_lists_are_tensors_or_parameters(client: Any) -> None:
    answer = client.infer(
        "text-to-image",
        [
            tensor("prompt", "a red circle on a blue background"),
            tensor("steps", 4, datatype="INT64"),
            tensor("guidance", 5.0, datatype="FP64"),
            tensor("loras", "[]"),
        ],
        parameters={"count": 2, "seed": 7},
    )
    pictures = answer.as_numpy("image")
    assert [opened(data).format for data in pictures] == ["PNG", "PNG"]
    assert answer.as_numpy("seed").tolist() == [7, 8]


def test_data_comes_as_json(client: Any) -> None:
    answer = client.infer(
        "caption", [tensor("image", SAMPLE.read_bytes()), tensor("phrases", 1, datatype="INT64")]
    )
    assert json.loads(answer.as_numpy("data")[0])["prompt"]


def test_a_kept_picture_is_named(client: Any, door: httpx.Client) -> None:
    kept = door.post("/v1/assets", content=SAMPLE.read_bytes(), headers={"content-type": "image/jpeg"}).json()
    answer = client.infer(
        "remove-background", [tensor("image", f"asset:{kept['id']}")], parameters={"output": "mask"}
    )
    assert opened(answer.as_numpy("image")[0]).mode == "L"


def test_a_mistake_is_told_in_the_protocols_form(client: Any, door: httpx.Client) -> None:
    for name, tensors, status, words in (
        ("nobody", [tensor("image", "x")], "404", "unknown model"),
        ("remove-background", [tensor("image", b"no picture")], "400", "picture"),
        ("remove-background", [tensor("imag", b"x")], "400", "Did you mean 'image'"),
        ("text-to-image", [tensor("prompt", "x"), tensor("steps", 900, datatype="INT64")], "400", "steps"),
        ("cleanup", [tensor("image", SAMPLE.read_bytes())], "400", "mask"),
    ):
        with pytest.raises(InferenceServerException) as caught:
            client.infer(name, tensors)
        assert caught.value.status() == status
        assert words in caught.value.message()
    with pytest.raises(InferenceServerException, match="unexpected inference output"):
        client.infer("caption", [tensor("image", "x")], outputs=[triton.InferRequestedOutput("nothing")])
    assert list(door.get("/v2/models/nobody").json()) == ["error"]
    assert door.get("/v2/repository/index").status_code == 404
    assert door.post("/v2/models/caption/infer", content=b"{").status_code == 400
    assert door.get("/v2/models/caption/infer").status_code == 405
    assert door.get("/v2/models/caption/versions/2/ready").status_code == 404
    packed = door.post("/v2/models/caption/infer", content=b"x", headers={"content-encoding": "gzip"})
    assert packed.status_code == 400


def test_a_timeout_in_microseconds_is_the_deadline(client: Any) -> None:
    with pytest.raises(InferenceServerException) as caught:
        client.infer(
            "text-to-image", [tensor("prompt", "x"), tensor("steps", 150, datatype="INT64")], timeout=1000
        )
    assert caught.value.status() == "504"


@pytest.mark.parametrize("count", [200, pytest.param(2000, marks=pytest.mark.slow)])
def test_nonsense_is_the_callers_mistake(door: httpx.Client, count: int) -> None:
    chance = random.Random(count)
    dot = io.BytesIO()
    Image.new("RGB", (16, 16)).save(dot, "PNG")
    picture = dot.getvalue()
    head: dict[str, Any] = {
        "id": "1",
        "parameters": {"binary_data_output": True, "priority": 5, "format": "png"},
        "inputs": [
            {
                "name": "image",
                "datatype": "BYTES",
                "shape": [1],
                "parameters": {"binary_data_size": len(picture) + 4},
            },
            {"name": "kind", "datatype": "BYTES", "shape": [1], "data": ["canny"]},
        ],
        "outputs": [{"name": "image", "parameters": {"binary_data": True}}],
    }
    statuses: Counter[int] = Counter()
    for _ in range(count):
        text = bytearray(json.dumps(head).encode())
        body = bytearray(len(picture).to_bytes(4, "little") + picture)
        for _ in range(chance.choice((0, 1, 2, 8))):
            part = chance.choice((text, body))
            at = chance.randrange(len(part))
            match chance.randrange(4):
                case 0:
                    part[at] ^= 1 << chance.randrange(8)
                case 1:
                    del part[at : at + chance.randrange(1, 9)]
                case 2:
                    part[at:at] = part[at : at + chance.randrange(1, 9)]
                case 3:
                    part[at:at] = chance.choice(
                        (b"null", b"-1", b"[", b"{}", b'"', b"1e999", b"\x00", b"[[[[1]]]]")
                    )
        length = chance.choice((str(len(text)),) * 8 + ("", "-1", "99999999999", "1", str(len(text) + 9)))
        headers = {HEAD: length} if chance.random() < 0.95 else {}
        answer = door.post("/v2/models/preprocess/infer", content=bytes(text + body), headers=headers)
        statuses[answer.status_code] += 1
        assert answer.status_code == 200 or list(answer.json()) == ["error"]
        assert "Traceback" not in answer.text
    assert not statuses.keys() - {200, 400, 404, 413}, statuses
    assert statuses[400] > count / 4
    assert statuses[200] > count / 20


def test_the_documentations_example_works_as_it_stands(stack: Any, tmp_path: Path) -> None:
    root = Path(__file__).parents[3]
    page = (
        (root / "docs" / "doors.md")
        .read_text()
        .partition("## Open Inference Protocol")[2]
        .partition("\n## ")[0]
    )
    (example,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    (tmp_path / "docs").symlink_to(root / "docs")
    (tmp_path / "example.py").write_text(example.replace("127.0.0.1:8080", f"127.0.0.1:{stack.port}"))
    subprocess.run([sys.executable, "example.py"], cwd=tmp_path, check=True, timeout=60)
    assert opened((tmp_path / "cut.png").read_bytes()).mode == "RGBA"


def test_the_metrics_name_the_door(client: Any, door: httpx.Client) -> None:
    client.infer("caption", [tensor("image", SAMPLE.read_bytes())], parameters={"phrases": 0})
    assert 'door="oip",operation="caption"' in door.get("/metrics").text
