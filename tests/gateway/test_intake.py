"""From fields and files to a validated operation with its pictures found."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path
from typing import Annotated, Any, cast

import pytest
from PIL import Image
from pydantic import BaseModel, Field

from gateway.blobs import Blob, MemoryBlob
from gateway.callers import LOCAL
from gateway.forms import Form
from gateway.intake import Intake, draw_seed, validated
from gateway.settings import Settings
from services.errors import BadInput, BadPicture, TooLarge
from services.operations import Cleanup, Operation, Preprocess, RemoveBackground, TextToImage

pytestmark = pytest.mark.anyio


def png(width: int = 8, height: int = 8) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (width, height), "red").save(out, "PNG")
    return out.getvalue()


def form(fields: dict[str, Any] | None = None, *, text: bool = True, **files: bytes) -> Form:
    blobs: dict[str, Blob] = {name: MemoryBlob(data) for name, data in files.items()}
    return Form(fields=fields or {}, files=blobs, text=text)


@pytest.fixture
def intake(tmp_path: Path) -> Intake:
    return Intake(Settings(data=tmp_path, max_pixels=1_000_000, max_side=2000), cast(Any, None), tmp_path)


async def received(
    intake: Intake, operation: type[Operation], given: Form
) -> tuple[Operation, dict[str, Blob]]:
    return await intake.receive(operation, given, LOCAL)


async def test_file_parts_become_the_fields_of_their_name(intake: Intake) -> None:
    ask, parts = await received(intake, Cleanup, form(image=png(), mask=png()))
    assert {path: picture.ref for path, picture in ask.pictures().items()} == {
        "image": "part:image",
        "mask": "part:mask",
    }
    assert parts["image"].media_type == "image/png"


async def test_text_fields_take_the_type_of_their_parameter(intake: Intake) -> None:
    ask, _ = await received(
        intake, RemoveBackground, form({"trim": "true", "background": "#fff", "quality": "7"}, image=png())
    )
    assert isinstance(ask, RemoveBackground)
    assert (ask.trim, ask.background, ask.quality) == (True, "#fff", 7)


async def test_lists_in_a_form_are_json_and_may_name_parts(intake: Intake) -> None:
    fields = {"prompt": "a pose", "controls": '[{"image": "part:pose", "kind": "openpose"}]', "seed": ""}
    ask, parts = await received(intake, TextToImage, form(fields, pose=png()))
    assert ask.performed_by() == "controlnet"
    assert set(parts) == {"controls.0.image"}
    assert ask.pictures()["controls.0.image"].ref == "part:controls.0.image"


@pytest.mark.parametrize(
    "ref",
    [base64.b64encode(png(64, 64)).decode(), "data:image/png;base64," + base64.b64encode(png(9, 9)).decode()],
)
async def test_base64_and_data_uris_are_pictures_too(intake: Intake, ref: str) -> None:
    _, parts = await received(intake, RemoveBackground, form({"image": ref}, text=False))
    assert (await parts["image"].head(4)) == b"\x89PNG"


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"imagee": "x"}, "imagee"),
        ({"quality": "101"}, "quality"),
        ({"quality": "NaN"}, "quality"),
        ({"output": "gif"}, "output"),
        ({"background": "nocolour"}, "background"),
        ({"image": "part:nothing"}, "image"),
        ({"image": "asset"}, "image"),
    ],
)
async def test_a_mistake_names_its_field(intake: Intake, fields: dict[str, str], field: str) -> None:
    files = {} if "image" in fields else {"image": png()}
    with pytest.raises(BadInput) as caught:
        await received(intake, RemoveBackground, form(fields, **files))
    assert (caught.value.field or "").startswith(field)


async def test_a_misspelt_parameter_is_answered_with_the_right_one(intake: Intake) -> None:
    with pytest.raises(BadInput, match="Did you mean 'background'"):
        await received(intake, RemoveBackground, form({"backgroud": "white"}, image=png()))


async def test_a_file_that_nothing_refers_to_is_refused(intake: Intake) -> None:
    with pytest.raises(BadInput, match="part:photo"):
        await received(intake, RemoveBackground, form({}, image=png(), photo=png()))


@pytest.mark.parametrize(
    "data", [b"", b"GIF", b"<svg/>", b"\x89PNG\r\n\x1a\n", b"%PDF-1.7" * 20, b"\x00" * 300]
)
async def test_what_is_no_picture_is_refused_with_its_field(intake: Intake, data: bytes) -> None:
    with pytest.raises(BadPicture) as caught:
        await received(intake, RemoveBackground, form(image=data))
    assert caught.value.field == "image"


async def test_a_picture_over_the_limits_is_refused_from_its_head_alone(intake: Intake) -> None:
    bomb = bytearray(png(2, 2))
    bomb[16:24] = (60_000).to_bytes(4) + (60_000).to_bytes(4)
    with pytest.raises(TooLarge, match="60000x60000"):
        await received(intake, RemoveBackground, form(image=bytes(bomb)))


async def test_a_seed_is_drawn_only_where_none_was_given() -> None:
    drawn = validated(TextToImage, form({"prompt": "x"}), {})
    draw_seed(drawn)
    given = validated(TextToImage, form({"prompt": "x", "seed": "7"}), {})
    draw_seed(given)
    assert isinstance(drawn, TextToImage)
    assert isinstance(given, TextToImage)
    assert drawn.seed is not None
    assert given.seed == 7


POSE = json.dumps({"people": [{"body": [[1.0, 2.0, 0.9]] * 18}]})


class Corner(BaseModel):
    x: int


class Varied(Operation):
    """An operation of no service: every way in which a parameter can have a structure."""

    nested: Corner = Corner(x=0)
    maybe: list[Corner] | None = None
    pair: tuple[int, int] = (0, 0)
    table: dict[str, int] | None = None
    mixed: str | list[int] = "word"
    deep: Annotated[Annotated[Corner, Field()] | None, Field()] = None


async def test_an_optional_object_in_a_form_is_json(intake: Intake) -> None:
    ask, _ = await received(intake, Preprocess, form({"kind": "openpose", "keypoints": POSE}))
    assert isinstance(ask, Preprocess)
    assert ask.keypoints is not None
    assert len(ask.keypoints.people) == 1


def test_whatever_has_a_structure_is_json_in_a_form() -> None:
    texts = {
        "nested": '{"x": 1}',
        "maybe": '[{"x": 2}]',
        "pair": "[3, 4]",
        "table": '{"a": 5}',
        "deep": '{"x": 6}',
    }
    ask = validated(Varied, form({**texts, "mixed": "[7]"}), {})
    assert ask.model_dump(exclude={"model"}) == {
        "nested": {"x": 1}, "maybe": [{"x": 2}], "pair": (3, 4), "table": {"a": 5}, "mixed": [7], "deep": {"x": 6},
    }  # fmt: skip
    assert validated(Varied, form({"mixed": "a word"}), {}).model_dump()["mixed"] == "a word"
    for name in texts:
        with pytest.raises(BadInput, match=f"{name} must be JSON text"):
            validated(Varied, form({name: "oops"}), {})


@pytest.mark.parametrize(
    ("operation", "fields", "field"),
    [
        (Preprocess, {"kind": "openpose"}, "image"),
        (Preprocess, {"keypoints": POSE, "low": "9", "high": "1"}, "low"),
        (TextToImage, {"prompt": "x", "controls": '[{"kind": "canny"}]'}, "controls.0.image"),
        (TextToImage, {"prompt": "x", "loras": "[{}]"}, "loras.0.name"),
        (TextToImage, {"prompt": "x", "seed": "9007199254740991", "count": "2"}, "seed"),
        (TextToImage, {"prompt": "x", "guidance": "nan"}, "guidance"),
    ],
)
def test_parameters_that_do_not_fit_together_name_one_to_change(
    operation: type[Operation], fields: dict[str, str], field: str
) -> None:
    with pytest.raises(BadInput) as caught:
        validated(operation, form(fields), {})
    assert caught.value.field == field
    assert caught.value.extra["errors"][0]["field"] == field
    assert caught.value.detail.startswith(f"{field}: ")


def test_the_last_seed_of_all_can_be_asked_for() -> None:
    ask = validated(TextToImage, form({"prompt": "x", "seed": "9007199254740990", "count": "2"}), {})
    assert isinstance(ask, TextToImage)
    assert ask.seed == 2**53 - 2
