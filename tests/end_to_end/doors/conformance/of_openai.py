"""OpenAI's Images, as its official client asks."""

from __future__ import annotations

import base64
from typing import Any

import httpx
import openai

from tests.end_to_end.doors.conformance.checks import (
    SIDE,
    House,
    Table,
    hole,
    opened,
    pixels,
    png,
    red,
    scene,
)

PAINT: dict[str, Any] = {"prompt": "a red circle on a blue background", "size": "64x64", "quality": "low"}
GREEN = "a green circle on a blue background"


def client(house: House) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{house.stack.url}/v1", api_key="none", max_retries=0)


def generated(house: House, more: dict[str, Any]) -> Any:
    """The answer, whole; `more` is sent as it stands, since the client checks nothing."""
    return client(house).images.generate(**PAINT, extra_body=more)


def asked(house: House, **more: Any) -> httpx.Response:
    return house.http.post("/v1/images/generations", json=PAINT | more)


def shown(answer: Any) -> Any:
    return opened(answer.data[0].b64_json)


def edit(house: House, files: list[tuple[str, bytes]], **fields: str) -> httpx.Response:
    parts = [(name, (f"{name}.png", data, "image/png")) for name, data in files]
    return house.http.post(
        "/v1/images/edits", files=parts, data={"prompt": GREEN, "quality": "low", **fields}
    )


def clear() -> bytes:
    """Opaque but for a hole."""
    mask = scene().convert("RGBA")
    mask.putalpha(hole().point(lambda level: 255 - level))
    return png(mask)


# ── endpoints ─────────────────────────────────────────────────────────────────────────────────────────────────

endpoints = Table("of OpenAI's endpoints")


@endpoints.works("POST /v1/images/generations")
def _(house: House) -> None:
    assert shown(generated(house, {})).size == (64, 64)


@endpoints.works("POST /v1/images/edits")
def _(house: House) -> None:
    before = scene()
    made = client(house).images.edit(
        image=("a.png", png(before)), mask=("m.png", clear()), prompt=GREEN, quality="low"
    )
    after, kept = shown(made), pixels(hole())[..., 0] == 0
    assert (pixels(after)[kept] == pixels(before)[kept]).all()
    assert red(after) < red(before)


@endpoints.works("POST /v1/images/variations")
def _(house: House) -> None:
    answer = house.http.post(
        "/v1/images/variations",
        files={"image": ("a.png", png(scene()), "image/png")},
        data={"response_format": "b64_json"},
    )
    made = opened(answer.json()["data"][0]["b64_json"])
    assert made.size == (SIDE, SIDE)
    assert (pixels(made) != pixels(scene())).any()


@endpoints.works("GET /v1/models", "GET /v1/models/{model}")
def _(house: House) -> None:
    one = client(house).models.retrieve("micro")
    assert (one.id, one.owned_by) in [(each.id, each.owned_by) for each in client(house).models.list()]
    assert house.http.get("/v1/models/nobody/x").status_code == 404


@endpoints.refused("DELETE /v1/models/{model}")
def _(house: House) -> httpx.Response:
    return house.http.delete("/v1/models/micro")


@endpoints.refused("POST /v1/images/upscales")
def _(house: House) -> httpx.Response:
    return in_its_form(house.http.post("/v1/images/upscales", json={}))


@endpoints.refused("POST /v1/chat/completions", "POST /v1/responses", "POST /v1/embeddings", "GET /v1/files")
def _(house: House) -> httpx.Response:
    for path in ("/v1/chat/completions", "/v1/responses", "/v1/embeddings"):
        assert in_its_form(house.http.post(path, json={})).status_code == 404
    return in_its_form(house.http.get("/v1/files"))


# ── a picture ─────────────────────────────────────────────────────────────────────────────────────────────────

picture = Table("of a picture at OpenAI")


