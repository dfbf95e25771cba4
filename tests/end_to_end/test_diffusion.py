"""The operations of sdxl and controlnet over real HTTP, with the micro family's own weights.

What the pictures show is the micro family's own report; here it is whether each is made, as it was asked, and whether
what is asked wrongly is refused and leaves the services well.
"""

from __future__ import annotations

import base64
import io
import json
import resource
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil
import pytest
import torch
from PIL import Image, ImageDraw
from safetensors.torch import load_file, save

from services import micro as weights

SIDE = 64
BODY = [(32, 12), (32, 20), (25, 20), (22, 29), (20, 38), (39, 20), (42, 29), (44, 38), (28, 38)]
BODY += [(27, 48), (26, 58), (36, 38), (37, 48), (38, 58), (31, 10), (33, 10), (29, 11), (35, 11)]


@pytest.fixture
def http(stack: Any) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=stack.url, timeout=90) as client:
        yield client


@pytest.fixture
def service(stack: Any) -> Callable[[], dict[str, Any]]:
    """What the process behind sdxl and controlnet says of itself."""
    notes = {path.stem: json.loads(path.read_text()) for path in (stack.data / "run").glob("*.json")}
    address = next(note["address"] for name, note in notes.items() if "sdxl" in name)

    def describe() -> dict[str, Any]:
        described: dict[str, Any] = httpx.get(f"{address}/darkroom/v1/describe").json()
        return described

    return describe


def png(image: Image.Image) -> bytes:
    out = io.BytesIO()
    image.save(out, "PNG")
    return out.getvalue()


def opened(data: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(data))
    image.load()
    return image


def field_of_colours(width: int = SIDE, height: int = SIDE, seed: int = 0) -> Image.Image:
    small = np.random.default_rng(seed).integers(0, 255, (4, 4, 3), dtype=np.uint8)
    return Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC)


