"""Every error has a code that tells a client what to do about it, and details that programs can read."""

from __future__ import annotations

import pytest
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status
from grpc import StatusCode

from gateway.doors.grpc.errors import code_of, encode
from services.errors import BadInput, DarkroomError, NotFound, RateLimited, family


@pytest.mark.parametrize("kind", family(), ids=lambda kind: kind.slug)
def test_only_what_broke_on_our_side_is_internal(kind: type[DarkroomError]) -> None:
    code = code_of(kind())
    assert (code is StatusCode.INTERNAL) == (kind.status == 500)
    assert code not in (StatusCode.UNKNOWN, StatusCode.OK)
    if kind.retryable:
        assert code in (StatusCode.UNAVAILABLE, StatusCode.RESOURCE_EXHAUSTED)


@pytest.mark.parametrize(
    ("detail", "sentence"),
    [
        ("There is no model 'nobody'.", "There is no model 'nobody'. Loaded are: telea."),
        ("steps: must be less", "steps: must be less. Loaded are: telea."),
        ("Use Loaded are: telea.", "Use Loaded are: telea."),
    ],
)
def test_the_status_message_says_what_to_do_since_many_clients_show_no_details(
    detail: str, sentence: str
) -> None:
    _, said, packed = encode(NotFound(detail, help="Loaded are: telea."), "r")
    assert (said, Status.FromString(packed).message) == (sentence, sentence)


def test_what_another_server_said_is_passed_on_as_it_is() -> None:
    fault = NotFound("No such version.", help="There are 1 and 2.", _words="Servable not found")
    assert encode(fault, "r")[1] == "Servable not found"


def test_the_details_say_which_fields_and_how_long_to_wait() -> None:
    wrong = [{"field": "steps", "detail": "must be less"}, {"field": "", "detail": "all of it"}]
    code, sentence, packed = encode(BadInput("steps: must be less", field="steps", errors=wrong), "r1")
    status = Status.FromString(packed)
    assert (code, status.message) == (StatusCode.INVALID_ARGUMENT, sentence)
    assert sentence == f"steps: must be less. {BadInput.help}".rstrip()
    info, request = ErrorInfo(), BadRequest()
    assert status.details[0].Unpack(info)
    assert (info.reason, info.metadata["status"]) == ("BAD_INPUT", "422")
    assert status.details[1].Unpack(request)
    assert [(one.field, one.description) for one in request.field_violations] == [("steps", "must be less")]
    _, _, packed = encode(RateLimited("wait", retry_after=0.25), "r2")
    retry = RetryInfo()
    assert Status.FromString(packed).details[1].Unpack(retry)
    assert retry.retry_delay.ToMilliseconds() == 250


def test_however_much_there_is_to_say_it_fits_into_what_a_trailer_may_hold() -> None:
    wrong = [{"field": f"controls.{at}.keypoints.people", "detail": "x" * 5000} for at in range(16)]
    _, sentence, packed = encode(BadInput("ä" * 100_000, field="x", errors=wrong), "r")
    assert len(packed) + len(sentence.encode()) * 3 < 16_000
