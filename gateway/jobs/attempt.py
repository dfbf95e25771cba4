"""One attempt at one job: from a claim and a turn at the service to a result, a failure, or a job put back.

The work runs as a task of its own. Beside it the lease is renewed; where that says that the job was cancelled or
taken from us, or where this gateway drains, the task is cancelled, which hangs up on the service. Pictures of an
attempt that does not become the job's result are deleted.
"""

from __future__ import annotations

import asyncio
import base64
import logging
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from typing import Any, Literal, TypeVar

from pydantic import ValidationError

from gateway.answers import Answer, collect, picture_document
from gateway.blobs import Blob
from gateway.callers import Caller
from gateway.chain import run_chain
from gateway.jobs.ended import tell_end
from gateway.jobs.job import Claim, Job, Outcome
from gateway.state import GatewayState
from gateway.upstream import Call, Turn
from services.errors import (
    BadInput,
    BadUpstream,
    DarkroomError,
    DeadlineExceeded,
    Draining,
    NoEndpoint,
    ServiceFault,
    TooManyRequests,
    Unavailable,
)
from services.frames import Event
from services.operations import OPERATIONS

log = logging.getLogger("darkroom.jobs")

LARGEST_PREVIEW = 64 * 1024
PUT_BACK_PAUSE = 1.0  # seconds before a job that found no room is offered again
LONGEST_PAUSE = 60.0
STORE_PATIENCE = 300.0  # seconds that a result waits for a database that is away
_T = TypeVar("_T")


