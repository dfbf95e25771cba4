"""Every error that Darkroom answers with, drawn as one tree.

    DarkroomError
    ├── BadInput 422            the caller's parameters or pictures
    │   ├── Malformed 400       not JSON, not multipart, not what its content type says
    │   ├── BadPicture 422      a picture that cannot be decoded, or is not allowed
    │   ├── UnknownModel 422
    │   ├── Withheld 422        the safety checker flagged every picture
    │   ├── TooSlow 408         the request's body did not arrive in time
    │   ├── TooLarge 413
    │   ├── UnsupportedMedia 415
    │   ├── HeadTooLarge 431
    │   └── BeyondTheEnd 416    a range of bytes that a picture does not have
    ├── Unauthorized 401
    ├── Forbidden 403
    ├── NotFound 404
    ├── MethodNotAllowed 405
    ├── NotAcceptable 406
    ├── Conflict 409
    ├── IdempotencyMismatch 422
    ├── TooManyRequests 429     waiting helps: `retry_after` says how long
    │   ├── RateLimited
    │   ├── QuotaExceeded
    │   ├── LineFull            our own waiting line
    │   └── AtCapacity          a service that takes no more just now
    ├── Cancelled 499
    ├── ServiceFault 500        the service broke while it worked
    ├── BadUpstream 502         the service answered with something that is no answer
    ├── Unavailable 503
    │   ├── NotConfigured       no such service in this installation
    │   ├── NoEndpoint          configured, but nothing is up
    │   ├── Draining
    │   ├── OutOfMemory         the picture did not fit on the device
    │   └── SchemaMismatch      gateway and service are of different ages
    └── DeadlineExceeded 504

In goes a sentence for a person; out comes RFC 9457 `application/problem+json`, the same over HTTP, in a
frame from a service, and in a job's `error`. `type` is stable; programs may match on it.
"""

from __future__ import annotations

from typing import Any, ClassVar

PROBLEM_JSON = "application/problem+json"
TYPE_PREFIX = "urn:darkroom:problem:"


class DarkroomError(Exception):
    """The root. A subclass names its `slug`, `status`, `title` and what the reader can do (`help`)."""

    slug: ClassVar[str] = "internal"
    status: ClassVar[int] = 500
    title: ClassVar[str] = "Something broke on our side"
    help: ClassVar[str] = "Try again; if it stays, give the operator the request id."
    retryable: ClassVar[bool] = False

    def __init__(
        self,
        detail: str = "",
        *,
        field: str | None = None,
        retry_after: float | None = None,
        help: str | None = None,  # noqa: A002 - the word a reader sees in the problem document
        **extra: Any,
    ) -> None:
        super().__init__(detail or self.title)
        self.detail = detail or self.title
        self.field = field
        self.retry_after = retry_after
        self.what_to_do = help or self.help
        self.extra = extra

    @property
    def type(self) -> str:
        """The stable name of this kind of error."""
        return TYPE_PREFIX + self.slug

    @property
    def request_id(self) -> str | None:
        """What the gateway called the request that failed; its logs have it."""
        found = self.extra.get("request_id")
        return None if found is None else str(found)

    def problem(self) -> dict[str, Any]:
        """The RFC 9457 document."""
        document: dict[str, Any] = {
            "type": TYPE_PREFIX + self.slug,
            "title": self.title,
            "status": self.status,
            "detail": self.detail,
            "help": self.what_to_do,
        }
        if self.field is not None:
            document["field"] = self.field
        if self.retry_after is not None:
            document["retry_after"] = self.retry_after
        return document | {name: value for name, value in self.extra.items() if not name.startswith("_")}


class BadInput(DarkroomError):
    slug, status, title = "bad-input", 422, "A parameter is not valid"
    help = "Correct the field that is named; GET /v1/operations has every operation's schema."


class Malformed(BadInput):
    slug, status, title = "malformed", 400, "The request cannot be read"
    help = "Send multipart/form-data or JSON as /docs shows it."


class BadPicture(BadInput):
    slug, title = "bad-picture", "A picture cannot be used"
    help = "Send a whole PNG, JPEG, WebP, GIF, BMP or TIFF picture within the limits that GET /v1/operations states."


class UnknownModel(BadInput):
    slug, title = "unknown-model", "There is no such model here"
    help = "GET /v1/models lists the names; `auto` always works."


class Withheld(BadInput):
    slug, title = "withheld", "The safety checker withheld every picture"
    help = "Ask with other words or another seed; an operator can turn the checker off with DARKROOM_SAFETY."


class TooSlow(BadInput):
    slug, status, title = "too-slow", 408, "The request did not arrive in time"
    help = "Send the body faster, or upload the pictures first: POST /v1/assets."


class TooLarge(BadInput):
    slug, status, title = "too-large", 413, "The request or a picture in it is too large"
    help = "Send fewer bytes or fewer pixels; the detail names the limit."


