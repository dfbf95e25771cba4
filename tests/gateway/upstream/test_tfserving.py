"""TensorFlow Serving behind the pool: the frames that come out, pictures on the way, health, what is tried again."""

import asyncio
import io
from typing import Any

import grpc
import pytest
from PIL import Image, ImageCms

from gateway.blobs import MemoryBlob
from gateway.settings import Settings
from gateway.upstream import Silent
from gateway.upstream.resolve import read_origins
from services.errors import (
    BadPicture,
    BadUpstream,
    DeadlineExceeded,
    NoEndpoint,
    NotConfigured,
    SchemaMismatch,
    TooLarge,
    UnknownModel,
)
from services.frames import Event
from services.operations import Caption, SketchToImage
from services.pictures import Picture
from tests.gateway.upstream.fake_serving import AVAILABLE, END, START

pytestmark = pytest.mark.anyio


def saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def sketch(picture: bytes, call: Any, seconds: float = 10, **fields: Any) -> Any:
    ask = SketchToImage(image=Picture("part:image"), **fields)
    return call(ask=ask, parts={"image": MemoryBlob(picture)}, seconds=seconds)


@pytest.fixture
async def ask(call: Any) -> Any:
    """`events, body = await ask(pool, picture, ...)`: one whole call."""

    async def run(pool: Any, picture: bytes, **fields: Any) -> tuple[list[Event], bytes]:
        asked = sketch(picture, call, **fields)
        events, body = [], b""
        async with pool.turn(key_id="a", deadline=asked.deadline) as turn, turn.send(asked) as stream:
            async for item in stream:
                if isinstance(item, Event):
                    events.append(item)
                else:
                    body += item
        return events, body

    return run


@pytest.fixture
async def pool(upstream: Any) -> Any:
    """`await pool(server, ...)`: the pool of pix2pix."""

    async def make(*servers: Any, **settings: Any) -> Any:
        return (await upstream({"pix2pix": list(servers)}, **settings)).pool("pix2pix")

    return make


def colour(picture: bytes) -> Any:
    with Image.open(io.BytesIO(picture)) as image:
        return image.convert("RGB").getpixel((0, 0))


# ── a call ───────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_call_is_answered_with_the_frames_of_any_service(serving, pool, ask, png):
    events, body = await ask(await pool(await serving()), png)
    assert [event.kind for event in events] == ["accepted", "result", "done"]
    accepted, result, done = events
    assert (accepted["model"], accepted["version"]) == ("creatures", 1)
    assert result.fields == {
        "index": 0,
        "role": "picture",
        "media_type": "image/png",
        "width": 32,
        "height": 32,
    }
    assert (done["model"], done["data"]) == ("creatures", {"version": 1})
    assert {"decode_ms", "run_ms"} <= set(done["timing"])
    assert result.size == len(body)
    assert colour(body) == (55, 215, 215)


@pytest.mark.parametrize(("kind", "magic"), [("jpeg", b"\xff\xd8\xff"), ("webp", b"RIFF")])
async def test_the_answer_has_the_format_that_was_asked_for(serving, pool, ask, png, kind, magic):
    events, body = await ask(await pool(await serving()), png, format=kind)
    assert events[1]["media_type"] == f"image/{kind}"
    assert body.startswith(magic)
    assert all(abs(a - b) < 6 for a, b in zip(colour(body), (55, 215, 215), strict=True))


async def test_a_png_and_a_plain_jpeg_go_on_as_they_are(serving, pool, ask, png):
    server = await serving()
    where = await pool(server)
    jpeg = saved(Image.new("RGB", (9, 5), "teal"), "JPEG")
    for picture in (png, jpeg):
        await ask(where, picture)
        assert server.asked[-1].inputs["image_bytes"].string_val[0] is not None
        assert bytes(server.asked[-1].inputs["image_bytes"].string_val[0]) == picture


def _turned() -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6
    return saved(Image.new("RGB", (9, 5), "teal"), "JPEG", exif=exif)


def _wide() -> bytes:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB"))
    return saved(Image.new("RGB", (9, 5), "teal"), "PNG", icc_profile=profile.tobytes())


