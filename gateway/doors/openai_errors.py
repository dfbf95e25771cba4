"""An error as OpenAI's clients read it: `error` with message, type, param and code.

OpenAI's `/v1/models` is the native door's too: a problem document there carries OpenAI's member beside its own, so that
both kinds of clients find a sentence.
"""

from __future__ import annotations

from typing import Any

from gateway.desk import sentence
from services.errors import (
    BadInput,
    DarkroomError,
    Forbidden,
    QuotaExceeded,
    TooManyRequests,
    Unauthorized,
    UnknownModel,
)

_SHARED = "/v1/models"


def member(error: DarkroomError, message: str) -> dict[str, Any]:
    """What stands under `error`."""
    code: str | None = error.slug.replace("-", "_")
    match error:
        case UnknownModel():
            kind, code = "invalid_request_error", "model_not_found"
        case Unauthorized():
            kind, code = "invalid_request_error", "invalid_api_key"
        case QuotaExceeded():
            kind = code = "insufficient_quota"
        case TooManyRequests():
            kind, code = "requests", "rate_limit_exceeded"
        case BadInput() | Forbidden():
            kind = "invalid_request_error"
        case _ if error.status < 500:
            kind = "invalid_request_error"
        case _:
            kind = "server_error"
    return {"message": message, "type": kind, "param": error.field, "code": code}


def beside(error: DarkroomError, path: str) -> DarkroomError:
    """The error, with what OpenAI's clients read where they may have asked."""
    if path == _SHARED or path.startswith(_SHARED + "/"):
        found = member(error, sentence(error))
        if error.status == 404:
            found["code"] = "model_not_found"
        error.extra.setdefault("error", found)
    return error
