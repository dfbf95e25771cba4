"""What a foreign door says of an error: in the words of its own clients."""

from __future__ import annotations

import pytest

from gateway.desk import sentence
from gateway.doors.dialect import Dialect, called
from gateway.doors.openai_errors import beside
from gateway.doors.rembg import Rembg
from services.errors import BadInput, BadPicture, DarkroomError, NotFound, TooLarge, Unauthorized, Withheld
from services.pictures import GIVEN


@pytest.fixture
def door() -> Dialect:
    return Rembg.__new__(Rembg)  # what it says needs no desk


@pytest.mark.parametrize(
    ("detail", "begins"),
    [
        ("an address", "an address. Correct"),
        ("Is it?", "Is it? Correct"),
        ("It broke: no.", "It broke: no. Correct"),
        ("It broke: no..", "It broke: no. Correct"),
        ("And so on...", "And so on... Correct"),
    ],
)
def test_what_is_wrong_and_what_to_do_are_two_sentences(detail: str, begins: str) -> None:
    assert sentence(BadInput(detail)).startswith(begins)


def test_the_usual_help_is_said_in_the_doors_words_and_an_errors_own_is_kept(door: Dialect) -> None:
    assert door.what_to_do(BadInput("x")) == "Correct the field that is named."
    assert door.what_to_do(NotFound()) == "Backgrounds are removed at /api/remove."
    assert door.what_to_do(BadInput("x", help="Do that.")) == "Do that."
    for kind in (Withheld, TooLarge, DarkroomError):  # theirs is not that of the kind above them
        assert door.what_to_do(kind()) == kind.help


def test_how_a_picture_is_given_is_said_as_the_door_takes_it(door: Dialect) -> None:
    error = BadPicture(f"image: is not a picture: send {GIVEN}", field="image")
    with pytest.raises(BadPicture), called({"image": "file"}):
        raise error
    assert door.told(error).startswith(
        "file: is not a picture: send a file, or the address of one as `url`. Send"
    )
    assert error.field == "file"


@pytest.mark.parametrize("path", ["/v1/models", "/v1/models/a/b"])
def test_an_error_at_the_models_carries_openais_member(path: str) -> None:
    problem = beside(Unauthorized("No such key."), path).problem()
    assert problem["error"]["code"] == "invalid_api_key"
    assert problem["error"]["message"].startswith("No such key. ")
    assert problem["type"] == "urn:darkroom:problem:unauthorized"


def test_an_error_elsewhere_does_not() -> None:
    assert "error" not in beside(NotFound(), "/v1/modelsx").problem()
