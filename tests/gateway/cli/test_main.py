"""The command as a whole: quick to start, plain when something is wrong, and all of it documented."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from gateway.cli.main import app
from services.operations import OPERATIONS

DARKROOM = Path(sys.executable).with_name("darkroom")
PAGE = Path(__file__).parents[3] / "docs" / "command.md"


def darkroom(*words: str, cwd: Path | None = None, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [DARKROOM, *words],
        capture_output=True,
        text=True,
        timeout=30,
        cwd=cwd,
        env=os.environ | env,
        stdin=subprocess.DEVNULL,
    )


def commands(group: Any = None, before: str = "darkroom") -> Iterator[str]:
    group = group or typer.main.get_command(app)
    for name, found in group.commands.items():
        yield f"{before} {name}"
        if hasattr(found, "commands"):
            yield from commands(found, f"{before} {name}")


def test_help_takes_less_than_half_a_second() -> None:
    taken = []
    for _ in range(3):
        began = time.perf_counter()
        assert darkroom("--help").returncode == 0
        taken.append(time.perf_counter() - began)
    assert min(taken) < 0.5


def test_the_page_tells_of_every_command() -> None:
    text = PAGE.read_text()
    missing = [name for name in [*commands(), *(f"`{name}`" for name in OPERATIONS)] if name not in text]
    assert missing == []


def test_where_nothing_answers_it_says_what_to_do() -> None:
    result = darkroom("operations", DARKROOM_URL="http://127.0.0.1:9")
    assert result.returncode == 1
    assert "Start Darkroom with `make up`" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["run", "cleanup", "nowhere.png", "--mask", "x.png"], "There is no file 'nowhere.png' for --image."),
        (["run", "text-to-image", "--loras", "["], "--loras must be JSON"),
        (["run", "caption", "a.png", "b.png"], "give -o FOLDER"),
        (["bench", "nothing"], "There is no operation 'nothing'"),
        (["bench", "cleanup", "oops"], "'oops' is no parameter"),
    ],
)
def test_a_wrong_use_is_one_sentence_and_exit_code_two(words: list[str], sentence: str) -> None:
    result = darkroom(*words)
    assert result.returncode == 2
    assert sentence in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_without_an_address_the_settings_say_where_the_gateway_is() -> None:
    result = darkroom("operations", DARKROOM_URL="", DARKROOM_PORT="9", DARKROOM_ROOT_PATH="/pictures")
    assert result.returncode == 1
    assert "http://127.0.0.1:9/pictures" in result.stderr


def test_nothing_is_made_of_a_request_that_is_refused(tmp_path: Path) -> None:
    (tmp_path / "circle.png").write_bytes(b"a picture")
    for operation, words in {
        "inpaint": ["circle.png", "words", "--mask", "circle.png"],
        "cleanup": ["circle.png", "other.png", "--mask", "circle.png"],
        "remove-background": [".", "nowhere"],
    }.items():
        said = darkroom("run", operation, *words, "-o", "made.png", cwd=tmp_path)
        assert said.returncode == 2, said.stderr
        assert ("Words are given with --prompt." in said.stderr) is (operation == "inpaint")
        assert [path.name for path in tmp_path.iterdir()] == ["circle.png"]


def test_a_number_that_is_none_is_refused_as_usage() -> None:
    said = darkroom("run", "text-to-image", "x", "--guidance", "nan", DARKROOM_URL="http://127.0.0.1:9")
    assert said.returncode == 2
    assert "Invalid value for '--guidance': 'nan' is not a number." in " ".join(said.stderr.split())
    said = darkroom("run", "text-to-image", "--loras", '[{"name": "ink", "weight": NaN}]', "--prompt", "x")
    assert (said.returncode, said.stderr.splitlines()[0]) == (2, "loras.0.weight: must be a number, not nan.")


def test_keys_are_made_listed_and_revoked_on_the_local_database(tmp_path: Path) -> None:
    where = {"DARKROOM_DATA": str(tmp_path), "DARKROOM_URL": ""}
    made = darkroom("keys", "create", "studio", "--scope", "use", "--scope", "admin", "--rate", "5", **where)
    assert made.returncode == 0, made.stderr
    assert made.stdout.startswith("dk_")
    assert len(made.stdout.splitlines()) == 1
    listed = darkroom("keys", "list", **where).stdout.split("\t")
    assert listed[1:] == ["studio", "admin use", "5/s", "live\n"]
    again = darkroom("keys", "create", "studio", **where)
    assert again.returncode == 1
    assert "a live key of the name 'studio' already" in again.stderr
    assert darkroom("keys", "revoke", "studio", **where).returncode == 0
    assert darkroom("keys", "list", **where).stdout.endswith("revoked\n")


def test_the_doctor_finds_a_healthy_place_healthy(tmp_path: Path) -> None:
    result = darkroom("doctor", DARKROOM_DATA=str(tmp_path / "new"), DARKROOM_PORT="18765")
    assert result.returncode == 0, result.stdout
    assert "All is well." in result.stdout
    for about in (
        "Python",
        "settings",
        "data folder",
        "port",
        "database",
        "keys",
        "storage",
        "Redis",
        "services",
    ):
        assert f"OK   {about}" in result.stdout


def test_the_doctor_says_what_is_wrong_and_what_to_do(tmp_path: Path) -> None:
    result = darkroom(
        "doctor",
        DARKROOM_DATA=str(tmp_path),
        DARKROOM_HOST="0.0.0.0",
        DARKROOM_REDIS_URL="redis://127.0.0.1:9/0",
        DARKROOM_SERVICES='{"cleanup": ["http://127.0.0.1:9"]}',
    )
    assert result.returncode == 1
    assert "FAIL Redis" in result.stdout
    assert "FAIL cleanup      http://127.0.0.1:9 does not answer: start it" in result.stdout
    assert "FAIL keys" in result.stdout
    assert "darkroom keys create" in result.stdout


def test_the_doctor_names_a_broken_setting() -> None:
    result = darkroom("doctor", DARKROOM_PORT="http")
    assert result.returncode == 1
    assert "FAIL settings     DARKROOM_PORT is 'http', but" in result.stdout