class UnsupportedMedia(BadInput):
    slug, status, title = "unsupported-media", 415, "This content type is not understood"
    help = "Use multipart/form-data or application/json."


class HeadTooLarge(BadInput):
    slug, status, title = "head-too-large", 431, "The request's headers are too large"
    help = "Send fewer and shorter headers."


class BeyondTheEnd(BadInput):
    slug, status, title = "beyond-the-end", 416, "The picture is shorter than that"
    help = "Ask for a range within the size that Content-Range tells."


class Unauthorized(DarkroomError):
    slug, status, title = "unauthorized", 401, "A key is needed"
    help = "Send `Authorization: Bearer KEY`; an operator makes one with `darkroom keys create`."


class Forbidden(DarkroomError):
    slug, status, title = "forbidden", 403, "This is not allowed to you"
    help = "Use a key with the scope that the detail names."


class NotFound(DarkroomError):
    slug, status, title = "not-found", 404, "There is nothing here"
    help = "Look at /docs for what can be called; jobs and assets are kept only for a set time."


class MethodNotAllowed(DarkroomError):
    slug, status, title = "method-not-allowed", 405, "This path does not take that method"
    help = "The Allow header names the methods that it takes."


class NotAcceptable(DarkroomError):
    slug, status, title = "not-acceptable", 406, "The answer has no form that was asked for"
    help = "Accept application/json, which can carry every answer."


class Conflict(DarkroomError):
    slug, status, title = "conflict", 409, "The state of the thing does not allow this"
    help = "Read it again, then decide."


class IdempotencyMismatch(DarkroomError):
    slug, status, title = "idempotency-mismatch", 422, "This Idempotency-Key was used with another request"
    help = "Use a fresh key for a new request."


class TooManyRequests(DarkroomError):
    slug, status, title = "too-many-requests", 429, "Too many requests"
    help = "Wait as long as Retry-After says."
    retryable = True


class RateLimited(TooManyRequests):
    slug, title = "rate-limited", "This key asks too often"


class QuotaExceeded(TooManyRequests):
    slug, title = "quota-exceeded", "This key has used up its quota"
    help = "Wait for the next day (UTC), or ask the operator for a larger quota."
    retryable = False


class LineFull(TooManyRequests):
    slug, title = "line-full", "Too many calls wait for this service"


class AtCapacity(TooManyRequests):
    slug, title = "at-capacity", "The service takes no more work just now"


class Cancelled(DarkroomError):
    slug, status, title = "cancelled", 499, "The work was cancelled"
    help = "Ask again if it was not meant."


class ServiceFault(DarkroomError):
    slug, title = "service-fault", "The service broke while it worked on this"


class BadUpstream(DarkroomError):
    slug, status, title = "bad-upstream", 502, "A service gave no proper answer"
    help = "Try again; the service may have just died and be starting anew."
    retryable = True


class Unavailable(DarkroomError):
    slug, status, title = "unavailable", 503, "The service is not available"
    help = "Try again in a moment; `darkroom doctor` tells an operator what is away."
    retryable = True


class NotConfigured(Unavailable):
    slug, title = "not-configured", "This installation does not have that service"
    help = (
        "GET /v1/operations says what this installation can do. `darkroom up` starts all services that are part of it; "
        "DARKROOM_SERVICES names others."
    )
    retryable = False


class NoEndpoint(Unavailable):
    slug, title = "no-endpoint", "The service is configured, but nothing of it is up"


class Draining(Unavailable):
    slug, title = "draining", "This process is shutting down"


class OutOfMemory(Unavailable):
    slug, title = "out-of-memory", "The work did not fit into the device's memory"
    help = "Ask for a smaller picture or fewer of them, or try again when less is running."


class SchemaMismatch(Unavailable):
    slug, title = "schema-mismatch", "Gateway and service are of different versions"
    help = "Finish the rollout: a service accepts the schemas of its own version and the one before."


class DeadlineExceeded(DarkroomError):
    slug, status, title = "deadline-exceeded", 504, "It took longer than allowed"
    help = "Ask with a longer deadline, or submit it as a job: POST /v1/jobs."


def family(root: type[DarkroomError] = DarkroomError) -> list[type[DarkroomError]]:
    """`root` and all that descend from it, in the order of the tree."""
    return [root] + [kind for child in root.__subclasses__() for kind in family(child)]


def from_problem(document: dict[str, Any]) -> DarkroomError:
    """The exception that a problem document stands for; an unknown type becomes a ServiceFault."""
    rest = dict(document)
    slug = str(rest.pop("type", "")).removeprefix(TYPE_PREFIX)
    kind = next((k for k in family() if k.slug == slug), ServiceFault)
    detail, help_ = str(rest.pop("detail", "")), rest.pop("help", None)
    field, retry_after = rest.pop("field", None), rest.pop("retry_after", None)
    for fixed in ("title", "status"):
        rest.pop(fixed, None)
    return kind(detail, field=field, retry_after=retry_after, help=help_, **rest)
