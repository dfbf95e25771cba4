"""What is said over gRPC beside the operations themselves, declared as models from which the messages are made.

A field's Python type becomes its type on the wire (shapes.py). What the gateway tells in JSON elsewhere (jobs,
pictures, problems) is taken from documents.py, so that both doors tell the same.
"""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import AnyUrl, BaseModel, ConfigDict, Field

from gateway.documents import (
    AssetDocument,
    JobDocument,
    JobPage,
    JobState,
    PictureDocument,
    Problem,
    Progress,
)

PACKAGE = "darkroom.v1"
SERVICE = f"{PACKAGE}.Darkroom"
CHUNK = 2**20  # bytes: a larger picture comes in pieces of this size


class Message(BaseModel):
    model_config = ConfigDict(extra="forbid", arbitrary_types_allowed=True)


class OneOf(Message):
    """A message of which one field is set; those that are always there are named in `beside`."""

    beside: ClassVar[frozenset[str]] = frozenset()


# ── pictures ──────────────────────────────────────────────────────────────────────────────────────────────────


class PictureSource(OneOf):
    """A picture that goes in."""

    data: bytes = Field(description="The file's bytes, up to 1 MB; a larger one comes in chunks.")
    chunks: str = Field(description="The name under which chunks follow that together are the file.")
    asset: str = Field(description="The id of a picture that is kept here.")
    url: str = Field(description="An http(s) address from which the gateway fetches it.")


class FileSource(OneOf):
    """A model's file (safetensors) that goes in."""

    data: bytes = Field(description="The file's bytes, up to 1 MB; a larger one comes in chunks.")
    chunks: str = Field(description="The name under which chunks follow that together are the file.")
    asset: str = Field(description="The id of a file that is kept here.")


class Chunk(Message):
    """The next piece of a file."""

    name: str = Field(description="Which file: as its `chunks` says; `result.0` for the first result.")
    data: bytes = Field(description="1 MB is a good size; a message may have 4 MB.")


# ── Run ───────────────────────────────────────────────────────────────────────────────────────────────────────


class Ask(OneOf):
    """One operation; its fields are filled in by shapes.py, one for each that is declared."""


class RunRequest(OneOf):
    """First what is asked, then the chunks of pictures that it announces, in any order."""

    ask: Ask
    chunk: Chunk


class Accepted(Message):
    """The work has a place."""

    model: str | None = Field(description="What `auto` became.")
    version: str | None


class Preview(Message):
    """A small picture of work in progress."""

    data: bytes
    media_type: str
    width: int | None
    height: int | None


class Result(Message):
    """A finished picture."""

    index: int
    role: str = Field(description="`picture`, or `map` for the control map that was used.")
    media_type: str
    width: int | None
    height: int | None
    seed: int | None
    withheld: bool = Field(description="The safety checker blacked it out.")
    size: int = Field(description="The file's bytes.")
    data: bytes | None = Field(description="The file, up to 1 MB; of a larger one chunks follow.")


class Done(Message):
    """The end."""

    model: str | None
    data: Any = Field(description="What an operation says that answers with data.")
    timing: dict[str, Any]


class Alive(Message):
    """Nothing new."""


class RunEvent(OneOf):
    """What happens while an operation runs; `done` is the last."""

    accepted: Accepted
    progress: Progress
    preview: Preview
    result: Result
    chunk: Chunk
    alive: Alive
    done: Done


# ── jobs ──────────────────────────────────────────────────────────────────────────────────────────────────────


class Submission(Message):
    """A job to be made."""

    ask: Ask
    priority: int = Field(0, ge=-100, le=100, description="Among your own jobs: higher goes first.")
    webhook: AnyUrl | None = Field(None, description="An https address that is told when the job has ended.")
    idempotency_key: str | None = Field(None, description="Makes a repeat return the first job.")


class SubmitRequest(OneOf):
    """First the job, then the chunks of pictures that it announces, in any order."""

    submission: Submission
    chunk: Chunk


class GetRequest(Message):
    id: str = Field("", max_length=64)


class CancelRequest(Message):
    id: str = Field("", max_length=64)


class WatchRequest(Message):
    id: str = Field("", max_length=64)
    last_event_id: str | None = Field(None, max_length=64, description="Resumes after that event.")


class ListRequest(Message):
    state: JobState | None = None
    operation: str | None = Field(None, max_length=120, pattern=r"^[a-z0-9-]+$")
    before: str | None = Field(
        None, max_length=64, pattern=r"^\w+$", description="Read on from here: `next` of the last page."
    )
    limit: int = Field(50, ge=1, le=200)


class Queued(Message):
    """An attempt failed, and another will come."""

    reason: Problem
    pause: float = Field(description="Seconds until then.")


class Failed(Problem):
    """The job has failed, or was cancelled."""

    job: JobDocument


class JobEvent(OneOf):
    """What happened to a job; `done` and `error` are the last."""

    beside = frozenset({"id"})

    id: str | None = Field(description="Give it as `last_event_id` to go on after this event.")
    accepted: Accepted
    progress: Progress
    preview: Preview
    result: PictureDocument
    queued: Queued
    snapshot: JobDocument = Field(description="Where the job stands, where earlier events are lost.")
    alive: Alive
    done: JobDocument
    error: Failed


class FetchRequest(Message):
    """A picture that is kept: one of a job's results."""

    id: str = Field("", max_length=64)


class FetchEvent(OneOf):
    """First what it is, then its bytes."""

    asset: AssetDocument
    chunk: Chunk


# the name that a message has where it is not its class's own
NAMES: dict[type[BaseModel], str] = {
    PictureSource: "Picture",
    FileSource: "File",
    JobDocument: "Job",
    JobPage: "JobPage",
    PictureDocument: "KeptPicture",
    AssetDocument: "Asset",
}

# each method: what is sent, what comes back, and whether it is a stream
METHODS: dict[str, tuple[type[BaseModel], bool, type[BaseModel], bool, str]] = {
    "Run": (
        RunRequest,
        True,
        RunEvent,
        True,
        "Do an operation now: progress, previews, results as they come.",
    ),
    "Submit": (SubmitRequest, True, JobDocument, False, "Make a job: it is committed when this answers."),
    "Get": (GetRequest, False, JobDocument, False, "A job as it stands now."),
    "Watch": (WatchRequest, False, JobEvent, True, "Follow a job to its end; resumes after an event's id."),
    "Cancel": (
        CancelRequest,
        False,
        JobDocument,
        False,
        "Cancel a job: at once where it waits, within a step where it runs.",
    ),
    "List": (ListRequest, False, JobPage, False, "Your jobs, newest first; an admin key sees everyone's."),
    "Fetch": (FetchRequest, False, FetchEvent, True, "The bytes of a picture that is kept."),
}