def disc(width: int = SIDE, height: int = SIDE) -> Image.Image:
    mask = Image.new("L", (width, height))
    ImageDraw.Draw(mask).ellipse((width // 4, height // 4, width * 3 // 4, height * 3 // 4), fill=255)
    return mask


def form(**fields: Any) -> dict[str, str]:
    return {name: value if isinstance(value, str) else json.dumps(value) for name, value in fields.items()}


def post(
    http: httpx.Client, operation: str, pictures: dict[str, Image.Image] | None = None, **fields: Any
) -> httpx.Response:
    """As a form, asking for the picture's own bytes."""
    asked = {"prompt": "a red circle on a blue background", "steps": 4, "seed": 7}
    if operation in ("text-to-image", "control"):
        asked |= {"width": SIDE, "height": SIDE}
    asked = fields if operation == "preprocess" else asked | fields
    parts: dict[str, Any] = {name: (None, value) for name, value in form(**asked).items()}
    parts |= {name: (f"{name}.png", png(image)) for name, image in (pictures or {}).items()}
    return http.post(f"/v1/{operation}", files=parts, headers={"accept": "image/png"})


def made(answer: httpx.Response) -> Image.Image:
    assert answer.status_code == 200, answer.text
    return opened(answer.content)


def refused(answer: httpx.Response, status: int = 422) -> str:
    """The field at fault."""
    assert answer.status_code == status, answer.text
    problem = answer.json()
    assert problem["help"]
    assert "Traceback" not in answer.text
    return str(problem.get("field"))


def difference(one: Image.Image, other: Image.Image) -> int:
    assert one.size == other.size
    return int(np.abs(np.asarray(one, np.int16) - np.asarray(other, np.int16)).max())


Event = tuple[str, dict[str, Any]]


def events(http: httpx.Client, operation: str, **fields: Any) -> Iterator[Event]:
    headers = {"accept": "text/event-stream"}
    with http.stream("POST", f"/v1/{operation}", json=fields, headers=headers) as answer:
        assert answer.status_code == 200, answer.read()
        kind = ""
        for line in answer.iter_lines():
            if line.startswith("event: "):
                kind = line.removeprefix("event: ")
            elif line.startswith("data: "):
                yield kind, json.loads(line.removeprefix("data: "))


def until(holds: Callable[[], bool], seconds: float = 10) -> float:
    """Seconds that it took."""
    began = time.monotonic()
    while not holds():
        assert time.monotonic() - began < seconds
        time.sleep(0.02)
    return time.monotonic() - began


def is_trained(name: str) -> bool:
    """A ControlNet's last layers are zero until it is trained: an untrained one changes nothing."""
    path = Path(weights.__path__[0]) / "weights" / name / "diffusion_pytorch_model.safetensors"
    return bool(load_file(path)["controlnet_mid_block.weight"].abs().max() > 0)


# ── every operation ───────────────────────────────────────────────────────────────────────────────────────────


def test_words_become_a_picture_and_the_same_one_again(http: httpx.Client) -> None:
    first = post(http, "text-to-image")
    image = made(first)
    assert (image.mode, image.size) == ("RGB", (SIDE, SIDE))
    assert np.asarray(image).std() > 1
    assert first.headers["x-darkroom-seed"] == "7"
    assert first.headers["x-darkroom-model"] == "micro"
    assert first.content == post(http, "text-to-image").content
    assert difference(image, made(post(http, "text-to-image", seed=8))) > 0
    assert made(post(http, "text-to-image", width=96, height=128, sampler="Euler a")).size == (96, 128)


def test_each_of_several_pictures_has_its_seed_and_is_the_one_that_the_seed_gives(http: httpx.Client) -> None:
    answer = http.post("/v1/text-to-image", json={"prompt": "a circle", "steps": 3, "seed": 40, "count": 3})
    assert answer.status_code == 200, answer.text
    pictures = answer.json()["pictures"]
    assert [picture["seed"] for picture in pictures] == [40, 41, 42]
    third = http.get(pictures[2]["url"]).content
    alone = http.post(
        "/v1/text-to-image",
        json={"prompt": "a circle", "steps": 3, "seed": 42},
        headers={"accept": "image/png"},
    )
    assert difference(opened(third), made(alone)) <= 1


def test_a_picture_says_how_it_was_made(http: httpx.Client) -> None:
    text = made(post(http, "text-to-image", negative_prompt="a cat")).info["parameters"]
    assert text.startswith("a red circle on a blue background\nNegative prompt: a cat\nSteps: 4, Sampler: ")
    assert "Seed: 7, Size: 64x64, Model: micro" in text


def test_a_picture_becomes_another_one_the_more_the_stronger(http: httpx.Client) -> None:
    before = field_of_colours(80, 64)
    kept = made(post(http, "image-to-image", {"image": before}, strength=0))
    assert kept.size == (80, 64)
    asked = {"width": 80, "height": 64, "steps": 10}
    changed = [
        np.abs(
            np.asarray(made(post(http, "image-to-image", {"image": before}, strength=s, **asked)), float)
            - before
        )
        for s in (0.0, 0.2, 0.9)
    ]
    assert changed[0].max() == 0
    assert 0 < changed[1].mean() < changed[2].mean()


@pytest.mark.parametrize("size", [(SIDE, SIDE), (150, 110)])
def test_inpainting_changes_what_the_mask_covers_and_not_a_bit_else(
    http: httpx.Client, size: tuple[int, int]
) -> None:
    before, mask = field_of_colours(*size), disc(*size)
    after = made(post(http, "inpaint", {"image": before, "mask": mask}))
    assert after.size == size
    changed = np.abs(np.asarray(after, np.int16) - np.asarray(before)).max(axis=2) > 0
    covered = np.asarray(mask) >= 128
    assert not changed[~covered].any()
    assert changed[covered].mean() > 0.5


@pytest.mark.parametrize("operation", ["control", "text-to-image", "image-to-image", "inpaint"])
def test_a_control_works_in_every_operation(http: httpx.Client, operation: str) -> None:
    pictures = {"edges": disc().convert("RGB")}
    if operation in ("image-to-image", "inpaint"):
        pictures["image"] = field_of_colours()
    if operation == "inpaint":
        pictures["mask"] = disc()
    control = {"image": "part:edges", "kind": "canny"}
    image = made(post(http, operation, pictures, controls=[control]))
    assert image.size == (SIDE, SIDE)
    without = made(post(http, operation, pictures, controls=[control | {"weight": 0.0}]))
    if is_trained("controlnet-canny"):
        assert difference(image, without) > 0


def test_control_shows_the_maps_that_it_followed(http: httpx.Client) -> None:
    pose = {"people": [{"body": [(x, y, 1) for x, y in BODY]}], "width": SIDE, "height": SIDE}
    controls = [
        {"image": base64.b64encode(png(disc().convert("RGB"))).decode(), "kind": "canny", "weight": 0.7},
        {"keypoints": pose, "kind": "openpose", "end": 0.5},
    ]
    answer = http.post(
        "/v1/control", json={"prompt": "a person", "steps": 3, "controls": controls, "count": 2}
    )
    assert answer.status_code == 200, answer.text
    shown = answer.json()["pictures"]
    assert [picture["role"] for picture in shown] == ["picture", "picture", "map", "map"]
    edges, pose_map = (opened(http.get(picture["url"]).content) for picture in shown[2:])
    lines = np.asarray(edges.convert("L")) > 127
    assert 20 < lines.sum() < 400
    colours = {tuple(colour) for colour in np.asarray(pose_map.convert("RGB")).reshape(-1, 3).tolist()}
    assert len(colours) > 10, "limbs and joints have colours of their own"


def test_preprocess_shows_the_map_alone(http: httpx.Client) -> None:
    edges = post(http, "preprocess", {"image": disc(120, 90).convert("RGB")}, kind="canny")
    assert made(edges).size == (120, 90)
    pose = {"people": [{"body": [(x, y, 1) for x, y in BODY]}], "width": SIDE, "height": SIDE}
    answer = http.post(
        "/v1/preprocess",
        json={"kind": "openpose", "keypoints": pose},
        headers={"accept": "application/json"},
    )
    assert answer.status_code == 200, answer.text
    document = answer.json()
    assert document["data"]["keypoints"]["people"][0]["body"][0][:2] == list(BODY[0])
    # what comes out goes in
    again = {"controls": [{"keypoints": document["data"]["keypoints"], "kind": "openpose"}]}
    assert http.post("/v1/control", json={"prompt": "", "steps": 2, **again}).status_code == 200


def test_a_reference_changes_the_picture(http: httpx.Client) -> None:
    plain = made(post(http, "text-to-image"))
    led = made(
        post(http, "text-to-image", {"reference": Image.new("RGB", (80, 80), "green")}, reference_scale=1)
    )
    assert difference(plain, led) > 0
    assert difference(plain, made(post(http, "text-to-image"))) == 0, "the next is as if it had not been"


# ── on the way ────────────────────────────────────────────────────────────────────────────────────────────────


def test_every_step_and_previews_are_streamed(http: httpx.Client) -> None:
    seen = list(
        events(http, "text-to-image", prompt="a circle", steps=20, previews=5, count=2, width=128, height=128)
    )
    kinds = [kind for kind, _ in seen]
    assert kinds[0] == "accepted"
    assert kinds[-1] == "done"
    assert kinds.count("result") == 2
    steps = [data["step"] for kind, data in seen if kind == "progress"]
    assert {data["total"] for kind, data in seen if kind == "progress"} == {40}
    assert steps == sorted(steps)
    assert len(steps) >= 10, "a slow reader may miss some, not most"
    previews = [data for kind, data in seen if kind == "preview"]
    assert previews
    shown = opened(base64.b64decode(previews[0]["picture"].partition(",")[2]))
    assert shown.format == "JPEG"
    assert shown.width == shown.height


def test_previews_are_not_made_for_who_wants_none(http: httpx.Client) -> None:
    assert "preview" not in [
        kind for kind, _ in events(http, "text-to-image", prompt="", steps=6, previews=0)
    ]


LONG = {"prompt": "a circle", "steps": 150, "count": 8, "width": 256, "height": 256}


def test_who_goes_away_ends_the_work_within_a_step(
    http: httpx.Client, service: Callable[[], dict[str, Any]]
) -> None:
    stream = events(http, "text-to-image", **LONG)
    while next(stream)[0] != "progress":
        pass
    assert service()["in_flight"] == 1
    stream.close()  # type: ignore[attr-defined]
    assert until(lambda: service()["in_flight"] == 0) < 6
    assert made(post(http, "text-to-image")).size == (SIDE, SIDE)


def test_a_cancelled_job_ends_within_a_step(
    http: httpx.Client, service: Callable[[], dict[str, Any]]
) -> None:
    job = http.post("/v1/jobs", json={"operation": "text-to-image", "params": LONG}).json()
    until(lambda: service()["in_flight"] == 1)
    assert http.delete(job["links"]["self"]).status_code < 300
    until(lambda: http.get(job["links"]["self"]).json()["state"] == "cancelled")
    assert until(lambda: service()["in_flight"] == 0) < 6


def test_a_deadline_ends_the_work_too(http: httpx.Client, service: Callable[[], dict[str, Any]]) -> None:
    answer = http.post("/v1/text-to-image", json=LONG, headers={"prefer": "wait=1"})
    assert answer.status_code in (202, 504), answer.text
    if answer.status_code == 202:
        http.delete(answer.json()["links"]["self"])
    until(lambda: service()["in_flight"] == 0)


def test_in_a_crowd_everyone_gets_what_is_theirs(http: httpx.Client) -> None:
    """Eight at once of every operation, then each again alone."""
    image, mask, edges = field_of_colours(), disc(), disc().convert("RGB")
    canny = [{"image": "part:edges", "kind": "canny"}]
    asked: list[tuple[str, dict[str, Image.Image], dict[str, Any]]] = [
        ("text-to-image", {}, {"seed": 1, "steps": 12}),
        ("text-to-image", {}, {"seed": 2, "steps": 5, "sampler": "euler-a", "guidance": 1.0}),
        ("text-to-image", {}, {"seed": 3, "steps": 9, "width": 128, "height": 96}),
        ("image-to-image", {"image": image}, {"seed": 4, "steps": 10}),
        ("inpaint", {"image": image, "mask": mask}, {"seed": 5, "steps": 8}),
        ("control", {"edges": edges}, {"seed": 6, "steps": 7, "controls": canny}),
        ("text-to-image", {"reference": image}, {"seed": 7, "steps": 6, "sampler": "unipc"}),
        ("text-to-image", {"edges": edges}, {"seed": 8, "steps": 11, "controls": canny, "guess_mode": True}),
    ]
    with ThreadPoolExecutor(len(asked)) as together:
        crowd = list(together.map(lambda one: made(post(http, one[0], one[1], **one[2])), asked))
    for one, picture in zip(asked, crowd, strict=True):
        assert difference(picture, made(post(http, one[0], one[1], **one[2]))) <= 1, one


# ── what is asked wrongly ─────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"width": 65}, "width"),
        ({"width": 2056}, "width"),
        ({"width": 2048, "height": 2048}, "width"),
        ({"width": 1024, "height": 2048}, "height"),
        ({"steps": 0}, "steps"),
        ({"guidance": "nan"}, "guidance"),
        ({"guidance": "inf"}, "guidance"),
        ({"sampler": "magic"}, "sampler"),
        ({"prompt": "a very " * 4286}, "prompt"),
        ({"clip_skip": 12}, "clip_skip"),
        ({"model": "no-such-model"}, "model"),
        ({"refiner": "no-such-model"}, "refiner"),
        ({"loras": [{"name": "no-such-lora"}]}, "loras.0.name"),
        ({"loras": [{"weight": 1}]}, "loras.0"),
        ({"controls": [{"kind": "canny"}]}, "controls.0"),
        ({"controls": [{"kind": "depth", "image": "part:edges"}]}, "controls.0.kind"),
        ({"controls": [{"kind": "openpose", "keypoints": {"people": []}}]}, "controls.0.keypoints.people"),
    ],
    ids=lambda value: None if isinstance(value, dict) else str(value),
)
def test_bad_input_is_refused_with_its_field(http: httpx.Client, fields: dict[str, Any], field: str) -> None:
    pictures = {"edges": disc().convert("RGB")} if "part:edges" in str(fields) else {}
    assert refused(post(http, "text-to-image", pictures, **fields)).startswith(field)
    assert made(post(http, "text-to-image", steps=1)).size == (SIDE, SIDE)


