"""`darkroom jobs`: list, show, watch, cancel and submit work that outlives the command."""

from __future__ import annotations

import time
from typing import Annotated

import typer

from gateway.cli.flags import URL
from gateway.cli.operations import JobGroup

app = typer.Typer(help="List, follow and cancel jobs.", no_args_is_help=True)
app.add_typer(
    typer.Typer(cls=JobGroup, no_args_is_help=True), name="submit", help="Submit an operation as a job."
)

CANCEL_PATIENCE = 5.0  # seconds that `cancel` waits for the end
JobId = Annotated[str, typer.Argument(help="The job's id.", metavar="JOB")]


@app.command("list")
def list_jobs(
    state: Annotated[
        str | None, typer.Option(help="queued, running, succeeded, failed or cancelled.")
    ] = None,
    operation: Annotated[str | None, typer.Option(help="Only this operation's.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=200, help="How many.")] = 50,
    url: URL = None,
) -> None:
    """List jobs, the newest first."""
    from gateway.cli.console import table
    from gateway.cli.where import darkroom_at

    with darkroom_at(url) as darkroom:
        found = [job.document for job in darkroom.jobs(state=state, operation=operation, limit=limit)]
    rows = [
        [job["id"], job["operation"], job["state"], _steps(job["progress"]), job["created_at"]]
        for job in found
    ]
    table("Jobs", ["id", "operation", "state", "progress", "created"], rows)


@app.command()
def show(job: JobId, url: URL = None) -> None:
    """Print a job as JSON."""
    from gateway.cli.console import as_json
    from gateway.cli.where import darkroom_at

    with darkroom_at(url) as darkroom:
        as_json(darkroom.job(job).document)


@app.command()
def watch(
    job: JobId,
    to: Annotated[
        str | None, typer.Option("-o", "--output", help="Where the result goes: a file or folder.")
    ] = None,
    url: URL = None,
) -> None:
    """Follow a job to its end, and save what it made where -o says."""
    from gateway.cli.console import answer
    from gateway.cli.run import deliver
    from gateway.cli.run import watch as follow
    from gateway.cli.where import darkroom_at

    with darkroom_at(url) as darkroom:
        result = follow(darkroom, job, quiet=False)
    if to is not None or result.data is not None:
        deliver(result, to, f"{result.operation}-{job}", document=False)
        return
    for picture in result.pictures:
        answer(f"asset:{picture.id}")


@app.command()
def cancel(job: JobId, url: URL = None) -> None:
    """Cancel a job, and wait a moment for its end: a running one stops at its next step."""
    from gateway.cli.console import answer, say
    from gateway.cli.where import darkroom_at

    with darkroom_at(url) as darkroom:
        found = darkroom.job(job).cancel()
        if found.state == "running":
            say("It runs, and is being cancelled at its next step.")
        until = time.monotonic() + CANCEL_PATIENCE
        while found.state == "running" and time.monotonic() < until:
            time.sleep(0.2)
            found.refresh()
    answer("being cancelled" if found.state == "running" else found.state)


def _steps(progress: dict[str, int] | None) -> str:
    if not progress:
        return ""
    return f"{progress['step']}/{progress['total']}" if progress.get("total") else str(progress["step"])
