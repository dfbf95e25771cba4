"""`/v1/jobs`: work that is committed before it is answered 202, and may be read, followed and cancelled."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Header, Query, Request, Response
from pydantic import ValidationError
from starlette.responses import StreamingResponse

from gateway import logs
from gateway.blobs import Blob
from gateway.callers import Caller
from gateway.documents import JobDocument, JobPage, JobRequest, JobState
from gateway.doors import sse
from gateway.doors.deps import State, Who, arriving
from gateway.forms import Form, parse_json
from gateway.intake import from_text
from gateway.jobs.ended import tell_end
from gateway.jobs.events import parse
from gateway.jobs.job import Job
from gateway.jobs.submit import Wishes, submit
from gateway.netguard import check_address
from gateway.problems import documented, from_validation
from gateway.state import GatewayState
from services.errors import (
    BadInput,
    Conflict,
    IdempotencyMismatch,
    Malformed,
    NotFound,
    TooLarge,
    TooManyRequests,
    TooSlow,
    Unavailable,
    UnsupportedMedia,
)
from services.operations import OPERATIONS, Operation

router = APIRouter(tags=["jobs"])
_SUBMIT = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {"schema": {"$ref": "#/components/schemas/JobRequest"}},
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["operation"],
                    "description": "`params` as JSON text; every further part is a picture, named as its parameter, or "
                    "a parameter as text.",
                    "properties": {
                        "operation": {"type": "string"},
                        "params": {"type": "string", "contentMediaType": "application/json"},
                        "priority": {"type": "integer", "minimum": -100, "maximum": 100},
                        "webhook": {"type": "string", "format": "uri"},
                    },
                    "additionalProperties": {"type": "string", "format": "binary"},
                },
                "encoding": {"params": {"contentType": "application/json"}},
            },
        },
    }
}


@router.post(
    "/v1/jobs",
    status_code=202,
    response_model=JobDocument,
    openapi_extra=_SUBMIT,
    responses=documented(
        BadInput,
        IdempotencyMismatch,
        Malformed,
        TooLarge,
        TooSlow,
        TooManyRequests,
        UnsupportedMedia,
        Unavailable,
        NotFound,
        also={200: {"model": JobDocument, "description": "The job that this Idempotency-Key made before."}},
    ),
)
async def create(
    request: Request,
    state: State,
    who: Who,
    _idempotency_key: Annotated[
        str | None, Header(alias="Idempotency-Key", description="Makes a repeat return the first job.")
    ] = None,
) -> Response:
    """Submit a job: it is committed when this answers."""
    async with arriving(state):
        form = await request.scope["darkroom.reader"].form(
            request.headers.get("content-type", ""), request.stream()
        )
    try:
        wanted, operation = requested(form)
        logs.tell(operation=operation.name(), service=operation.service)
        webhook = None
        if wanted.webhook is not None:
            webhook = str(wanted.webhook)
            await check_address(webhook, field="webhook", allow_private=state.settings.webhook_allow_private)
        inner = Form(fields=wanted.params, files=form.files)
        ask, parts = await request.scope["darkroom.intake"].receive(operation, inner, who)
    except BaseException:
        form.discard()
        raise
    said = {**request.headers, "x-request-id": request.scope["request_id"]}
    status, headers, body = await respond(state, ask, parts, who, said, wanted.priority, webhook)
    response = Response(body, status)
    response.raw_headers = headers
    return response


def requested(form: Form) -> tuple[JobRequest, type[Operation]]:
    """What is wanted; in a form the operation's parameters may stand beside `operation` as well as in `params`."""
    fields = {name: value for name, value in form.fields.items() if name in JobRequest.model_fields}
    beside = {name: value for name, value in form.fields.items() if name not in fields}
    if form.text and "params" in fields:
        try:
            fields["params"] = parse_json(fields["params"], "params")
        except orjson.JSONDecodeError as error:
            raise BadInput(f"params must be JSON text: {error}.", field="params") from error
    try:
        wanted = JobRequest.model_validate(fields)
    except ValidationError as error:
        raise from_validation(error) from error
    operation = OPERATIONS.get(wanted.operation)
    if operation is None:
        raise BadInput(
            f"There is no operation {wanted.operation!r}; GET /v1/operations lists them.", field="operation"
        )
    if beside and not form.text:
        name = next(iter(beside))
        where = "belongs into `params`" if name in operation.model_fields else "is not known here"
        raise BadInput(f"{name[:80]}: {where}.", field=name[:80])
    if twice := beside.keys() & wanted.params.keys():
        name = min(twice)
        raise BadInput(f"{name[:80]} is given twice, in `params` and beside it.", field=name[:80])
    wanted.params |= from_text(operation, beside)
    return wanted, operation


