"""The Model Context Protocol: its official client makes and edits pictures with the real services."""

from __future__ import annotations

import base64
import io
import json
import re
from pathlib import Path
from typing import Any

import httpx
import pytest
from mcp import MCPError
from mcp_types import ResourceLink
from PIL import Image

from tests.end_to_end.doors import mcp_asking, test_mcp_gateways, test_mcp_messages
from tests.end_to_end.doors.mcp_asking import circle, client, first, row, seen, text

ROOT = Path(__file__).parents[3]
SAMPLE = ROOT / "docs" / "samples" / "astronaut.jpg"
pytestmark = pytest.mark.anyio

SMALL: dict[str, Any] = {"prompt": "a red circle on a blue background", "steps": 3, "seed": 5}


@row("`tools/list`")
async def test_each_operation_that_is_here_is_a_tool_with_schemas_and_true_hints(stack: Any) -> None:
    with httpx.Client(base_url=stack.url) as http:
        operations = {one["name"]: one for one in http.get("/v1/operations").json()["operations"]}
    async with client(stack.url) as door:
        tools = {tool.name: tool for tool in (await door.list_tools()).tools}
    assert tools.keys() == operations.keys()
    for name, tool in tools.items():
        asked = operations[name]["params"]
        assert tool.input_schema.get("required") == asked.get("required"), name
        assert tool.input_schema["properties"].keys() == asked["properties"].keys() - {"previews"}, name
        assert tool.title and tool.description and operations[name]["summary"] in tool.description
        hints = tool.annotations
        assert hints is not None
        assert (hints.destructive_hint, hints.open_world_hint) == (False, True)
        assert hints.read_only_hint == hints.idempotent_hint == (name == "caption")
        assert tool.output_schema is not None
        assert {"pictures", "model", "data"} <= tool.output_schema["properties"].keys()
    for said in (
        tools["cleanup"].input_schema["properties"][name]["description"] for name in ("image", "mask")
    ):
        assert "darkroom://assets/" in said and "part:" not in said
    assert "micro" in tools["text-to-image"].input_schema["properties"]["model"]["description"]


@row("`tools/call`", "pictures in arguments", "pictures in answers")
async def test_an_agent_makes_a_picture_and_hands_it_from_tool_to_tool(stack: Any) -> None:
    async with client(stack.url) as door:
        made = await door.call_tool("text-to-image", SMALL)
        told = first(made)
        assert (told["width"], told["height"], told["seed"], told["role"]) == (128, 128, 5, "picture")
        assert made.structured_content["model"] == "micro"
        assert json.loads(text(made)) == made.structured_content
        assert seen(made).size == (128, 128)
        (link,) = [one for one in made.content if isinstance(one, ResourceLink)]
        assert (link.uri, link.mime_type, link.size) == (told["uri"], "image/png", told["bytes"])

        # by each of the names that the answer gives it
        for name in (told["uri"], told["url"], told["uri"].rpartition("/")[2]):
            assert seen(await door.call_tool("remove-background", {"image": name})).mode == "RGBA"
        again = await door.call_tool("image-to-image", SMALL | {"image": told["uri"], "strength": 0.5})
        assert first(again)["width"] == 128
        mask = circle("L", 128)
        painted = await door.call_tool("inpaint", SMALL | {"image": told["uri"], "mask": mask})
        assert seen(painted).getpixel((2, 2)) == seen(made).getpixel((2, 2))
        erased = await door.call_tool(
            "cleanup", {"image": told["uri"], "mask": f"data:image/png;base64,{mask}"}
        )
        assert seen(erased).getpixel((2, 2)) == seen(made).getpixel((2, 2))
        edges = await door.call_tool("preprocess", {"image": told["uri"], "kind": "canny"})
        controls = [{"image": first(edges)["uri"], "kind": "canny-map"}]
        led = await door.call_tool("control", SMALL | {"controls": controls})
        assert [one["role"] for one in led.structured_content["pictures"]] == ["picture", "map"]
        coloured = await door.call_tool("sketch-to-image", {"image": first(edges)["uri"]})
        assert seen(coloured).size == (128, 128)
        what = await door.call_tool("caption", {"image": told["uri"]})
        assert "caption" in what.structured_content["data"]
        assert what.structured_content["pictures"] == []


