"""A refusal: a gRPC status code and a sentence, and the HTTP status that TensorFlow Serving's REST gives for
it."""

from __future__ import annotations

import grpc

Code = grpc.StatusCode

# tensorflow_serving/model_servers/http_server.cc, ToHTTPStatusCode
HTTP = {
    Code.OK: 200,
    Code.CANCELLED: 499,
    Code.UNKNOWN: 500,
    Code.INVALID_ARGUMENT: 400,
    Code.DEADLINE_EXCEEDED: 504,
    Code.NOT_FOUND: 404,
    Code.ALREADY_EXISTS: 409,
    Code.PERMISSION_DENIED: 403,
    Code.RESOURCE_EXHAUSTED: 429,
    Code.FAILED_PRECONDITION: 400,
    Code.ABORTED: 409,
    Code.OUT_OF_RANGE: 400,
    Code.UNIMPLEMENTED: 501,
    Code.INTERNAL: 500,
    Code.UNAVAILABLE: 503,
    Code.DATA_LOSS: 500,
    Code.UNAUTHENTICATED: 401,
}
# grpc_status_util.cc
_LIMIT = 1024


class Refused(Exception):
    """What a request, or a model's folder, is refused with."""

    def __init__(self, code: grpc.StatusCode, message: str, http: int | None = None) -> None:
        super().__init__(message)
        self.code, self.message = code, message
        self.http = HTTP[code] if http is None else http

    @property
    def details(self) -> str:
        """The message as gRPC carries it: a header, so not without bound."""
        return self.message if len(self.message) <= _LIMIT else self.message[:_LIMIT] + "...TRUNCATED"

    @property
    def number(self) -> int:
        """The code as `StatusProto.error_code` writes it."""
        value: int = self.code.value[0]
        return value


def invalid(message: str) -> Refused:
    return Refused(Code.INVALID_ARGUMENT, message)