@pytest.mark.parametrize(
    ("name", "picture", "size"),
    [
        ("webp", saved(Image.new("RGB", (9, 5), "teal"), "WEBP"), (9, 5)),
        ("tiff", saved(Image.new("RGB", (9, 5), "teal"), "TIFF"), (9, 5)),
        ("gif", saved(Image.new("RGB", (9, 5), "teal"), "GIF"), (9, 5)),
        ("bmp", saved(Image.new("RGB", (9, 5), "teal"), "BMP"), (9, 5)),
        ("turned", _turned(), (5, 9)),
        ("cmyk", saved(Image.new("CMYK", (9, 5)), "JPEG"), (9, 5)),
        ("sixteen bits", saved(Image.new("I;16", (9, 5), 0x8080), "PNG"), (9, 5)),
        ("one transparent colour", saved(Image.new("RGB", (9, 5)), "PNG", transparency=(0, 0, 0)), (9, 5)),
        ("a profile", _wide(), (9, 5)),
        (
            "animated",
            saved(
                Image.new("RGB", (9, 5)),
                "PNG",
                save_all=True,
                append_images=[Image.new("RGB", (9, 5), "red")],
            ),
            (9, 5),
        ),
    ],
)
async def test_what_tensorflow_cannot_read_rightly_becomes_a_png_before(
    serving, pool, ask, name, picture, size
):
    server = await serving()
    await ask(await pool(server), picture)
    sent = bytes(server.asked[-1].inputs["image_bytes"].string_val[0])
    assert sent != picture
    with Image.open(io.BytesIO(sent)) as image:
        assert (image.format, image.size, image.mode[:3]) == ("PNG", size, "RGB")


async def test_a_good_picture_that_is_refused_with_its_batch_is_sent_again_as_a_plain_png(serving, pool, ask):
    refusal = (grpc.StatusCode.INVALID_ARGUMENT, "Invalid JPEG data, size 34")
    server = await serving(fails=[refusal])
    jpeg = saved(Image.new("RGB", (9, 5), "teal"), "JPEG")
    where = await pool(server)
    events, _ = await ask(where, jpeg)
    assert events[-1].kind == "done"
    first, second = (bytes(one.inputs["image_bytes"].string_val[0]) for one in server.asked)
    assert first == jpeg
    assert second.startswith(b"\x89PNG")
    server.fails += [refusal, refusal]
    with pytest.raises(BadPicture):
        await ask(where, jpeg)
    assert len(server.asked) == 4


@pytest.mark.parametrize(
    "picture", [b"this is no picture", b"", b"\x89PNG\r\n\x1a\n" + b"\0" * 40], ids=["text", "empty", "torn"]
)
async def test_a_picture_that_cannot_be_read_never_leaves(serving, pool, ask, picture):
    server = await serving()
    where = await pool(server)
    with pytest.raises(BadPicture) as refused:
        await ask(where, picture)
    assert refused.value.field == "image"
    assert server.asked == []
    assert where.endpoints[0].breaker.state == "closed"


