"""What follows when a job has ended, whoever ended it: leftovers go, metrics and followers hear of it."""

from __future__ import annotations

import logging
import time

from gateway.jobs.events import ending
from gateway.jobs.job import Job
from gateway.state import GatewayState
from services.errors import DarkroomError

log = logging.getLogger("darkroom.jobs")


async def tell_end(state: GatewayState, job: Job) -> None:
    """Call it once, with the job as the store has it now. Its own pictures stay; those of killed attempts go."""
    if job.attempt > 1 or (job.attempt and job.state != "succeeded"):
        try:
            await state.assets.discard_results(job.id, but=[picture["id"] for picture in job.pictures])
        except DarkroomError as error:
            # they expire in any case
            log.warning("pictures of %s could not be deleted: %s", job.id, error.detail)
    state.metrics.job_ended(job.operation, job.state, time.time() - job.created_at)
    if job.pictures:
        state.metrics.pictures(job.operation, len(job.pictures))
    last = ending(job, state.settings.root_path)
    await state.events.append(job.id, job.attempt, last.kind, last.data)
