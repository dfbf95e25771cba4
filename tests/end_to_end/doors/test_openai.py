"""OpenAI's Images, asked by OpenAI's own Python SDK."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from PIL import Image, ImageDraw

SAMPLE = Path(__file__).parents[3] / "docs" / "samples" / "astronaut.jpg"
ASK: dict[str, Any] = {"prompt": "a red circle on a blue background", "quality": "low"}


@pytest.fixture(scope="module")
def client(stack: Any) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(
        base_url=f"{stack.url}/v1", api_key="none is needed", max_retries=0, timeout=120
    ) as made:
        yield made


def opened(text: str | None) -> Image.Image:
    assert text is not None
    return Image.open(io.BytesIO(base64.b64decode(text)))


def file_of(image: Image.Image) -> io.BytesIO:
    out = io.BytesIO()
    image.save(out, "PNG")
    out.seek(0)
    out.name = "picture.png"
    return out


def scene(mode: str = "RGB") -> Image.Image:
    image = Image.new(mode, (128, 128), (20, 60, 200) if mode == "RGB" else (20, 60, 200, 255))
    ImageDraw.Draw(image).ellipse((40, 40, 90, 90), fill="red")
    return image


def red(image: Image.Image) -> int:
    return sum(1 for r, g, b in image.convert("RGB").get_flattened_data() if r > 150 and g < 110 and b < 110)


def test_a_prompt_becomes_a_picture_that_obeys_it(client: openai.OpenAI) -> None:
    answer = client.images.generate(model="gpt-image-1", **ASK)
    picture = opened((answer.data or [])[0].b64_json)
    assert answer.size == f"{picture.width}x{picture.height}"
    assert (answer.output_format, answer.background) == ("png", "opaque")
    assert (
        answer.usage is not None
        and answer.usage.total_tokens == answer.usage.input_tokens + answer.usage.output_tokens
    )
    assert red(picture) > 200


def test_several_pictures_differ(client: openai.OpenAI) -> None:
    answer = client.images.generate(n=3, **ASK)
    assert len({one.b64_json for one in answer.data or []}) == 3


@pytest.mark.parametrize(
    ("size", "shape"), [("1024x1024", 1.0), ("1536x1024", 1.5), ("1024x1792", 1024 / 1792)]
)
def test_a_size_too_large_for_the_model_keeps_its_shape_and_says_its_pixels(
    client: openai.OpenAI, size: Any, shape: float
) -> None:
    answer = client.images.generate(
        model="dall-e-3", size=size, response_format="b64_json", **ASK | {"quality": "standard"}
    )
    picture = opened((answer.data or [])[0].b64_json)
    assert picture.width / picture.height == pytest.approx(shape, rel=0.12)
    assert answer.size == f"{picture.width}x{picture.height}"


@pytest.mark.parametrize("kind", ["png", "jpeg", "webp"])
def test_each_file_format(client: openai.OpenAI, kind: Any) -> None:
    answer = client.images.generate(output_format=kind, output_compression=60, **ASK)
    assert opened((answer.data or [])[0].b64_json).format == kind.upper()


def test_a_link_shows_the_picture_to_whoever_has_it(client: openai.OpenAI) -> None:
    answer = client.images.generate(model="dall-e-2", response_format="url", **ASK)
    url = (answer.data or [])[0].url
    assert url is not None
    shown = httpx.get(url)
    assert (shown.status_code, shown.headers["content-type"]) == (200, "image/png")


def test_a_transparent_background(client: openai.OpenAI) -> None:
    answer = client.images.generate(background="transparent", **ASK)
    assert opened((answer.data or [])[0].b64_json).mode == "RGBA"
    assert answer.background == "transparent"


def test_a_stream_shows_partial_pictures_and_then_the_whole(client: openai.OpenAI) -> None:
    events = list(client.images.generate(stream=True, partial_images=2, **ASK))
    kinds = [event.type for event in events]
    assert kinds == ["image_generation.partial_image"] * 2 + ["image_generation.completed"]
    assert opened(events[-1].b64_json).format == "PNG"
    assert events[-1].usage is not None


def test_an_edit_paints_where_the_mask_is_clear_and_nowhere_else(client: openai.OpenAI) -> None:
    before = scene()
    hole = Image.new("RGBA", before.size, (0, 0, 0, 255))
    ImageDraw.Draw(hole).rectangle((30, 30, 100, 100), fill=(0, 0, 0, 0))
    answer = client.images.edit(
        image=file_of(before), mask=file_of(hole), prompt="a green circle on a blue background"
    )
    after = opened((answer.data or [])[0].b64_json).convert("RGB")
    assert after.size == before.size
    assert after.crop((0, 0, 128, 30)).tobytes() == before.crop((0, 0, 128, 30)).tobytes()
    assert red(after) < red(before) / 2


def test_a_picture_that_is_clear_somewhere_is_its_own_mask(client: openai.OpenAI) -> None:
    before = scene("RGBA")
    ImageDraw.Draw(before).rectangle((30, 30, 100, 100), fill=(0, 0, 0, 0))
    answer = client.images.edit(image=file_of(before), prompt="a red circle on a blue background")
    after = opened((answer.data or [])[0].b64_json).convert("RGB")
    assert after.getpixel((5, 5)) == (20, 60, 200)


def test_without_a_mask_the_whole_picture_is_changed_and_a_second_one_lends_its_look(
    client: openai.OpenAI,
) -> None:
    answer = client.images.edit(
        image=[file_of(scene()), file_of(scene())], prompt="a green square on a white background"
    )
    assert opened((answer.data or [])[0].b64_json).size == (128, 128)
    with pytest.raises(openai.BadRequestError) as refused:
        client.images.edit(image=[file_of(scene())] * 3, prompt="a green square")
    assert refused.value.param == "image"


def test_variations(client: openai.OpenAI) -> None:
    with pytest.deprecated_call():
        answer = client.images.create_variation(image=file_of(scene()), n=2, response_format="b64_json")
    assert len({one.b64_json for one in answer.data or []}) == 2


def test_the_models_are_listed(client: openai.OpenAI) -> None:
    assert {"micro", "telea"} <= {model.id for model in client.models.list()}


@pytest.mark.parametrize(
    ("asked", "param"),
    [
        ({"prompt": "x", "n": 11}, "n"),
        ({"prompt": "x", "n": 0}, "n"),
        ({"prompt": "x", "size": "large"}, "size"),
        ({"prompt": "x", "quality": "best"}, "quality"),
        ({"prompt": "x", "output_format": "gif"}, "output_format"),
        ({"prompt": "x", "background": "transparent", "output_format": "jpeg"}, "background"),
        ({"prompt": "x" * 30_001}, "prompt"),
        ({"prompt": "x", "output_compression": 101}, "output_compression"),
    ],
)
def test_a_mistake_is_a_bad_request_that_names_the_parameter(
    client: openai.OpenAI, asked: dict[str, Any], param: str
) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        client.images.generate(**asked)
    assert refused.value.param == param
    assert refused.value.type == "invalid_request_error"


def test_a_model_that_is_not_here_is_not_found(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as refused:
        client.images.generate(model="sdxl-of-nobody", prompt="x")
    assert refused.value.code == "model_not_found"


def test_a_refusal_of_a_stream_keeps_its_status(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError):
        client.images.generate(model="sdxl-of-nobody", prompt="x", stream=True)


def test_what_is_no_picture_or_no_mask_is_refused(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        client.images.edit(image=("a.png", b"no picture"), prompt="x")
    assert refused.value.param == "image"
    with pytest.raises(openai.BadRequestError) as opaque:
        client.images.edit(image=file_of(scene()), mask=file_of(scene()), prompt="x")
    assert opaque.value.param == "mask"


@pytest.mark.parametrize("as_text", [True, False])
def test_what_is_drawn_on_a_picture_is_refused_as_a_file_and_as_text(stack: Any, as_text: bool) -> None:
    picture = ("a.png", file_of(scene()), "image/png")
    files = {"image": picture} if as_text else {"image": picture, "markup": picture}
    fields = {"prompt": "a green circle"} | ({"markup": "a circle here"} if as_text else {})
    refused = httpx.post(f"{stack.url}/v1/images/edits", files=files, data=fields, timeout=60)
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "markup"), refused.text


def test_what_a_client_of_models_is_refused_is_a_sentence_to_it_and_a_problem_to_ours(
    client: openai.OpenAI, stack: Any
) -> None:
    with pytest.raises(openai.NotFoundError, match="There is no model 'nobody'") as missing:
        client.models.retrieve("nobody")
    assert (missing.value.code, missing.value.type) == ("model_not_found", "invalid_request_error")
    with pytest.raises(openai.APIStatusError) as kept:
        client.models.delete("micro")
    assert (kept.value.status_code, kept.value.code) == (405, "method_not_allowed")
    problem = httpx.get(f"{stack.url}/v1/models/nobody")
    assert problem.headers["content-type"] == "application/problem+json"
    assert problem.json()["type"] == "urn:darkroom:problem:not-found"
    assert "error" not in httpx.get(f"{stack.url}/v1/operations/nobody").json()


def test_what_openai_has_beside_pictures_is_refused_with_what_is_here(client: openai.OpenAI) -> None:
    calls: list[Callable[[], Any]] = [
        lambda: client.chat.completions.create(model="x", messages=[{"role": "user", "content": "x"}]),
        lambda: client.completions.create(model="x", prompt="x"),
        lambda: client.embeddings.create(model="x", input="x"),
        lambda: client.responses.create(model="x", input="x"),
        lambda: client.audio.speech.create(model="x", voice="alloy", input="x"),
        lambda: client.files.list(),
    ]
    for call in calls:
        with pytest.raises(openai.NotFoundError, match="/v1/images/generations") as refused:
            call()
        assert refused.value.code == "not_found"


def test_an_unknown_path_of_the_family_is_told_in_its_form(stack: Any) -> None:
    refused = httpx.post(f"{stack.url}/v1/images/upscales", json={})
    assert refused.status_code == 404
    assert set(refused.json()["error"]) == {"message", "type", "param", "code"}