def test_a_mask_of_another_size_is_refused(http: httpx.Client) -> None:
    assert refused(post(http, "inpaint", {"image": field_of_colours(), "mask": disc(72, 64)})) == "mask"


def lora(layer: str, width: int) -> bytes:
    down, up = torch.zeros(4, width), torch.zeros(width, 4)
    return save({f"unet.{layer}.lora_A.weight": down, f"unet.{layer}.lora_B.weight": up})


@pytest.mark.parametrize(
    ("file", "status"),
    [
        (lora("down_blocks.2.attentions.1.transformer_blocks.9.attn1.to_q", 1280), 422),
        (lora("down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q", 1280), 422),
        (b"\x10\x00\x00\x00\x00\x00\x00\x00 no safetensors at all", 422),
        (b"", 422),
    ],
    ids=["of another architecture", "of another width", "not one", "empty"],
)
def test_a_lora_that_does_not_fit_is_refused(http: httpx.Client, file: bytes, status: int) -> None:
    parts = {name: (None, value) for name, value in form(prompt="a", loras=[{"file": "part:lora"}]).items()}
    answer = http.post(
        "/v1/text-to-image", files=parts | {"lora": ("a.safetensors", file)}, headers={"accept": "image/png"}
    )
    assert refused(answer, status).startswith("loras.0")
    assert made(post(http, "text-to-image", steps=1)).size == (SIDE, SIDE)


