"""From a validated request to a durable job: its pictures become assets, then the job is committed."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

import orjson

from gateway.assets import Asset
from gateway.blobs import Blob
from gateway.callers import Caller
from gateway.intake import draw_seed
from gateway.jobs.job import Job, NewJob
from gateway.state import GatewayState
from services.errors import BadInput
from services.operations import Operation

MAX_IDEMPOTENCY_KEY = 255


@dataclass(frozen=True, slots=True)
class Wishes:
    """What a caller may say about a job beside what it shall do."""

    priority: int = 0
    webhook: str | None = None
    idempotency_key: str | None = None
    request_id: str = ""


async def submit(
    state: GatewayState, ask: Operation, parts: Mapping[str, Blob], caller: Caller, wishes: Wishes
) -> tuple[Job, bool]:
    """The job, and whether it is new: an Idempotency-Key that was seen gives the first one."""
    state.upstream.pool(ask.performed_by())  # refuses at once where the service is not configured
    if wishes.idempotency_key is not None and not 0 < len(wishes.idempotency_key) <= MAX_IDEMPOTENCY_KEY:
        raise BadInput(
            f"An Idempotency-Key has 1 to {MAX_IDEMPOTENCY_KEY} characters.", field="Idempotency-Key"
        )
    given = ask.model_dump(mode="json", exclude_unset=True)
    inputs: dict[str, Asset] = {}
    reservation = await state.limits.reserve_pictures(caller, ask.count_asked())
    created = False
    try:
        for path, blob in parts.items():
            inputs[path] = await state.assets.put(
                blob.pieces(),
                owner=caller.key_id,
                media_type=blob.media_type,
                kind="input",
                operation=ask.name(),
            )
        fingerprint = _fingerprint(ask, given, inputs, wishes)
        for path, picture in ask.pictures().items():
            picture.ref = f"asset:{inputs[path].id}"
        draw_seed(ask)
        job, created = await state.queue.submit(
            NewJob(
                owner=caller.key_id,
                operation=ask.name(),
                service=ask.performed_by(),
                params=ask.model_dump(mode="json", exclude_none=True),
                priority=wishes.priority,
                weight=caller.weight,
                webhook=wishes.webhook,
                request_id=wishes.request_id,
                idempotency_key=wishes.idempotency_key,
                body_hash=fingerprint,
                concurrent_jobs=caller.concurrent_jobs,
            )
        )
    finally:
        state.limits.settle(reservation, reservation.reserved or ask.count_asked() if created else 0)
        if not created and inputs:
            await state.assets.discard([asset.id for asset in inputs.values()])
    return job, created


def _fingerprint(
    ask: Operation, given: dict[str, object], inputs: Mapping[str, Asset], wishes: Wishes
) -> str:
    """What makes two requests the same: what was asked, and the pictures' own bytes rather than their names."""
    pictures = {path: asset.sha256 for path, asset in inputs.items()}
    whole = [ask.name(), given, pictures, wishes.priority, wishes.webhook]
    return hashlib.sha256(orjson.dumps(whole, option=orjson.OPT_SORT_KEYS)).hexdigest()
