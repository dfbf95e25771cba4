"""The command, against the running stack."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageDraw

DARKROOM = Path(sys.executable).with_name("darkroom")


def draw(path: Path, colour: str = "red") -> Path:
    image = Image.new("RGB", (96, 96), "white")
    ImageDraw.Draw(image).ellipse((24, 24, 72, 72), colour)
    image.save(path)
    return path


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a photo, its mask, and two folders of them."""
    monkeypatch.chdir(tmp_path)
    draw(tmp_path / "photo.png")
    for folder in ("photos", "masks"):
        (tmp_path / folder).mkdir()
    for name in ("a", "b", "c"):
        draw(tmp_path / "photos" / f"{name}.png")
        Image.new("L", (96, 96)).save(tmp_path / "masks" / f"{name}.bmp")
    return tmp_path


@pytest.fixture
def darkroom(stack: Any) -> Any:
    def call(*words: str, stdin: bytes | None = None, code: int = 0) -> subprocess.CompletedProcess[bytes]:
        done = subprocess.run(
            [DARKROOM, *words],
            input=stdin if stdin is not None else b"",
            capture_output=True,
            timeout=60,
            env=os.environ | {"DARKROOM_URL": stack.url},
        )
        assert done.returncode == code, done.stderr.decode()
        return done

    return call


def test_a_picture_goes_in_and_a_picture_comes_out(darkroom: Any, here: Path) -> None:
    said = darkroom("run", "remove-background", "photo.png", "-o", "cut.png")
    assert said.stdout == b"cut.png\n"
    with Image.open("cut.png") as cut:
        assert (cut.size, cut.mode) == ((96, 96), "RGBA")


def test_without_a_place_it_picks_a_name_that_is_free(darkroom: Any, here: Path) -> None:
    for name in ("photo-remove-background.png", "photo-remove-background-2.png"):
        assert darkroom("run", "remove-background", "photo.png").stdout.decode() == f"{name}\n"
        assert Path(name).exists()


def test_it_stands_in_a_pipe(darkroom: Any, here: Path) -> None:
    data = darkroom(
        "run", "remove-background", "-", "--format", "webp", "-o", "-", stdin=Path("photo.png").read_bytes()
    )
    assert data.stdout.startswith(b"RIFF")


def test_an_operations_own_parameters_are_flags(darkroom: Any, here: Path) -> None:
    darkroom("run", "remove-background", "photo.png", "--output", "mask", "-o", "mask.png")
    with Image.open("mask.png") as mask:
        assert mask.mode == "L"
    darkroom("run", "remove-background", "photo.png", "--background", "photos/a.png", "-o", "on.png")
    assert Path("on.png").exists()


def test_a_folder_goes_through_and_takes_up_where_it_was(darkroom: Any, here: Path) -> None:
    Path("photos/broken.png").write_bytes(b"no picture")
    draw(here / "masks" / "broken.png")
    draw(here / "photos" / "lonely.png")
    words = ("run", "cleanup", "photos", "--mask", "masks", "-o", "clean", "--skip-existing")
    said = darkroom(*words, code=1).stderr.decode()
    assert "3 of 5 done, in clean, 2 failed." in said
    assert "photos/lonely.png: there is no mask named lonely.* in the folder of masks" in said
    assert "photos/broken.png: " in said
    assert sorted(path.name for path in Path("clean").iterdir()) == ["a.png", "b.png", "c.png"]
    before = Path("clean/a.png").stat().st_mtime_ns
    Path("photos/broken.png").unlink()
    Path("photos/lonely.png").unlink()
    Path("clean/b.png").unlink()
    assert "1 of 3 done, in clean, 2 were there already." in darkroom(*words).stderr.decode()
    assert Path("clean/a.png").stat().st_mtime_ns == before


def test_a_refusal_names_the_field_and_what_to_do(darkroom: Any, here: Path) -> None:
    Path("text.png").write_text("not a picture")
    said = darkroom("run", "remove-background", "text.png", code=2).stderr.decode()
    assert said.startswith("image: ")
    assert len(said.splitlines()) == 2


