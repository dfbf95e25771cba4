"""Every error, as a problem document and back."""

from __future__ import annotations

import pytest

from services.errors import DarkroomError, ServiceFault, family, from_problem

# without those that only word their help differently, wherever a module that was imported has one
KINDS = [kind for kind in family() if "slug" in vars(kind)]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.slug)
def test_a_problem_becomes_the_same_error_again(kind: type[DarkroomError]) -> None:
    error = kind("What happened.", field="image", retry_after=2.5, help="Do this.", request_id="abc")
    again = from_problem(error.problem())
    assert type(again) is kind
    assert again.problem() == error.problem()


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.slug)
def test_a_bare_error_says_what_it_is_and_what_to_do(kind: type[DarkroomError]) -> None:
    document = kind().problem()
    assert document["type"].startswith("urn:darkroom:problem:")
    assert document["title"]
    assert document["help"]
    assert 400 <= document["status"] < 600
    assert "field" not in document
    assert "retry_after" not in document


def test_no_two_errors_share_a_type() -> None:
    slugs = [kind.slug for kind in KINDS]
    assert len(set(slugs)) == len(slugs)


def test_an_unknown_type_is_a_fault_of_the_service() -> None:
    assert isinstance(
        from_problem({"type": "urn:darkroom:problem:from-the-future", "detail": "?"}), ServiceFault
    )
    assert isinstance(from_problem({}), ServiceFault)