async def test_a_picture_cut_short_never_leaves(serving, pool, ask):
    server = await serving()
    where = await pool(server)
    whole = saved(Image.effect_noise((64, 64), 80), "PNG")
    with pytest.raises(BadPicture):
        await ask(where, whole[: len(whole) // 2])
    assert server.asked == []


async def test_a_picture_of_too_many_pixels_is_refused_before_it_is_decoded(serving, pool, ask):
    where = await pool(await serving(), max_pixels=4096)
    with pytest.raises(TooLarge):
        await ask(where, saved(Image.new("1", (100, 100)), "PNG"))


async def test_sixteen_calls_at_once_are_at_the_server_together(serving, pool, ask, png):
    server = await serving(delay=0.3)
    where = await pool(server)
    await asyncio.gather(*(ask(where, png) for _ in range(20)))
    assert server.most_at_once == 16


# ── models and versions ──────────────────────────────────────────────────────────────────────────────────────


async def test_auto_is_the_first_model_that_is_available(serving, pool, ask, png):
    server = await serving(versions={"dragons": {1: END}, "creatures": {4: AVAILABLE}})
    where = await pool(server, pix2pix_models=["dragons", "creatures"])
    events, _ = await ask(where, png)
    assert (events[0]["model"], events[0]["version"]) == ("creatures", 4)


async def test_a_model_that_the_settings_do_not_name_is_not_asked_for(serving, pool, ask, png):
    server = await serving()
    with pytest.raises(UnknownModel, match="there are creatures") as refused:
        await ask(await pool(server), png, model="resnet")
    assert (refused.value.field, server.asked) == ("model", [])


async def test_a_version_is_asked_for_by_number_by_label_or_by_the_settings(serving, pool, ask, png):
    server = await serving(
        versions={"creatures": {1: AVAILABLE, 2: AVAILABLE}},
        labels={("creatures", "stable"): 1, ("creatures", "canary"): 2},
    )
    where = await pool(server, pix2pix_version="stable")
    assert [(await ask(where, png))[0][0]["version"] for _ in range(2)] == [1, 1]
    assert (await ask(where, png, version="canary"))[0][0]["version"] == 2
    assert (await ask(where, png, version=2))[0][0]["version"] == 2
    with pytest.raises(UnknownModel) as refused:
        await ask(where, png, version="gold")
    assert refused.value.field == "version"
    assert where.endpoints[0].health == "up"


async def test_the_label_canary_gets_its_share_of_calls_that_name_no_version(serving, pool, ask, png):
    labels = {("creatures", "stable"): 1, ("creatures", "canary"): 2}
    server = await serving(versions={"creatures": {1: AVAILABLE, 2: AVAILABLE}}, labels=labels)
    attempts = []

    class Counts(Silent):
        def upstream_attempt(self, service, track, outcome, seconds) -> None:
            attempts.append((track, outcome))

    where = await pool(server, pix2pix_version="stable", pix2pix_canary=0.25, metrics=Counts())
    versions = [(await ask(where, png))[0][0]["version"] for _ in range(12)]
    assert (versions.count(1), versions.count(2)) == (9, 3)
    assert (attempts.count(("stable", "done")), attempts.count(("canary", "done"))) == (9, 3)
    named = [(await ask(where, png, version=1))[0][0]["version"] for _ in range(8)]
    assert named == [1] * 8
    # the label goes while the gateway still believes in it: nobody is told of it
    del server.labels["creatures", "canary"]
    assert {(await ask(where, png))[0][0]["version"] for _ in range(8)} == {1}


async def test_a_call_that_the_label_canary_lost_is_repeated_with_stable(serving, pool, ask, png):
    labels = {("creatures", "stable"): 1, ("creatures", "canary"): 2}
    server = await serving(versions={"creatures": {1: AVAILABLE, 2: AVAILABLE}}, labels=labels)
    where = await pool(server, pix2pix_version="stable", pix2pix_canary=1)
    server.fails.append((grpc.StatusCode.UNAVAILABLE, "the batch queue is full"))
    assert (await ask(where, png))[0][0]["version"] == 1
    assert [request.model_spec.version_label for request in server.asked] == ["canary", "stable"]


def test_a_share_for_a_label_that_is_not_looked_for_is_refused():
    with pytest.raises(ValueError, match="DARKROOM_PIX2PIX_LABELS"):
        Settings(_env_file=None, pix2pix_canary=0.1, pix2pix_labels=["stable"])


async def test_models_are_listed_with_versions_and_labels(serving, pool):
    server = await serving(
        versions={"creatures": {1: AVAILABLE, 2: END}}, labels={("creatures", "stable"): 1}
    )
    (model,) = (await pool(server)).status().models
    assert model == {
        "name": "creatures",
        "loaded": True,
        "engine": "tensorflow-serving",
        "versions": [
            {"version": 2, "state": "end", "error": "the file is damaged"},
            {"version": 1, "state": "available", "error": None},
        ],
        "labels": {"stable": 1},
    }


# ── health ───────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_server_that_still_loads_is_waited_for(serving, pool, ask, png):
    server = await serving(versions={"creatures": {1: START}})
    where = await pool(server)
    assert (where.status().ready, where.endpoints[0].health) == (False, "loading")
    assert "version 1 is start" in (where.status().reason or "")
    waiting = asyncio.create_task(ask(where, png))
    await asyncio.sleep(0.3)
    assert server.asked == []
    server.versions["creatures"][1] = AVAILABLE
    events, _ = await waiting
    assert events[-1].kind == "done"


async def test_a_server_without_any_of_the_models_is_not_ready_and_says_which_it_misses(
    serving, pool, ask, png
):
    where = await pool(await serving(versions={"resnet": {1: AVAILABLE}}))
    assert "no model 'creatures'" in (where.status().reason or "")
    with pytest.raises(NoEndpoint):
        await ask(where, png, seconds=0.5)


async def test_a_server_that_is_away_is_found_when_it_comes(serving, pool, ask, png, until):
    first = await serving()
    where = await pool(first)
    await first.stop()
    await until(lambda: where.endpoints[0].health == "down")
    waiting = asyncio.create_task(ask(where, png))
    await asyncio.sleep(0.2)
    await serving(port=first.port)
    events, _ = await waiting
    assert events[-1].kind == "done"


# ── what is tried again ──────────────────────────────────────────────────────────────────────────────────────


async def test_a_call_that_is_lost_on_the_way_is_done_elsewhere(serving, pool, ask, png):
    dying, good = await serving(delay=5), await serving()
    where = await pool(dying, good)
    calls = [asyncio.create_task(ask(where, png)) for _ in range(4)]
    await asyncio.sleep(0.3)
    assert dying.asked
    await dying.stop()
    assert [events[-1].kind for events, _ in await asyncio.gather(*calls)] == ["done"] * 4


async def test_a_full_queue_is_waited_for_and_costs_nobody_anything(serving, pool, ask, png):
    full = (
        grpc.StatusCode.UNAVAILABLE,
        "The batch scheduling queue to which this task was submitted is full",
    )
    server = await serving(fails=[full, full, full, full])
    where = await pool(server)
    events, _ = await ask(where, png)
    assert events[-1].kind == "done"
    assert where.endpoints[0].breaker.state == "closed"


async def test_a_model_that_left_a_moment_ago_is_asked_for_again(serving, pool, ask, png):
    gone = (grpc.StatusCode.NOT_FOUND, "Servable not found for request: Latest(creatures)")
    events, _ = await ask(await pool(await serving(fails=[gone])), png)
    assert events[-1].kind == "done"


async def test_a_hanging_server_is_told_of_at_the_deadline(serving, pool, ask, png):
    server = await serving()
    where = await pool(server, health_interval=30)
    server.hangs = True
    with pytest.raises(DeadlineExceeded):
        await ask(where, png, seconds=0.5)


async def test_a_server_that_is_silent_for_too_long_is_given_up_for_another(serving, pool, ask, png):
    hanging, good = await serving(delay=60), await serving()
    where = await pool(hanging, good, idle_timeout=0.5)
    results = await asyncio.gather(*(ask(where, png) for _ in range(2)))
    assert [events[-1].kind for events, _ in results] == ["done", "done"]
    assert hanging.cancelled == 1


async def test_a_caller_who_leaves_ends_the_work_at_the_server(serving, pool, ask, png, until):
    server = await serving(delay=60)
    where = await pool(server)
    leaving = asyncio.create_task(ask(where, png))
    await until(lambda: server.asked)
    leaving.cancel()
    await until(lambda: server.cancelled == 1)
    await until(lambda: where.endpoints[0].in_flight == 0)


async def test_an_answer_that_is_no_picture_is_a_fault_of_the_server(serving, pool, ask, png):
    server = await serving(answer=b"not a png")
    with pytest.raises(BadUpstream):
        await ask(await pool(server), png)


# ── addresses ────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_port_of_grpc_is_that_of_tensorflow_serving():
    (origin,) = read_origins("pix2pix", ["dns+grpc://serving#weight=0.1"])
    assert (origin.address("10.0.0.1"), origin.resolved, origin.weight) == ("grpc://10.0.0.1:8500", True, 0.1)


@pytest.mark.parametrize(
    ("service", "addresses", "words"),
    [
        ("cleanup", ["grpc://a:1"], "pix2pix"),
        ("pix2pix", ["grpc://a:1", "http://b:2"], "all grpc:// or all http://"),
        ("pix2pix", ["grpc://a:1/v1"], "path"),
    ],
)
def test_an_address_that_makes_no_sense_stops_the_start(service, addresses, words):
    with pytest.raises(NotConfigured, match=words):
        read_origins(service, addresses)


async def test_an_endpoint_that_leaves_the_dns_is_closed(serving, upstream, ask, png, until):
    server = await serving()
    hosts = ["127.0.0.1"]

    async def resolve(name: str, port: int) -> list[str]:
        return hosts

    address = f"dns+grpc://serving:{server.port}"
    built = await upstream({"pix2pix": [address]}, resolve=resolve)
    where = built.pool("pix2pix")
    await ask(where, png)
    assert len(where.carrier._clients) == 1
    hosts.clear()
    await until(lambda: not where.endpoints)
    assert where.carrier._clients == {}


async def test_another_operation_of_the_service_is_not_performed(serving, pool, call, png):
    where = await pool(await serving())
    asked = call(ask=Caption(image=Picture("part:image")), parts={"image": MemoryBlob(png)})
    with pytest.raises(SchemaMismatch, match="understand"):
        async with where.turn(key_id="a", deadline=asked.deadline) as turn, turn.send(asked):
            pass
