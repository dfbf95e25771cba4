"""The client against a real server on a real socket."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import time
from inspect import signature
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from starlette.responses import PlainTextResponse, Response

from gateway.client import Asset, AsyncDarkroom, Darkroom
from gateway.client import asynchronous as theirs
from gateway.client import sync as ours
from gateway.client.calls import Unreachable
from services.errors import (
    BadInput,
    BadUpstream,
    DeadlineExceeded,
    LineFull,
    NotConfigured,
    NotFound,
    QuotaExceeded,
    ServiceFault,
)


@pytest.fixture
def darkroom(server: Any) -> Any:
    with Darkroom(server.url, "dk_secret") as client:
        yield client


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    path = tmp_path / "photo.png"
    Image.new("RGB", (2, 2), "red").save(path)
    return path


def refusal(error: Any, **headers: str) -> Response:
    return Response(json.dumps(error.problem()), error.status, headers, "application/problem+json")


def test_a_result_has_its_pictures_and_what_is_known_of_them(
    darkroom: Any, photo: Path, tmp_path: Path
) -> None:
    result = darkroom.run("cleanup", image=photo, mask=photo)
    assert (result.operation, result.model, result.timing) == ("cleanup", "telea", {"total_ms": 1.5})
    assert (result.picture.seed, result.picture.width, result.picture.media_type) == (7, 1, "image/png")
    assert result.picture.pil().size == (1, 1)
    assert result.save(tmp_path / "out") == tmp_path / "out.png"


def test_the_key_is_sent_as_a_bearer(darkroom: Any, server: Any, photo: Path) -> None:
    darkroom.run("remove-background", image=photo)
    assert server.asked[0]["headers"]["authorization"] == "Bearer dk_secret"


@pytest.mark.parametrize("kind", ["path", "name", "bytes", "file", "pillow"])
def test_a_picture_may_be_anything_that_is_one(darkroom: Any, server: Any, photo: Path, kind: str) -> None:
    with photo.open("rb") as file, Image.open(photo) as pillow:
        given = {
            "path": photo,
            "name": str(photo),
            "bytes": photo.read_bytes(),
            "file": file,
            "pillow": pillow,
        }
        darkroom.run("remove-background", image=given[kind])
    sent = server.asked[0]["form"]["image"]
    assert Image.open(io.BytesIO(sent)).getpixel((0, 0)) == (255, 0, 0)


def test_what_names_a_picture_elsewhere_is_sent_as_it_is(darkroom: Any, server: Any) -> None:
    darkroom.run("cleanup", image=Asset("abc", {}), mask="https://example.org/mask.png")
    assert server.asked[0]["form"] == {"image": "asset:abc", "mask": "https://example.org/mask.png"}


def test_a_picture_deep_in_a_list_becomes_a_part_that_the_list_names(
    darkroom: Any, server: Any, photo: Path
) -> None:
    darkroom.run("control", prompt="a cat", controls=[{"image": photo, "kind": "canny"}], count=2)
    form = server.asked[0]["form"]
    assert json.loads(form["controls"]) == [{"image": "part:controls.0.image", "kind": "canny"}]
    assert form["controls.0.image"] == photo.read_bytes()
    assert form["count"] == "2"


def test_a_colour_is_a_colour_and_a_file_in_its_place_a_picture(
    darkroom: Any, server: Any, photo: Path
) -> None:
    darkroom.run("remove-background", image=photo, background="white", trim=True)
    darkroom.run("remove-background", image=photo, background=str(photo), seed=None)
    assert (server.asked[0]["form"]["background"], server.asked[0]["form"]["trim"]) == ("white", "true")
    assert server.asked[1]["form"]["background"] == photo.read_bytes()
    assert "seed" not in server.asked[1]["form"]


def test_a_file_that_is_not_there_is_named_before_anything_is_sent(darkroom: Any, server: Any) -> None:
    with pytest.raises(BadInput, match=r"nowhere\.png") as caught:
        darkroom.run("remove-background", image="nowhere.png")
    assert caught.value.field == "image"
    assert server.asked == []


def test_it_waits_as_long_as_it_is_told_and_tries_again(darkroom: Any, server: Any, photo: Path) -> None:
    server.refusals = [refusal(LineFull(retry_after=0.05)), refusal(LineFull(), **{"retry-after": "0"})]
    assert darkroom.run("remove-background", image=photo).model == "telea"
    assert len(server.asked) == 3
    assert server.asked[2]["form"]["image"] == photo.read_bytes()


@pytest.mark.parametrize(
    "error", [QuotaExceeded("Enough."), NotConfigured("None here."), BadInput("No.", field="x")]
)
def test_what_waiting_does_not_help_is_raised_at_once(
    darkroom: Any, server: Any, photo: Path, error: Any
) -> None:
    server.refusals = [refusal(error)]
    with pytest.raises(type(error)) as caught:
        darkroom.run("remove-background", image=photo)
    assert (caught.value.detail, caught.value.field, caught.value.what_to_do) == (
        error.detail,
        error.field,
        error.help,
    )
    assert len(server.asked) == 1


def test_a_wait_longer_than_its_patience_is_raised(darkroom: Any, server: Any, photo: Path) -> None:
    server.refusals = [refusal(LineFull(retry_after=3600))]
    with pytest.raises(LineFull) as caught:
        darkroom.run("remove-background", image=photo)
    assert caught.value.retry_after == 3600


def test_a_proxys_own_error_page_says_its_status(darkroom: Any, server: Any, photo: Path) -> None:
    server.refusals = [PlainTextResponse("oh no", 500)]
    with pytest.raises(ServiceFault, match="HTTP 500"):
        darkroom.run("remove-background", image=photo)
    server.refusals = [PlainTextResponse("<html>")]
    with pytest.raises(BadUpstream, match="not JSON"):
        darkroom.run("remove-background", image=photo)


def test_progress_is_told_and_the_result_is_the_same(darkroom: Any, photo: Path) -> None:
    heard: list[Any] = []
    result = darkroom.run("cleanup", image=photo, mask=photo, on_progress=heard.append)
    assert [event.kind for event in heard] == ["accepted", "progress", "result", "done"]
    assert heard[1].data == {"step": 1, "total": 2}
    assert result.picture.seed == 7


def test_an_error_in_the_stream_is_raised_as_what_it_is(darkroom: Any, photo: Path) -> None:
    with pytest.raises(BadInput, match="No such thing") as caught:
        darkroom.run("caption", image=photo, on_progress=lambda _: None)
    assert caught.value.field == "image"


def test_a_job_is_submitted_once_however_often_it_is_sent(darkroom: Any, server: Any, photo: Path) -> None:
    server.refusals = [refusal(LineFull(retry_after=0))]
    job = darkroom.submit("cleanup", image=photo, mask=photo, steps=[1], priority=3)
    assert job.state == "queued"
    assert len(server.jobs) == 1
    keys = {asked["headers"]["idempotency-key"] for asked in server.asked}
    assert len(keys) == 1
    form = server.asked[-1]["form"]
    assert (form["operation"], form["priority"], form["mask"]) == ("cleanup", "3", photo.read_bytes())
    assert json.loads(form["params"])["image"] == "part:image"


def test_a_job_without_pictures_is_submitted_as_json(darkroom: Any, server: Any) -> None:
    darkroom.submit("text-to-image", prompt="a dog", idempotency_key="mine")
    assert server.asked[0]["form"] == {
        "operation": "text-to-image",
        "params": {"prompt": "a dog"},
        "priority": 0,
    }
    assert server.asked[0]["headers"]["idempotency-key"] == "mine"


def test_waiting_for_a_job_gives_its_result(darkroom: Any) -> None:
    job = darkroom.job("job1")
    assert job.state == "running"
    assert job.wait(timeout=10).picture.seed == 7
    assert job.state == "succeeded"


def test_a_job_that_takes_too_long_goes_on_without_its_waiter(darkroom: Any, server: Any) -> None:
    server.looks = -1000
    with pytest.raises(DeadlineExceeded, match="still running"):
        darkroom.job("job1").wait(timeout=0.1)


def test_a_failed_job_raises_its_own_error(darkroom: Any) -> None:
    job = darkroom.job("failing")
    with pytest.raises(BadInput, match="Too odd") as caught:
        job.wait()
    assert caught.value.field == "mask"


def test_a_job_that_is_not_there_is_not_found(darkroom: Any) -> None:
    with pytest.raises(NotFound):
        darkroom.job("none")


def test_cancelling_gives_the_state_that_it_has_then(darkroom: Any) -> None:
    assert darkroom.job("job1").cancel().state == "cancelled"


def test_events_go_on_without_a_gap_where_the_connection_broke(darkroom: Any, server: Any) -> None:
    events = list(darkroom.job("job1").events())
    assert [event.id for event in events] == ["1.1", "1.2", "1.3", "1.4"]
    assert events[-1].kind == "done"
    assert server.events_from == [None, "1.1"]


@pytest.mark.parametrize("job", ["silent", "breaking", "babbling"])
@pytest.mark.anyio
async def test_whoever_follows_a_job_for_a_time_is_told_when_it_is_over(server: Any, job: str) -> None:
    with Darkroom(server.url) as darkroom:
        found, began, heard = darkroom.job(job), time.monotonic(), []
        with pytest.raises(DeadlineExceeded, match=f"{job} has not ended after 0.5 s") as caught:
            heard.extend(event.id for event in found.events(timeout=0.5))
        assert "wait again" in caught.value.what_to_do
        assert (heard, 0.5 <= time.monotonic() - began < 1.5) == (["1.1"], True)
    async with AsyncDarkroom(server.url) as other:
        began, heard = time.monotonic(), []
        with pytest.raises(DeadlineExceeded, match=f"{job} has not ended after 0.5 s"):
            async for event in (await other.job(job)).events(timeout=0.5):
                heard.append(event.id)
        assert (heard, 0.5 <= time.monotonic() - began < 1.5) == (["1.1"], True)


def test_a_job_that_ends_in_time_is_followed_to_its_end(darkroom: Any) -> None:
    assert [event.id for event in darkroom.job("job1").events(timeout=20)][-1] == "1.4"


def test_assets_go_in_and_out(darkroom: Any, server: Any, photo: Path) -> None:
    asset = darkroom.assets.put(photo)
    assert asset.id == "pic9"
    assert server.asked[0]["form"] == {"file": photo.read_bytes()}
    assert darkroom.assets.get(asset).startswith(b"\x89PNG")
    assert [one.id for one in darkroom.assets.list(limit=1)] == ["pic9"]
    darkroom.assets.delete(asset)


def test_lists_are_lists(darkroom: Any) -> None:
    assert darkroom.operations() == [{"name": "cleanup"}]
    assert darkroom.models() == [{"id": "telea"}]
    assert [job.id for job in darkroom.jobs(state="succeeded")] == ["job1"]


def test_where_nothing_answers_it_says_so_and_what_to_do(photo: Path) -> None:
    with (
        Darkroom("http://127.0.0.1:9") as nobody,
        pytest.raises(Unreachable, match=r"127\.0\.0\.1:9") as caught,
    ):
        nobody.run("remove-background", image=photo)
    assert "make up" in caught.value.what_to_do


def test_the_address_and_the_key_come_from_the_environment(
    server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DARKROOM_URL", server.url + "/")
    monkeypatch.setenv("DARKROOM_KEY", "dk_env")
    with Darkroom() as client:
        client.run("text-to-image", prompt="x")
    assert server.asked[0]["headers"]["authorization"] == "Bearer dk_env"


def test_importing_it_brings_in_nothing_heavy() -> None:
    heavy = (
        "{'torch', 'fastapi', 'sqlalchemy', 'bentoml', 'cv2', 'numpy', 'PIL', 'pydantic_settings', 'aiohttp'}"
    )
    code = f"import sys, gateway.client; print(sorted({heavy} & set(sys.modules)))"
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
        == "[]\n"
    )


def test_both_clients_have_the_same_surface() -> None:
    def surface(kind: type) -> dict[str, list[str]]:
        public = {
            name: value for name, value in vars(kind).items() if callable(value) and not name.startswith("_")
        }
        renamed = {"aclose": "close"}
        return {renamed.get(name, name): list(signature(value).parameters) for name, value in public.items()}

    for name in ("Darkroom", "Job", "Assets"):
        assert surface(getattr(ours, name)) == surface(getattr(theirs, f"Async{name}"))


@pytest.mark.anyio
async def test_the_async_client_does_the_same(server: Any, photo: Path) -> None:
    server.refusals = [refusal(LineFull(retry_after=0.05))]
    async with AsyncDarkroom(server.url) as darkroom:
        result = await darkroom.run("cleanup", image=photo, mask=photo)
        heard: list[Any] = []
        again = await darkroom.run("cleanup", image=photo, mask=photo, on_progress=heard.append)
        assert result.picture.content == again.picture.content
        assert [event.kind for event in heard] == ["accepted", "progress", "result", "done"]
        job = await darkroom.submit("cleanup", image=photo, mask=photo)
        assert [event.id async for event in job.events()] == ["1.1", "1.2", "1.3", "1.4"]
        assert (await job.wait()).picture.seed == 7
        assert (await (await darkroom.job("job1")).cancel()).state == "cancelled"
        asset = await darkroom.assets.put(photo)
        assert (await darkroom.assets.get(asset)).startswith(b"\x89PNG")
        await darkroom.assets.delete(asset)
        assert (await darkroom.operations())[0]["name"] == "cleanup"
        assert [one.id async for one in darkroom.jobs()] == ["job1"]
        assert [one.id async for one in darkroom.assets.list(limit=1)] == ["pic9"]
        outcomes = [outcome async for outcome in darkroom.batch("caption", [photo, "nowhere.png"])]
        assert sorted((outcome.index, outcome.ok) for outcome in outcomes) == [(0, True), (1, False)]
        async with darkroom.stream("cleanup", image=photo, mask=photo) as events:
            assert [event.step async for event in events] == [None, 1, None, None]
            assert (await events.result()).picture.seed == 7
        assert (await darkroom.cleanup(photo, photo)).picture.seed == 7
        with pytest.raises(NotFound):
            await darkroom.job("none")