async def respond(
    state: GatewayState,
    ask: Operation,
    parts: Mapping[str, Blob],
    caller: Caller,
    headers: Mapping[str, str],
    priority: int = 0,
    webhook: str | None = None,
) -> tuple[int, list[tuple[bytes, bytes]], bytes]:
    """Make the job and its 202; a repeat of an Idempotency-Key is 200 with the first job."""
    try:
        wishes = Wishes(priority, webhook, headers.get("idempotency-key"), headers.get("x-request-id", ""))
        job, created = await submit(state, ask, parts, caller, wishes)
    finally:
        for blob in parts.values():
            blob.discard()
    body = orjson.dumps(job.document(state.settings.root_path))
    location = f"{state.settings.root_path}/v1/jobs/{job.id}"
    return (
        202 if created else 200,
        [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(body)).encode()),
            (b"location", location.encode()),
            (b"preference-applied", b"respond-async"),
        ],
        body,
    )


@router.get("/v1/jobs", response_model=JobPage, responses=documented(BadInput, Unavailable))
async def index(
    state: State,
    who: Who,
    job_state: Annotated[JobState | None, Query(alias="state")] = None,
    operation: Annotated[str | None, Query(max_length=120, pattern=r"^[a-z0-9-]+$")] = None,
    before: Annotated[
        str | None,
        Query(max_length=64, pattern=r"^\w+$", description="Read on from here: `next` of the last page."),
    ] = None,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
) -> dict[str, Any]:
    """Your jobs, newest first; an admin key sees everyone's."""
    owner = None if "admin" in who.scopes else who.key_id
    if before is not None and not before.startswith("job_"):
        raise BadInput("before must be the `next` of the page before.", field="before")
    found = await state.queue.list(owner, job_state, operation, before, limit)
    documents = [job.document(state.settings.root_path) for job in found]
    return {"jobs": documents, "next": found[-1].id if len(found) == limit else None}


async def _own(state: GatewayState, who: Caller, job_id: str) -> Job:
    job = await state.queue.get(job_id)
    if job is None or not who.may_see(job.owner):
        raise NotFound(
            f"There is no job {job_id[:80]!r} that you may see; finished jobs are kept for a set time."
        )
    return job


@router.get(
    "/v1/jobs/{job_id}", response_model=JobDocument, responses=documented(BadInput, NotFound, Unavailable)
)
async def read(job_id: str, state: State, who: Who) -> dict[str, Any]:
    """A job as it stands now."""
    return (await _own(state, who, job_id)).document(state.settings.root_path)


@router.delete(
    "/v1/jobs/{job_id}",
    response_model=JobDocument,
    responses=documented(BadInput, NotFound, Conflict, Unavailable),
)
async def cancel(job_id: str, state: State, who: Who) -> dict[str, Any]:
    """Cancel a job: at once where it waits, within a step where it runs."""
    job = await _own(state, who, job_id)
    if job.final and job.state != "cancelled":
        raise Conflict(f"The job has {job.state}; there is nothing left to cancel.")
    after = await state.queue.cancel(job_id) or job
    if after.final and not job.final:  # it waited; a running one is ended by whoever runs it
        await tell_end(state, after)
    return after.document(state.settings.root_path)


@router.get(
    "/v1/jobs/{job_id}/events",
    response_class=StreamingResponse,
    responses=documented(
        BadInput,
        NotFound,
        Unavailable,
        also={
            200: {
                "description": "Events accepted, progress, preview, result; done or error ends them. "
                "`snapshot` tells where the job stands when earlier events are lost.",
                "content": {"text/event-stream": {}},
            }
        },
    ),
)
async def events(
    job_id: str,
    state: State,
    who: Who,
    last_event_id: Annotated[str | None, Header(alias="Last-Event-ID", max_length=64)] = None,
) -> StreamingResponse:
    """Follow a job; `Last-Event-ID` resumes after that event."""
    await _own(state, who, job_id)
    parse(last_event_id)  # refused before the stream begins

    async def stream() -> AsyncIterator[bytes]:
        yield sse.KEEP_ALIVE
        async for event in state.events.follow(job_id, last_event_id):
            yield sse.KEEP_ALIVE if event is None else sse.encode_event(event.kind, event.data, event.id)

    response = StreamingResponse(stream())
    response.raw_headers = [*sse.HEADERS]
    return response
