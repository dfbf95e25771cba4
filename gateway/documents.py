"""The JSON documents that the gateway answers with, as models: their schemas are the OpenAPI's."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import AnyUrl, BaseModel, ConfigDict, Field

JobState = Literal["queued", "running", "succeeded", "failed", "cancelled"]


class Document(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Problem(BaseModel):
    """What went wrong and what to do about it (RFC 9457)."""

    model_config = ConfigDict(extra="allow")

    type: str = Field(
        description="Stable; programs may match on it.", examples=["urn:darkroom:problem:bad-picture"]
    )
    title: str
    status: int
    detail: str
    help: str = Field(description="What the reader can do.")
    field: str | None = Field(None, description="The parameter at fault.")
    retry_after: float | None = Field(None, description="Seconds after which to try again.")
    request_id: str | None = None


class PictureDocument(Document):
    id: str = Field(examples=["ast_0f3a5c6b7d8e9f0a1b2c3d4e5f"])
    url: str = Field(description="Where its bytes are, relative to the gateway.")
    role: str = Field(description="`picture`, or `map` for the control map that was used.")
    media_type: str
    width: int | None
    height: int | None
    bytes: int
    seed: int | None


class Progress(Document):
    step: int
    total: int | None = None


class JobDocument(Document):
    """A piece of work: what was asked, how far it is, what came out."""

    id: str
    operation: str
    service: str
    state: JobState
    params: dict[str, Any]
    priority: int = Field(description="Among one key's jobs: higher goes first.")
    attempt: int
    attempts_allowed: int
    model: str | None = Field(description="The model that did it; what `auto` became.")
    progress: Progress | None
    pictures: list[PictureDocument]
    data: Any = Field(None, description="What an operation says that answers with data.")
    error: Problem | None
    created_at: str = Field(description="RFC 3339, UTC.")
    started_at: str | None
    finished_at: str | None
    timing: dict[str, Any]
    webhook: str | None
    links: dict[str, str]


class JobPage(Document):
    jobs: list[JobDocument]
    next: str | None = Field(description="Give it as `before` to read on; null at the end.")


class JobRequest(Document):
    """What is asked for with POST /v1/jobs."""

    operation: str = Field(max_length=120, examples=["remove-background"])
    params: dict[str, Any] = Field(default_factory=dict, description="As the operation's schema says.")
    priority: int = Field(0, ge=-100, le=100, description="Among your own jobs: higher goes first.")
    webhook: AnyUrl | None = Field(None, description="An https address that is told when the job has ended.")


class AssetDocument(Document):
    """A picture that is kept."""

    id: str
    url: str
    media_type: str
    bytes: int
    width: int | None
    height: int | None
    seed: int | None
    operation: str | None
    job: str | None
    kind: str
    sha256: str
    created_at: str
    expires_at: str


class AssetPage(Document):
    assets: list[AssetDocument]
    next: str | None


class SignedLink(Document):
    url: str = Field(description="Anyone who has it can read the picture until it expires.")
    expires_at: str


class OperationDocument(Document):
    name: str
    summary: str
    service: str
    available: bool
    reason: str | None = Field(description="Why it is not available.")
    answers: Literal["pictures", "data"]
    pictures: dict[str, Literal["picture", "mask"]] = Field(
        description="The fields that hold a picture each."
    )
    url: str
    params: dict[str, Any] = Field(description="The parameters' JSON Schema.")


class Limits(Document):
    max_body: int
    max_picture_bytes: int
    max_pixels: int
    max_side: int
    max_lora_bytes: int
    deadline: float


class OperationList(Document):
    operations: list[OperationDocument]
    limits: Limits


class ModelDocument(BaseModel):
    """A model; the first four fields are those of OpenAI's list."""

    model_config = ConfigDict(extra="allow")

    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: str
    service: str
    loaded: bool


class ModelList(Document):
    object: Literal["list"] = "list"
    data: list[ModelDocument]


class TrackHealth(Document):
    track: Literal["stable", "canary"]
    share: float
    up: int
    in_flight: int
    models: list[str]
    versions: list[str]


class ServiceHealth(Document):
    ready: bool
    endpoints: int
    up: int
    reason: str | None
    tracks: list[TrackHealth]


class Readiness(Document):
    ready: bool
    services: dict[str, ServiceHealth]
    reasons: list[str]
    ports: dict[str, int]  # of gRPC, where it is open: `grpc`, and `inference` for other servers' clients