def in_its_form(answer: httpx.Response) -> httpx.Response:
    assert set(answer.json()["error"]) == {"message", "type", "param", "code"}, answer.text
    return answer


def stable(house: House, more: dict[str, Any]) -> Any:
    """What is told of a picture, whose pixels are another each time: there is no seed at OpenAI."""
    answer = in_whole(asked(house, **more))
    about = {key: value for key, value in answer.items() if key not in ("created", "data")}
    return about, [set(one) for one in answer["data"]], opened(answer["data"][0]["b64_json"]).size


def in_whole(answer: httpx.Response) -> dict[str, Any]:
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


@picture.works("prompt", slow=True)
def _(house: House) -> None:
    whole = {"size": "128x128", "quality": "medium"}
    assert red(shown(generated(house, whole))) > 200
    assert red(shown(generated(house, whole | {"prompt": GREEN}))) < 100
    long = asked(house, prompt="x" * 10_001)
    assert (long.status_code, long.json()["error"]["param"]) == (400, "prompt")


@picture.works("model")
def _(house: House) -> None:
    for name in ("gpt-image-2", "micro"):
        assert asked(house, model=name).status_code == 200
    unknown = asked(house, model="of-nobody")
    assert (unknown.status_code, unknown.json()["error"]["code"]) == (404, "model_not_found")


@picture.works("n")
def _(house: House) -> None:
    assert len(in_whole(asked(house, n=3))["data"]) == 3
    assert [asked(house, n=n).status_code for n in (0, 11)] == [400, 400]


@picture.works("size")
def _(house: House) -> None:
    assert in_whole(asked(house, size="96x64"))["size"] == "96x64"
    told = in_whole(asked(house, size="1024x512"))
    width, height = map(int, told["size"].split("x"))
    assert opened(told["data"][0]["b64_json"]).size == (width, height)
    assert abs(width / height - 2) < 0.3


@picture.works("quality", slow=True)
def _(house: House) -> None:
    from services.origin.infotext import read_parameters

    taken = [
        int(read_parameters(shown(generated(house, {"quality": name})).info["parameters"]).fields["Steps"])
        for name in ("low", "medium", "high")
    ]
    assert taken[0] * 2 == taken[1]
    assert taken[2] == round(taken[1] * 1.6)


@picture.works("response_format")
def _(house: House) -> None:
    answer = in_whole(asked(house, response_format="url"))
    link = answer["data"][0]["url"]
    assert opened(httpx.get(link).content).size == (64, 64)
    assert list(in_whole(asked(house, model="dall-e-3"))["data"][0]) == ["url"]


@picture.works("output_format", "output_compression", slow=True)
def _(house: House) -> None:
    sizes = []
    for compression in (10, 95):
        told = in_whole(asked(house, output_format="jpeg", output_compression=compression))
        assert opened(told["data"][0]["b64_json"]).format == "JPEG"
        sizes.append(len(told["data"][0]["b64_json"]))
    assert sizes[0] < sizes[1]
    assert opened(in_whole(asked(house, output_format="webp"))["data"][0]["b64_json"]).format == "WEBP"


@picture.refused("output_format: gif", "output_format: svg")
def _(house: House) -> httpx.Response:
    assert asked(house, output_format="svg").status_code == 400
    return in_its_form(asked(house, output_format="gif"))


@picture.works("background")
def _(house: House) -> None:
    told = in_whole(asked(house, background="transparent"))
    assert (told["background"], opened(told["data"][0]["b64_json"]).mode) == ("transparent", "RGBA")


@picture.refused("background: transparent, output_format: jpeg")
def _(house: House) -> httpx.Response:
    return in_its_form(asked(house, background="transparent", output_format="jpeg"))


@picture.works("stream", "partial_images")
def _(house: House) -> None:
    events = list(
        client(house).images.generate(
            stream=True, partial_images=1, **PAINT | {"size": "64x64", "quality": "medium"}
        )
    )
    assert [event.type.rpartition(".")[2] for event in events] == ["partial_image", "completed"]
    assert opened(events[0].b64_json).format == "JPEG"