@row("`tools/call`")
async def test_a_portrait_of_a_photograph_that_came_as_base64(stack: Any) -> None:
    photo = base64.b64encode(SAMPLE.read_bytes()).decode()
    async with client(stack.url, "legacy") as door:
        made = await door.call_tool("portrait", {"image": photo, "size": "avatar", "side": 256})
        assert seen(made).size == (256, 256)


@row("pictures in answers")
async def test_large_pictures_are_shown_small_and_kept_whole(stack: Any) -> None:
    noise = Image.effect_noise((1600, 1200), 90).convert("RGB")
    out = io.BytesIO()
    noise.save(out, "PNG")
    picture = base64.b64encode(out.getvalue()).decode()
    async with client(stack.url) as door:
        mask = circle("L", 1600, 1200)
        cleaned = await door.call_tool("cleanup", {"image": picture, "mask": mask, "model": "telea"})
        told, image = first(cleaned), seen(cleaned)
        assert (told["width"], told["height"]) == (1600, 1200)
        assert max(image.size) <= 1024
        assert told["shown"].startswith(f"scaled to {image.width}x{image.height}, ")
        # the official client takes no event of more than this
        assert len(cleaned.model_dump_json()) < 2**20
        whole = await door.read_resource(told["uri"])
        data = base64.b64decode(whole.contents[0].blob)  # type: ignore[union-attr]
        assert Image.open(io.BytesIO(data)).size == (1600, 1200)
        assert httpx.get(told["url"]).content == data
        cut = await door.call_tool("remove-background", {"image": circle(side=1100)})
        assert (seen(cut).mode, max(seen(cut).size)) == ("RGBA", 1024)


@row("`notifications/progress`")
@pytest.mark.parametrize("mode", ["legacy", "auto"])
async def test_progress_tells_each_step_and_their_number(stack: Any, mode: str) -> None:
    told: list[tuple[float, float | None, str | None]] = []

    async def hear(step: float, total: float | None, message: str | None) -> None:
        told.append((step, total, message))

    async with client(stack.url, mode) as door:
        assert first(await door.call_tool("text-to-image", SMALL, progress_callback=hear))
    assert told == [(step, 3, f"step {step} of 3") for step in (1, 2, 3)]


@row("`notifications/progress`")
async def test_progress_of_a_chain_only_grows(stack: Any) -> None:
    steps: list[float] = []

    async def hear(step: float, _total: float | None, _message: str | None) -> None:
        steps.append(step)

    photo = base64.b64encode(SAMPLE.read_bytes()).decode()
    async with client(stack.url) as door:
        style = {
            "image": photo,
            "side": 128,
            "style": "a red circle",
            "style_strength": 0.1,
            "cutter": "none",
        }
        assert first(await door.call_tool("portrait", style, progress_callback=hear))
    assert steps == sorted(set(steps))
    assert len(steps) > 2


@row("`prompts/list`, `prompts/get`")
async def test_prompts_name_tools_that_are_here(stack: Any) -> None:
    async with client(stack.url) as door:
        tools = {tool.name for tool in (await door.list_tools()).tools}
        for prompt in (await door.list_prompts()).prompts:
            given = {one.name: f"<{one.name}>" for one in prompt.arguments or [] if one.required}
            got = await door.get_prompt(prompt.name, given)
            words = got.messages[0].content.text  # type: ignore[union-attr]
            assert all(value in words for value in given.values())
            assert "$" not in words
            assert any(tool in words for tool in tools)
            with pytest.raises(MCPError, match="needs picture"):
                await door.get_prompt(prompt.name, {})
        with pytest.raises(MCPError, match="no prompt 'x'"):
            await door.get_prompt("x", {})


def test_no_row_of_the_table_is_without_a_test() -> None:
    page = (ROOT / "docs" / "doors.md").read_text()
    section = re.split(r"^## ", page.partition("\n## Model Context Protocol\n")[2], flags=re.MULTILINE)[0]
    table = [
        line.split(" | ")[0].removeprefix("| ") for line in section.splitlines() if line.startswith("| ")
    ]
    assert table[0] == "of the protocol"
    modules = (test_mcp_gateways, test_mcp_messages)  # which say with their import what they hold
    assert set(table[1:]) == mcp_asking.HELD, modules
