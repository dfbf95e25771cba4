"""The parts of the Model Context Protocol's door: schemas for a model, pictures for its eyes, names, calls."""

from __future__ import annotations

import base64
import io
import json
import subprocess
import sys
from collections.abc import AsyncIterator, MutableMapping
from types import SimpleNamespace
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from PIL import Image

from gateway.desk import Made
from gateway.doors.mcp import tools
from gateway.doors.mcp.late import Late
from gateway.doors.mcp.running import Runnings
from gateway.doors.mcp.views import Viewer
from gateway.kept import Kept
from services.operations import OPERATIONS, ImageToImage

pytestmark = pytest.mark.anyio
ASSET = "ast_" + "0123456789abcdef0123456789"
BASE = "https://studio.example/base"


def made(image: Image.Image, kind: str = "PNG") -> Made:
    out = io.BytesIO()
    image.save(out, kind)
    return Made(Kept.of(out.getvalue()), Image.MIME[kind], *image.size, None, "picture", withheld=False)


def state(**services: list[dict[str, Any]]) -> Any:
    """As much of a gateway as a tool's description asks: what its services offer."""
    known = {name: SimpleNamespace(models=models) for name, models in services.items()}
    return SimpleNamespace(upstream=SimpleNamespace(status=lambda: known))


# ── tools ─────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", OPERATIONS)
def test_a_tools_schemas_are_json_schema_and_speak_of_what_exists_here(name: str) -> None:
    tool = tools.tool(state(), OPERATIONS[name])
    for schema in (tool.input_schema, tool.output_schema):
        assert schema is not None
        Draft202012Validator.check_schema(schema)
        assert schema["type"] == "object"
    told = json.dumps(tool.input_schema)
    assert "part:" not in told
    assert '"title"' not in told
    assert '"null"' not in told


def test_a_parameter_that_may_be_left_out_says_what_it_takes_and_what_it_is_for() -> None:
    properties = tools.tool(state(), ImageToImage).input_schema["properties"]
    assert list(properties)[:2] == ["prompt", "image"]
    assert properties["width"]["type"] == "integer"
    assert properties["width"]["multipleOf"] == 8
    assert properties["reference"]["type"] == "string"
    assert properties["reference"]["description"].startswith("A picture whose look is taken over")
    assert "darkroom://assets/" in properties["reference"]["description"]
    assert "previews" not in properties


def test_only_operations_of_services_that_are_here_are_tools_and_models_are_named() -> None:
    here = state(
        sdxl=[{"name": "micro"}, {"name": "outlined", "kind": "lora"}, {"name": "x", "available": False}]
    )
    assert tools.here(here).keys() == {"text-to-image", "image-to-image", "inpaint"}
    properties = tools.tool(here, ImageToImage).input_schema["properties"]
    assert properties["model"]["description"].endswith("There are: micro.")
    assert properties["loras"]["description"].endswith("There are: outlined.")


@pytest.mark.parametrize(
    ("given", "field"),
    [
        (f"darkroom://assets/{ASSET}", f"asset:{ASSET}"),
        (ASSET, f"asset:{ASSET}"),
        (f"asset:{ASSET}", f"asset:{ASSET}"),
        (f"{BASE}/v1/assets/{ASSET}?expires=1&signature=0", f"asset:{ASSET}"),
        (f"{BASE}/v1/assets/{ASSET}", f"asset:{ASSET}"),
        (f"https://evil.example/v1/assets/{ASSET}", f"https://evil.example/v1/assets/{ASSET}"),
        (f"{BASE}.evil.example/v1/assets/{ASSET}", f"{BASE}.evil.example/v1/assets/{ASSET}"),
        (f"see {ASSET}", f"see {ASSET}"),
        (f"darkroom://assets/{ASSET}/..", f"darkroom://assets/{ASSET}/.."),
        ([{"image": ASSET, "weight": 1}], [{"image": f"asset:{ASSET}", "weight": 1}]),
        (7, 7),
    ],
)
def test_a_picture_of_ours_is_known_by_each_of_its_names(given: Any, field: Any) -> None:
    assert tools.fields({"image": given}, ImageToImage, BASE) == {"image": field, "previews": 0}


