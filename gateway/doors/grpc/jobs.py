"""Jobs over gRPC: `Submit`, `Get`, `Watch`, `Cancel`, `List`, and `Fetch` for the pictures that they made.

What a job is and who may see it is decided where HTTP has it decided (doors/jobs.py, jobs/submit.py).
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator
from contextlib import aclosing
from typing import Any, TypeVar, cast

from pydantic import BaseModel, ValidationError

from gateway import logs
from gateway.doors import jobs
from gateway.doors.grpc.arrive import Arrivals
from gateway.doors.grpc.calls import Requests, Rpc, Send
from gateway.doors.grpc.convert import Converter, Found
from gateway.doors.grpc.messages import (
    CHUNK,
    Ask,
    CancelRequest,
    FetchRequest,
    GetRequest,
    ListRequest,
    Submission,
    WatchRequest,
)
from gateway.forms import Form
from gateway.intake import Intake
from gateway.jobs.events import LAST_KINDS, JobEvent, parse
from gateway.jobs.submit import Wishes, submit
from gateway.netguard import check_address
from gateway.problems import from_validation
from gateway.state import GatewayState
from services.errors import Draining, Malformed, NotFound

Asked = TypeVar("Asked", bound=BaseModel)


class Jobs:
    def __init__(self, state: GatewayState, intake: Intake, arrivals: Arrivals, converter: Converter) -> None:
        self._state, self._intake = state, intake
        self._arrivals, self._converter = arrivals, converter

    async def submit(self, rpc: Rpc, requests: Requests, send: Send) -> None:
        state = self._state
        came = await self._arrivals.take(rpc, requests, "submission")
        form = Form(fields=came.fields, files=came.files)
        try:
            logs.tell(operation=came.operation.name(), service=came.operation.service)
            came.head.ClearField("ask")  # it has been taken
            said = self._converter.fields(came.head, "Submission", Found())
            wanted = _validated(Submission, {**said, "ask": Ask()})
            webhook = None if wanted.webhook is None else str(wanted.webhook)
            if webhook is not None:
                await check_address(
                    webhook, field="webhook", allow_private=state.settings.webhook_allow_private
                )
        except BaseException:
            form.discard()
            raise
        ask, parts = await self._intake.receive(came.operation, form, rpc.caller)
        try:
            wishes = Wishes(wanted.priority, webhook, wanted.idempotency_key, rpc.request_id)
            job, _ = await submit(state, ask, parts, rpc.caller, wishes)
        finally:
            for blob in parts.values():
                blob.discard()
        await send(self._job(job.document(state.settings.root_path)))

    async def get(self, rpc: Rpc, requests: Requests, send: Send) -> None:
        asked = await self._asked(GetRequest, requests)
        await send(self._job(await jobs.read(asked.id, self._state, rpc.caller)))

    async def cancel(self, rpc: Rpc, requests: Requests, send: Send) -> None:
        asked = await self._asked(CancelRequest, requests)
        await send(self._job(await jobs.cancel(asked.id, self._state, rpc.caller)))

    async def list(self, rpc: Rpc, requests: Requests, send: Send) -> None:
        asked = await self._asked(ListRequest, requests)
        page = await jobs.index(
            self._state, rpc.caller, asked.state, asked.operation, asked.before, asked.limit
        )
        await send(self._converter.message("JobPage", page))

    async def watch(self, rpc: Rpc, requests: Requests, send: Send) -> None:
        asked = await self._asked(WatchRequest, requests)
        await jobs.read(asked.id, self._state, rpc.caller)
        parse(asked.last_event_id)
        async with aclosing(cast(Any, self._state.events.follow(asked.id, asked.last_event_id))) as events:
            async for event in events:
                if event is None:
                    await send(self._converter.message("JobEvent", {"alive": {}}))
                    continue
                await send(self._event(event))
                if event.kind in LAST_KINDS:
                    return
        if self._state.draining:
            raise Draining("This gateway shuts down; go on after the last event's id.", retry_after=1)
        raise NotFound(f"The job {asked.id!r} is no more.")

    async def fetch(self, rpc: Rpc, requests: Requests, send: Send) -> None:
        asked = await self._asked(FetchRequest, requests)
        asset = await self._state.assets.get(asked.id, rpc.caller)
        await send(self._fetched("asset", asset.document(self._state.settings.root_path)))
        held = bytearray()
        async for piece in await self._state.assets.read(asset):
            held += piece
            if len(held) >= CHUNK:
                whole = len(held) - len(held) % CHUNK
                for data in _pieces(bytes(held[:whole])):
                    await send(self._fetched("chunk", {"name": asset.id, "data": data}))
                del held[:whole]
        if held:
            await send(self._fetched("chunk", {"name": asset.id, "data": bytes(held)}))

    async def _asked(self, model: type[Asked], requests: Requests) -> Asked:
        message = await anext(requests, None)
        if message is None:
            raise Malformed("No message came.")
        return _validated(model, self._converter.fields(message, model.__name__, Found()))

    def _job(self, document: dict[str, Any]) -> Any:
        return self._converter.message("Job", document)

    def _fetched(self, kind: str, values: dict[str, Any]) -> Any:
        return self._converter.message("FetchEvent", {kind: values})

    def _event(self, event: JobEvent) -> Any:
        data = event.data
        if event.kind == "preview":
            head, _, coded = str(data.get("picture", "")).partition(",")
            media_type = head.removeprefix("data:").partition(";")[0]
            data = {**data, "data": _decoded(coded), "media_type": media_type}
        return self._converter.message("JobEvent", {"id": event.id, event.kind: data})


def _validated(model: type[Asked], fields: dict[str, Any]) -> Asked:
    try:
        return model.model_validate(fields)
    except ValidationError as error:
        raise from_validation(error) from error


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode(text)
    except binascii.Error:
        return b""


def _pieces(data: bytes) -> Iterator[bytes]:
    for at in range(0, len(data), CHUNK):
        yield data[at : at + CHUNK]