picture.ignored(
    stable,
    frame_count=4,
    frame_duration_ms=90,
    svg={"reasoning": {"effort": "low"}},
    complexity="high",
    moderation="low",
    style="natural",
    user="me",
    safety_identifier="me",
)

# ── an edit ───────────────────────────────────────────────────────────────────────────────────────────────────

edits = Table("of an edit at OpenAI")


@edits.works("image", slow=True)
def _(house: House) -> None:
    other = scene().rotate(90)
    for files in ([("image", png(scene()))], [("image[]", png(scene())), ("image[]", png(other))]):
        assert opened(in_whole(edit(house, files))["data"][0]["b64_json"]).size == (SIDE, SIDE)


@edits.refused("image: three pictures")
def _(house: House) -> httpx.Response:
    return in_its_form(edit(house, [("image[]", png(scene()))] * 3))


@edits.works("mask")
def _(house: House) -> None:
    after = opened(in_whole(edit(house, [("image", png(scene())), ("mask", clear())]))["data"][0]["b64_json"])
    kept = pixels(hole())[..., 0] == 0
    assert (pixels(after)[kept] == pixels(scene())[kept]).all()
    whole = edit(house, [("image", png(scene())), ("mask", png(scene()))])
    assert (whole.status_code, whole.json()["error"]["param"]) == (400, "mask")


@edits.works("input_fidelity", slow=True)
def _(house: House) -> None:
    def strayed(fidelity: str) -> float:
        told = in_whole(edit(house, [("image", png(scene()))], input_fidelity=fidelity, n="2"))
        found = [pixels(opened(one["b64_json"])) for one in told["data"]]
        return float(sum(abs(one - pixels(scene())).mean() for one in found))

    assert strayed("high") < strayed("low")


@edits.refused("markup")
def _(house: House) -> httpx.Response:
    refusal = in_its_form(edit(house, [("image", png(scene())), ("markup", png(scene()))]))
    assert refusal.json()["error"]["param"] == "markup"
    return refusal


# ── answers ───────────────────────────────────────────────────────────────────────────────────────────────────

answers = Table("of OpenAI's answers")


@answers.works("created", "data", "b64_json", "url", "background", "output_format", "quality", "size")
def _(house: House) -> None:
    told = in_whole(asked(house, output_format="webp"))
    assert told["created"] > 1_700_000_000
    assert base64.b64decode(told["data"][0]["b64_json"], validate=True)[8:12] == b"WEBP"
    about = {name: told[name] for name in ("background", "output_format", "quality", "size")}
    assert about == {"background": "opaque", "output_format": "webp", "quality": "low", "size": "64x64"}
    assert "url" not in told["data"][0]
    assert in_whole(asked(house, response_format="url"))["data"][0]["url"].startswith(house.stack.url)


@answers.unheeded("revised_prompt")
def _(house: House) -> None:
    assert generated(house, {}).data[0].revised_prompt is None


@answers.works("usage")
def _(house: House) -> None:
    used = generated(house, {"n": 2}).usage
    assert used is not None
    assert (used.input_tokens, used.output_tokens) == (-(-len(PAINT["prompt"]) // 4), 2 * 2 * 2)
    assert used.total_tokens == used.input_tokens + used.output_tokens


@answers.works("error")
def _(house: House) -> None:
    refusal = in_its_form(asked(house, quality="best"))
    assert refusal.status_code == 400
    assert refusal.json()["error"]["param"] == "quality"
    assert refusal.json()["error"]["type"] == "invalid_request_error"
    for path in ("models", "models/micro", "chat/completions"):
        wrong = httpx.get(f"{house.strict.url}/v1/{path}", headers={"authorization": "Bearer wrong"})
        assert (wrong.status_code, in_its_form(wrong).json()["error"]["code"]) == (401, "invalid_api_key")