# ── memory ────────────────────────────────────────────────────────────────────────────────────────────────────


def test_what_does_not_fit_into_memory_is_told_and_the_next_request_works(launch: Any) -> None:
    """A real service whose memory ends: the kernel gives its process no more."""
    service = launch("sdxl")
    gateway = launch("gateway", services=json.dumps({"sdxl": [service.url]}))
    with httpx.Client(base_url=gateway.url, timeout=90) as http:
        until(lambda: http.get("/readyz").status_code == 200, 60)
        small = made(post(http, "text-to-image"))
        process = psutil.Process(service.pid)
        room = process.memory_info().vms + 4 * 2**20
        resource.prlimit(service.pid, resource.RLIMIT_AS, (room, resource.RLIM_INFINITY))
        answer = post(http, "text-to-image", width=256, height=256, steps=2)
        assert answer.status_code == 503, answer.text
        problem = answer.json()
        assert problem["type"].endswith("out-of-memory")
        assert problem["help"]
        assert difference(small, made(post(http, "text-to-image"))) == 0, (
            "the small one works in what there is"
        )
        resource.prlimit(service.pid, resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        assert made(post(http, "text-to-image", width=256, height=256, steps=2)).size == (256, 256)
    assert "Traceback" not in Path(service.log).read_text()


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_two_processes_where_they_are_to_be_apart(start: Any) -> None:
    stack = start("gateway", "sdxl", "controlnet", apart="true")
    stack.wait(lambda: "Darkroom is ready" in stack.said, 200)
    assert {path.stem for path in (stack.data / "run").glob("*.json")} == {"gateway", "sdxl", "controlnet"}
    with httpx.Client(base_url=stack.url, timeout=90) as http:
        assert made(post(http, "text-to-image")).size == (SIDE, SIDE)
        edges = {"edges": disc().convert("RGB")}
        assert made(post(http, "control", edges, controls=[{"image": "part:edges", "kind": "canny"}]))