def test_a_job_is_submitted_watched_shown_and_listed(darkroom: Any, here: Path) -> None:
    job = darkroom("jobs", "submit", "remove-background", "photo.png").stdout.decode().strip()
    assert darkroom("jobs", "watch", job, "-o", "job.png").stdout == b"job.png\n"
    shown = json.loads(darkroom("jobs", "show", job).stdout)
    assert (shown["id"], shown["state"]) == (job, "succeeded")
    assert shown["progress"] is None or shown["progress"]["step"] == shown["progress"]["total"]
    assert job in darkroom("jobs", "list", "--state", "succeeded").stdout.decode()
    assert "nothing left to cancel" in darkroom("jobs", "cancel", job, code=1).stderr.decode()
    assert (
        darkroom("run", "remove-background", "photo.png", "--as-job", "-o", "two.png").stdout == b"two.png\n"
    )


def test_a_job_is_cancelled_and_its_end_is_told(darkroom: Any, here: Path) -> None:
    words = (
        "text-to-image",
        "a red circle",
        "--steps",
        "150",
        "--count",
        "16",
        "--sampler",
        "DPM++ 2M Karras",
    )
    job = darkroom("jobs", "submit", *words).stdout.decode().strip()
    assert darkroom("jobs", "cancel", job).stdout.decode().strip() in ("cancelled", "being cancelled")


def test_assets_go_up_stand_for_pictures_and_go_away(darkroom: Any, here: Path) -> None:
    asset = darkroom("assets", "put", "photo.png").stdout.decode().strip()
    assert darkroom("assets", "get", asset).stdout == Path("photo.png").read_bytes()
    darkroom("run", "remove-background", asset, "-o", "cut.png")
    assert asset.removeprefix("asset:") in darkroom("assets", "list").stdout.decode()
    darkroom("assets", "delete", asset)
    darkroom("assets", "get", asset, code=1)


def test_operations_and_models_are_listed(darkroom: Any) -> None:
    rows = [line.split("\t") for line in darkroom("operations").stdout.decode().splitlines()]
    available = {name: state for name, _, state, _ in rows}
    assert {available[name] for name in ("cleanup", "remove-background", "portrait", "sketch-to-image")} == {
        "yes"
    }
    models = [line.split("\t") for line in darkroom("models", "list").stdout.decode().splitlines()]
    loaded = {name: state for name, _, _, state, *_ in models}
    assert (loaded["telea"], loaded["micro"], loaded["sdxl-base"]) == ("yes", "yes", "no")


def test_bench_prints_times_and_rates(darkroom: Any, here: Path) -> None:
    said = darkroom(
        "bench", "cleanup", "image=photo.png", "mask=masks/a.bmp", "-n", "6", "-c", "2"
    ).stdout.decode()
    assert re.match(r"6 calls answered in .* p50 .* p95 .* p99 ", said)
    assert "pictures/s" in said


def test_the_doctor_finds_the_running_stack_well(stack: Any) -> None:
    done = subprocess.run([DARKROOM, "doctor"], capture_output=True, text=True, timeout=60, env=stack.env)
    assert done.returncode == 0, done.stdout
    assert (
        f"OK   gateway      It runs at {stack.url}, under the supervisor {stack.process.pid}." in done.stdout
    )
    assert "OK   cleanup" in done.stdout


@pytest.mark.slow
def test_keys_are_managed_through_the_gateway_where_an_address_is_given(start: Any) -> None:
    stack = start("gateway")
    stack.wait(lambda: "Darkroom is ready" in stack.said)

    def call(*words: str, key: str = "") -> subprocess.CompletedProcess[str]:
        env = os.environ | {"DARKROOM_URL": stack.url, "DARKROOM_KEY": key}
        return subprocess.run([DARKROOM, *words], capture_output=True, text=True, timeout=60, env=env)

    admin = call("keys", "create", "boss", "--scope", "admin", "--days", "2").stdout.strip()
    user = call("keys", "create", "app", "--rate", "3", key=admin).stdout.strip()
    assert "DARKROOM_KEY" in call("keys", "list").stderr
    assert call("keys", "list", key=user).returncode == 1
    assert call("operations", key=user).returncode == 0
    assert "app\tuse\t3/s\tlive" in call("keys", "list", key=admin).stdout
    assert call("keys", "revoke", "app", key=admin).returncode == 0
    assert "app\tuse\t3/s\trevoked" in call("keys", "list", key=admin).stdout