# ── pictures ──────────────────────────────────────────────────────────────────────────────────────────────────


async def test_sixteen_large_pictures_fit_into_one_event_of_the_official_client() -> None:
    noise = made(Image.effect_noise((1100, 600), 90).convert("RGB"))
    views = await Viewer().views([noise] * 16)
    assert sum(len(view.data) for view in views) < 900_000
    for view in views:
        image = Image.open(io.BytesIO(base64.b64decode(view.data)))
        assert image.size == (view.width, view.height)
        assert abs(view.width / view.height - 1100 / 600) < 0.05


async def test_a_small_picture_is_shown_as_it_is_and_a_large_one_keeps_its_transparency() -> None:
    small = made(Image.new("RGB", (64, 64), "red"))
    large = made(Image.new("RGBA", (2000, 500), (255, 0, 0, 0)))
    shown, scaled = await Viewer().views([small, large])
    assert base64.b64decode(shown.data) == small.data
    assert (scaled.width, scaled.height, scaled.media_type) == (1024, 256, "image/webp")
    image = Image.open(io.BytesIO(base64.b64decode(scaled.data)))
    assert image.getchannel("A").getextrema() == (0, 0)


@pytest.mark.parametrize("size", [0, 1, 2, 3, 4, 1000, 1001, 1002])
@pytest.mark.parametrize("piece", [1, 2, 7, 5000])
async def test_a_pictures_base64_that_comes_late_is_what_the_length_said(size: int, piece: int) -> None:
    data = bytes(at % 251 for at in range(size))

    async def pieces() -> AsyncIterator[bytes]:
        for at in range(0, size, piece):
            yield data[at : at + piece]

    sent: list[MutableMapping[str, Any]] = []

    async def send(message: MutableMapping[str, Any]) -> None:
        sent.append(message)

    late = Late(size, pieces())
    body = f'{{"blob":"{late.mark}"}}'.encode()
    start = {
        "type": "http.response.start",
        "status": 200,
        "headers": [(b"content-length", b"%d" % len(body))],
    }
    await late.send(start, send)
    await late.send({"type": "http.response.body", "body": body, "more_body": False}, send)
    whole = b"".join(message["body"] for message in sent[1:])
    assert sent[0]["headers"] == [(b"content-length", b"%d" % len(whole))]
    assert base64.b64decode(json.loads(whole)["blob"]) == data
    assert [message["more_body"] for message in sent[1:]] == [True] * (len(sent) - 2) + [False]


# ── calls ─────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_call_is_ended_by_its_id_as_text_or_number_and_only_in_its_session() -> None:
    runnings = Runnings()
    with runnings.call("mine", 7) as call, runnings.call("mine", "8") as other, runnings.call("", 7) as free:
        runnings.cancel("other", 7)
        runnings.cancel("", 7)
        runnings.cancel("mine", None)
        assert not call.scope.cancel_called
        runnings.cancel("mine", "7")
        assert call.scope.cancel_called
        assert not other.scope.cancel_called
        runnings.end("mine")
        assert other.scope.cancel_called
        assert not free.scope.cancel_called


async def test_an_id_that_is_used_again_is_the_later_calls() -> None:
    runnings = Runnings()
    with runnings.call("mine", 1), runnings.call("mine", 1) as later:
        runnings.cancel("mine", 1)
        assert later.scope.cancel_called
    runnings.end("mine")


async def test_a_cancellation_that_overtakes_its_call_ends_it_when_it_comes() -> None:
    runnings = Runnings()
    for number in range(300):
        runnings.cancel("mine", number)
    with runnings.call("mine", 299) as call, runnings.call("other", 298) as other:
        assert call.scope.cancel_called
        assert not other.scope.cancel_called
    with runnings.call("mine", 299) as again, runnings.call("mine", 0) as forgotten:
        assert not again.scope.cancel_called
        assert not forgotten.scope.cancel_called


def test_a_gateway_starts_without_the_protocols_package() -> None:
    """Whose import takes longer than all else that the gateway does at its start."""
    code = "import sys, gateway.app; print(sorted({'mcp', 'mcp_types', 'httpx2', 'sse_starlette'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
