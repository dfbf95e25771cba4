"""Errors on their way out over gRPC: one of ours in, a code and `google.rpc.Status` out.

google.rpc.ErrorInfo     reason (BAD_PICTURE), domain `darkroom`; type, title and help as HTTP's problem has them
google.rpc.BadRequest    which fields are wrong, and why
google.rpc.RetryInfo     how long to wait
google.rpc.RequestInfo   the request's id
"""

from __future__ import annotations

from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, RequestInfo, RetryInfo
from google.rpc.status_pb2 import Status
from grpc import StatusCode

from gateway.desk import sentence
from services.errors import (
    TYPE_PREFIX,
    BadInput,
    BadUpstream,
    Cancelled,
    Conflict,
    DarkroomError,
    DeadlineExceeded,
    Forbidden,
    IdempotencyMismatch,
    MethodNotAllowed,
    NotAcceptable,
    NotConfigured,
    NotFound,
    TooManyRequests,
    TooSlow,
    Unauthorized,
    Unavailable,
    Withheld,
)

DETAILS = "grpc-status-details-bin"
DOMAIN = "darkroom"
MOST_WORDS = 1024  # of a sentence: what gRPC sends about an error is limited to 8 KB in all
_CODES: dict[type[DarkroomError], StatusCode] = {
    TooSlow: StatusCode.DEADLINE_EXCEEDED,
    Withheld: StatusCode.FAILED_PRECONDITION,
    BadInput: StatusCode.INVALID_ARGUMENT,
    Unauthorized: StatusCode.UNAUTHENTICATED,
    Forbidden: StatusCode.PERMISSION_DENIED,
    NotFound: StatusCode.NOT_FOUND,
    MethodNotAllowed: StatusCode.UNIMPLEMENTED,
    NotAcceptable: StatusCode.INVALID_ARGUMENT,
    Conflict: StatusCode.FAILED_PRECONDITION,
    IdempotencyMismatch: StatusCode.ALREADY_EXISTS,
    TooManyRequests: StatusCode.RESOURCE_EXHAUSTED,
    Cancelled: StatusCode.CANCELLED,
    BadUpstream: StatusCode.UNAVAILABLE,
    NotConfigured: StatusCode.UNIMPLEMENTED,
    Unavailable: StatusCode.UNAVAILABLE,
    DeadlineExceeded: StatusCode.DEADLINE_EXCEEDED,
}


def code_of(error: DarkroomError) -> StatusCode:
    """By the nearest class in the tree that has a code; what broke on our side is INTERNAL."""
    return next((_CODES[kind] for kind in type(error).__mro__ if kind in _CODES), StatusCode.INTERNAL)


def encode(error: DarkroomError, request_id: str) -> tuple[StatusCode, str, bytes]:
    """Code, sentence, and the serialized status with its details."""
    code: StatusCode = error.extra.get("_code") or code_of(
        error
    )  # another server's own, where it is passed on
    told = _sentence(error)
    status = Status(code=code.value[0], message=told)
    for detail in _details(error, request_id):
        status.details.add().Pack(detail)
    return code, told, status.SerializeToString()


def _sentence(error: DarkroomError) -> str:
    """What is wrong and what to do about it: many clients show no more than this, and no details."""
    if words := error.extra.get("_words"):  # another server's own, which its clients may look for
        return str(words)[:MOST_WORDS]
    said = error.what_to_do in error.detail
    return sentence(error, "" if said else None)[:MOST_WORDS].rstrip()


def _details(error: DarkroomError, request_id: str) -> list[Message]:
    about = {
        "type": TYPE_PREFIX + error.slug,
        "title": error.title,
        "help": error.what_to_do[:MOST_WORDS],
        "status": str(error.status),
    }
    reason = error.slug.upper().replace("-", "_")
    details: list[Message] = [ErrorInfo(reason=reason, domain=DOMAIN, metadata=about)]
    found = error.extra.get("errors") or [{"field": error.field, "detail": error.detail}]
    wrong = [
        BadRequest.FieldViolation(field=one["field"], description=one["detail"][:200], reason=reason)
        for one in found
        if one["field"]
    ]
    if wrong:
        details.append(BadRequest(field_violations=wrong))
    if error.retry_after is not None:
        wait = Duration()
        wait.FromMilliseconds(max(1, round(error.retry_after * 1000)))
        details.append(RetryInfo(retry_delay=wait))
    details.append(RequestInfo(request_id=request_id))
    return details