class Attempt:
    def __init__(self, state: GatewayState, claim: Claim, turn: Turn) -> None:
        self._state, self._claim, self._turn = state, claim, turn
        self._task: asyncio.Task[Answer] | None = None
        self._verdict: Literal["cancelled", "lost", "drained"] | None = None
        self._draining = False
        self._answer = Answer()
        self._progress: dict[str, Any] | None = None
        self._kept: list[str] = []

    @property
    def job(self) -> Job:
        return self._claim.job

    def drain(self) -> None:
        """Hand the job back at its next step."""
        self._draining = True

    def end(self, verdict: Literal["cancelled", "lost", "drained"]) -> None:
        """Stop the work now."""
        self._verdict = self._verdict or verdict
        if self._task is not None:
            self._task.cancel()

    async def run(self) -> None:
        self._task = asyncio.create_task(self._perform(), name=f"job {self.job.id}")
        lease = asyncio.create_task(self._hold(), name=f"lease {self.job.id}")
        if self._verdict is not None:
            self._task.cancel()
        try:
            await asyncio.wait([self._task])
            await self._conclude(self._task)
        finally:
            lease.cancel()
            self._turn.let_go()

    # ── the work ─────────────────────────────────────────────────────────────────────────────────────────────

    async def _perform(self) -> Answer:
        call = await self._call()
        state = self._state
        chain = run_chain(state.upstream, call, turn=self._turn, bounded=False, folder=state.settings.data)
        async with asyncio.timeout_at(call.deadline), aclosing(chain) as stream:
            await collect(stream, self._keep, self._answer, self._tell)
        if call.ask.answers == "pictures" and not self._answer.pictures:
            raise BadUpstream(f"The service {call.service!r} ended its answer without a picture.")
        return self._answer

    async def _call(self) -> Call:
        job = self.job
        operation = OPERATIONS.get(job.operation)
        if operation is None:
            raise BadInput(
                f"This installation has no operation {job.operation!r} any more.", field="operation"
            )
        try:
            ask = operation.model_validate(job.params)
        except ValidationError as error:
            raise BadInput(
                f"The job was submitted to another version of {job.operation}: {error.errors()[0]['msg']}.",
                help="Submit it again.",
            ) from error
        caller = Caller(job.owner, job.owner, weight=job.weight)
        parts: dict[str, Blob] = {}
        for path, picture in ask.pictures().items():
            parts[path] = await self._state.assets.blob(picture.ref.removeprefix("asset:"), caller)
            picture.ref = f"part:{path}"
        deadline = asyncio.get_running_loop().time() + self._state.settings.job_deadline
        return Call(ask, parts, caller, deadline, job.request_id)

    async def _keep(self, event: Event, pieces: AsyncIterator[bytes]) -> dict[str, Any]:
        asset = await self._state.assets.put(
            pieces,
            owner=self.job.owner,
            media_type=str(event.get("media_type", "application/octet-stream")),
            kind="result",
            width=event.get("width"),
            height=event.get("height"),
            seed=event.get("seed"),
            operation=self.job.operation,
            job_id=self.job.id,
        )
        self._kept.append(asset.id)
        return picture_document(asset, str(event.get("role", "picture")))

    async def _tell(self, event: Event, body: bytes) -> None:
        match event.kind:
            case "accepted":
                await self._append("accepted", event.fields)
            case "progress":
                self._progress = {"step": event.get("step", 0), "total": event.get("total")}
                await self._append("progress", event.fields)
            case "preview" if len(body) <= LARGEST_PREVIEW:
                uri = f"data:{event.get('media_type', 'image/jpeg')};base64,{base64.b64encode(body).decode()}"
                await self._append("preview", {**event.fields, "picture": uri})
            case "result":
                await self._append("result", self._answer.pictures[-1])
        if self._draining and event.kind not in ("result", "done"):
            self.end("drained")
            await asyncio.sleep(0)  # where the cancellation arrives

    async def _append(self, kind: str, data: dict[str, Any]) -> None:
        await self._state.events.append(self.job.id, self.job.attempt, kind, data)

    async def _hold(self) -> None:
        """Renew the lease, whether events arrive or not, until it is cancelled or says that the job is not ours."""
        state = self._state
        while True:
            await asyncio.sleep(state.settings.lease / 3)
            try:
                verdict = await state.queue.renew(
                    self._claim, progress=self._progress, model=self._answer.model
                )
            except Unavailable as error:
                # nobody else can take the job either while the database is away
                log.warning("the lease of %s could not be renewed: %s", self.job.id, error.detail)
                continue
            if verdict != "held":
                self.end(verdict)
                return

    # ── what becomes of it ───────────────────────────────────────────────────────────────────────────────────

    async def _conclude(self, task: asyncio.Task[Answer]) -> None:
        if task.cancelled():
            await self._stopped()
            return
        error = task.exception()
        if error is None:
            answer = task.result()
            waited = (self.job.started_at or 0.0) - self.job.created_at
            await self._finish(
                Outcome(
                    "succeeded",
                    answer.pictures,
                    answer.data,
                    answer.model,
                    timing={**answer.timing, "queued_ms": round(waited * 1000, 1)},
                    progress=_whole(self._progress),
                )
            )
            return
        await self._forget()
        if isinstance(error, TimeoutError):
            error = DeadlineExceeded(
                f"The job took longer than {self._state.settings.job_deadline:g} s.", _overall=True
            )
        if not isinstance(error, DarkroomError):
            log.error("the attempt at %s broke", self.job.id, exc_info=error)
            error = ServiceFault("The gateway broke while it worked on this job.")
            await self._put_back(error, costs_attempt=True)
        elif isinstance(error, TooManyRequests | NoEndpoint | Draining):
            await self._put_back(error, costs_attempt=False)
        elif _may_help(error) and self.job.attempt < self.job.attempts_allowed:
            await self._put_back(error, costs_attempt=True)
        else:
            await self._finish(
                Outcome("failed", error=error.problem(), model=self._answer.model, progress=self._progress)
            )

    async def _stopped(self) -> None:
        await self._forget()
        if self._verdict == "cancelled":
            await self._finish(Outcome("cancelled", model=self._answer.model, progress=self._progress))
        elif self._verdict == "drained":
            await self._put_back(Draining("The gateway that worked on it shut down."), costs_attempt=False)
        else:
            log.warning("the lease of %s was lost; what it made is dropped", self.job.id)

    async def _finish(self, outcome: Outcome) -> None:
        queue, job = self._state.queue, self.job
        if not await self._patiently(lambda: queue.finish(self._claim, outcome)):
            log.warning("%s ended after its lease was lost; what it made is dropped", job.id)
            await self._forget()
            return
        ended = await self._patiently(lambda: queue.get(job.id))
        if ended is not None:
            await tell_end(self._state, ended)

    async def _put_back(self, error: DarkroomError, *, costs_attempt: bool) -> None:
        queue, job = self._state.queue, self.job
        pause = 0.0 if isinstance(error, Draining) else PUT_BACK_PAUSE
        if costs_attempt:
            # jittered, so that what broke together does not come back together
            pause = min(LONGEST_PAUSE, 2.0 ** (job.attempt - 1)) * random.uniform(0.5, 1.5)
        after = await self._patiently(
            lambda: queue.release(self._claim, costs_attempt=costs_attempt, reason=error, pause=pause)
        )
        if after is None:
            return
        if after.final:
            await tell_end(self._state, after)
        else:
            if costs_attempt:
                self._state.metrics.job_ended(job.operation, "retried", time.time() - job.created_at)
            await self._append("queued", {"reason": error.problem(), "pause": round(pause, 1)})

    async def _forget(self) -> None:
        """Delete the pictures of an attempt that is not to be seen; what cannot be deleted expires."""
        kept, self._kept = self._kept, []
        if not kept:
            return
        try:
            await self._state.assets.discard(kept)
        except DarkroomError as error:
            log.warning("pictures of %s could not be deleted: %s", self.job.id, error.detail)

    async def _patiently(self, act: Callable[[], Awaitable[_T]]) -> _T:
        """A result outlasts a restart of the database; `finish` and `release` may be asked twice."""
        until = asyncio.get_running_loop().time() + STORE_PATIENCE
        while True:
            try:
                return await act()
            except Unavailable:
                if asyncio.get_running_loop().time() > until:
                    raise
            await asyncio.sleep(0.5)


def _whole(progress: dict[str, Any] | None) -> dict[str, Any] | None:
    """Of work that is done; its last words may have been left out on the way."""
    if progress is None or not progress["total"]:
        return progress
    return {**progress, "step": progress["total"]}


def _may_help(error: DarkroomError) -> bool:
    """Would another attempt be another story? A silent endpoint yes, a job that is too long no."""
    return error.retryable or (isinstance(error, DeadlineExceeded) and not error.extra.get("_overall"))
