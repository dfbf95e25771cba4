"""What a client asks for in Accept and Prefer, and what it gets."""

from __future__ import annotations

import pytest

from gateway.doors.accept import Preference, Wanted, preference, wanted
from services.errors import BadInput, NotAcceptable
from services.operations import Caption, Operation, RemoveBackground, TextToImage
from services.pictures import Picture

ONE: Operation = RemoveBackground(image=Picture("part:image"))
SEVERAL: Operation = TextToImage(prompt="x", count=3)
WORDS: Operation = Caption(image=Picture("part:image"))


@pytest.mark.parametrize(
    ("accept", "ask", "answer"),
    [
        ("", ONE, Wanted("bytes")),
        ("*/*", ONE, Wanted("bytes")),
        ("*/*", WORDS, Wanted("json")),
        ("*/*", SEVERAL, Wanted("json")),
        ("image/webp", ONE, Wanted("bytes", "webp")),
        ("image/*", ONE, Wanted("bytes")),
        ("image/webp;q=0.5, image/jpeg", ONE, Wanted("bytes", "jpeg")),
        ("application/json", ONE, Wanted("json")),
        ("text/event-stream", SEVERAL, Wanted("events")),
        ("image/png, application/json;q=0.1", SEVERAL, Wanted("json")),
        ("text/html,application/xhtml+xml,image/avif,image/webp,*/*;q=0.8", ONE, Wanted("bytes", "webp")),
        ("*/*;q=0.1, application/json;q=0.2", ONE, Wanted("json")),
    ],
)
def test_the_most_wanted_form_that_fits_is_given(accept: str, ask: Operation, answer: Wanted) -> None:
    assert wanted(accept, ask) == answer


def test_several_pictures_asked_as_one_image_are_refused_with_a_way_out() -> None:
    with pytest.raises(NotAcceptable, match="application/json"):
        wanted("image/png", SEVERAL)


@pytest.mark.parametrize("accept", ["text/html", "video/mp4", "image/gif", "image/png;q=0"])
def test_forms_that_nobody_makes_are_refused(accept: str) -> None:
    with pytest.raises(NotAcceptable):
        wanted(accept, ONE)


def test_a_picture_of_words_is_not_acceptable() -> None:
    with pytest.raises(NotAcceptable):
        wanted("image/png", WORDS)


def test_a_quality_that_is_no_number_is_said() -> None:
    with pytest.raises(NotAcceptable, match="quality"):
        wanted("image/png;q=high", ONE)


def test_prefer_is_understood() -> None:
    assert preference("respond-async, wait=10") == Preference(True, 10)
    assert preference("handling=lenient") == Preference()
    with pytest.raises(BadInput):
        preference("wait=0")
