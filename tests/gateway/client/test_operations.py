"""Each operation as an attribute of the client, many at once, and lists that go on over pages."""

from __future__ import annotations

import inspect
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from gateway.client import AsyncDarkroom, Darkroom, asks
from gateway.client_asks import ASKS, own, text
from services.errors import BadInput


@pytest.fixture
def darkroom(server: Any) -> Iterator[Darkroom]:
    with Darkroom(server.url) as client:
        yield client


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    path = tmp_path / "photo.png"
    Image.new("RGB", (2, 2), "red").save(path)
    return path


def test_the_methods_are_those_of_the_operations() -> None:
    assert ASKS.read_text() == text(), "`make schemas` writes gateway/client/asks.py anew"
    for kind in own().values():
        parameters = inspect.signature(getattr(asks, kind.method())).parameters
        assert set(parameters) == set(kind.model_fields)


def test_a_method_asks_for_its_operation(darkroom: Darkroom, server: Any, photo: Path) -> None:
    darkroom.remove_background(photo, background="white", trim=True)
    assert server.asked[0]["path"] == "/v1/remove-background"
    assert server.asked[0]["form"] == {"image": photo.read_bytes(), "background": "white", "trim": "true"}


def test_a_method_can_be_streamed_submitted_and_asked_for_help(
    darkroom: Darkroom, server: Any, photo: Path
) -> None:
    with darkroom.cleanup.stream(photo, photo) as events:
        assert [event.kind for event in events] == ["accepted", "progress", "result", "done"]
        assert events.result().picture.seed == 7
    assert darkroom.cleanup.submit(photo, photo).state == "queued"
    assert "negative_prompt" in inspect.signature(darkroom.text_to_image).parameters
    assert "Make pictures from words." in str(inspect.getdoc(darkroom.text_to_image))


def test_a_parameter_that_does_not_exist_is_told_before_anything_is_sent(
    darkroom: Darkroom, server: Any
) -> None:
    with pytest.raises(TypeError, match="negative_promt"):
        darkroom.text_to_image("a cat", negative_promt="a dog")  # type: ignore[call-arg]
    with pytest.raises(BadInput, match="a set cannot be sent") as caught:
        darkroom.run("text-to-image", prompt={"a", "cat"})
    assert caught.value.field == "prompt"
    assert server.asked == []


def test_a_type_checker_knows_every_method(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(
        "from gateway.client import AsyncDarkroom, Darkroom, Result\n"
        "d = Darkroom()\n"
        "good: Result = d.cleanup('a.png', b'mask', grow=3)\n"
        "d.cleanup('a.png')\n"
        "d.text_to_image('x', sampler='slow')\n"
        "d.caption.submit('a.png', modus='fast')\n"
        "async def f(a: AsyncDarkroom) -> str:\n"
        "    return await a.portrait('a.png', tone='warm')\n"
    )
    command = [sys.executable, "-m", "mypy", "--no-error-summary", "--follow-imports", "silent", str(program)]
    found = subprocess.run(command, capture_output=True, text=True, cwd=ASKS.parents[2]).stdout
    told = [line.split(": error: ")[0].rpartition(":")[2] for line in found.splitlines() if "error:" in line]
    assert told == ["4", "5", "6", "8"], found
    assert "Missing positional argument" in found
    assert "incompatible type \"Literal['slow']\"" in found.replace(
        "\"Literal['slow']\"", "\"Literal['slow']\""
    )


def test_a_batch_is_a_few_at_once_and_tells_of_each(darkroom: Darkroom, server: Any, photo: Path) -> None:
    server.work = 0.05
    given: list[Any] = [photo, photo, "nowhere.png", {"image": photo, "trim": True}, photo, photo]
    outcomes = sorted(
        darkroom.remove_background.batch(given, concurrency=2, background="white"),
        key=lambda outcome: outcome.index,
    )
    assert [outcome.ok for outcome in outcomes] == [True, True, False, True, True, True]
    assert outcomes[2].given == "nowhere.png"
    with pytest.raises(BadInput, match=r"nowhere\.png"):
        _ = outcomes[2].result
    assert outcomes[3].result.picture.seed == 7
    assert server.most_under_way == 2
    assert sum(asked["form"].get("trim") == "true" for asked in server.asked) == 1
    assert all(asked["form"]["background"] == "white" for asked in server.asked)


def test_a_batch_reads_what_it_is_given_only_as_it_goes(darkroom: Darkroom, server: Any) -> None:
    taken = 0

    def words() -> Iterator[str]:
        nonlocal taken
        for taken in range(1, 1000):
            yield f"cat {taken}"

    for outcome in darkroom.batch("text-to-image", words(), concurrency=3):
        assert outcome.ok
        if outcome.index >= 5:
            break
    assert taken < 20
    assert server.asked[0]["form"]["prompt"].startswith("cat ")


def test_a_batch_of_nothing_is_nothing_and_none_at_once_is_refused(darkroom: Darkroom) -> None:
    assert list(darkroom.batch("caption", [])) == []
    with pytest.raises(BadInput, match="at least 1"):
        list(darkroom.batch("caption", ["a.png"], concurrency=0))


def test_lists_go_on_over_pages_as_far_as_they_are_read(darkroom: Darkroom, server: Any) -> None:
    assert len(list(darkroom.jobs(state="many"))) == 450
    assert [page.get("before") for page in server.pages] == [None, "job200", "job400"]
    server.pages.clear()
    ids = [job.id for job in darkroom.jobs(state="many", limit=250)]
    assert (len(ids), ids[-1]) == (250, "job250")
    assert [page["limit"] for page in server.pages] == ["200", "50"]
    server.pages.clear()
    assert next(darkroom.jobs(state="many")).id == "job1"
    assert len(server.pages) == 1


def test_an_asset_has_a_link(darkroom: Darkroom) -> None:
    assert darkroom.assets.link("asset:pic9", 60) == "/v1/assets/pic9?seconds=60"


def test_several_pictures_are_written_into_a_folder(darkroom: Darkroom, photo: Path, tmp_path: Path) -> None:
    written = darkroom.cleanup(photo, photo).save_all(tmp_path / "made", "clean")
    assert written == [tmp_path / "made" / "clean-1.png"]
    assert written[0].read_bytes().startswith(b"\x89PNG")


def test_a_file_opened_as_text_is_refused_with_what_to_do(darkroom: Darkroom, tmp_path: Path) -> None:
    (tmp_path / "words.txt").write_text("words")
    with (tmp_path / "words.txt").open() as file, pytest.raises(BadInput, match="opened as text") as caught:
        darkroom.caption(file)  # type: ignore[arg-type]
    assert "'rb'" in caught.value.what_to_do


def test_both_clients_have_the_same_operations() -> None:
    names = {kind.method() for kind in own().values()}
    for client in (Darkroom, AsyncDarkroom):
        assert names <= set(dir(client))
