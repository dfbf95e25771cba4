"""`darkroom run`: what was typed goes in; files, standard output or a job's id come out."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from gateway.cli import save
from gateway.cli.batch import run_batch
from gateway.cli.console import USAGE, Stop, answer, as_json, err, say
from gateway.cli.flags import Flag, Given
from gateway.cli.where import darkroom_at
from gateway.client import Darkroom, Result, ServerEvent

STDIN = "-"


def act(given: Given) -> None:
    """Do what was asked, alone or for a whole folder."""
    primary = given.operation.primary
    if primary is None and given.inputs:
        raise Stop(f"{given.operation.name} takes flags only; {given.inputs[0]!r} belongs to none.", USAGE)
    with darkroom_at(given.url) as darkroom:
        if primary is not None and primary.picture:
            flagged = given.params.get(primary.name)
            typed = given.inputs or ([str(flagged)] if flagged is not None else [])
            if len(typed) > 1 or (typed and Path(typed[0]).is_dir()):
                raise SystemExit(run_batch(darkroom, given, primary, typed))
            if typed:
                given.params[primary.name] = typed[0]
        elif primary is not None and given.inputs:
            given.params[primary.name] = " ".join(given.inputs)
        _one(darkroom, given)


def _one(darkroom: Darkroom, given: Given) -> None:
    params, source = _pictures(given)
    name = given.operation.name
    if given.as_job:
        job = darkroom.submit(name, **params)
        if given.to is None:
            answer(job.id)
            say(f"`darkroom jobs watch {job.id}` follows it.")
            return
        result = watch(darkroom, job.id, quiet=given.quiet)
    elif given.quiet or not err().is_terminal:
        result = darkroom.run(name, **params)
    else:
        with Shown(name) as shown:
            result = darkroom.run(name, on_progress=shown.event, **params)
    deliver(result, given.to, source, document=given.document)


def _pictures(given: Given) -> tuple[dict[str, Any], str]:
    """The parameters with files for names, and the name that the result's is made from."""
    params, source, stdin = dict(given.params), given.operation.name, False
    for flag in given.operation.flags:
        value = params.get(flag.name)
        if not flag.picture or not isinstance(value, str):
            continue
        if value == STDIN:
            if stdin:
                raise Stop("Only one picture can come from stdin.", USAGE)
            params[flag.name], stdin = sys.stdin.buffer.read(), True
            continue
        params[flag.name] = picture(flag, value)
        if flag is given.operation.primary and isinstance(params[flag.name], Path):
            source = f"{Path(value).stem}-{given.operation.name}"
    return params, source


def picture(flag: Flag, value: str) -> Path | str:
    """A file's path, or the reference or colour that stands there instead."""
    from gateway.client.params import REFERENCES

    path = Path(value)
    if value.startswith(REFERENCES):
        return value
    if path.is_file():
        return path
    if flag.kind == "maybe-picture":
        return value
    raise Stop(f"There is no file {value!r} for {flag.word}.", USAGE)


def deliver(result: Result, to: str | None, source: str, *, document: bool) -> None:
    """To a file, a folder or standard output; and say where."""
    if document:
        as_json(result.document)
    if not result.pictures:
        if to and to != STDIN:
            answer(str(save.write_data(result.data, Path(to))))
        elif not document:
            as_json(result.data)
        return
    if to == STDIN:
        if len(result.pictures) > 1:
            raise Stop("Several pictures cannot go to stdout: give -o a folder.", USAGE)
        sys.stdout.buffer.write(result.picture.content)
        return
    if document and to is None:
        return
    for path in save.write(result, Path(to) if to else None, source):
        answer(str(path))


def watch(darkroom: Darkroom, job_id: str, *, quiet: bool) -> Result:
    """Follow a job to its end."""
    job = darkroom.job(job_id)
    if not quiet and job.state in ("queued", "running"):
        with Shown(str(job.document["operation"])) as shown:
            for event in job.events():
                shown.event(event)
    return job.wait()


class Shown:
    """A progress bar on standard error, or lines where nobody looks."""

    def __init__(self, name: str) -> None:
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.completed:.0f}/{task.total}" if err().is_terminal else ""),
            TimeElapsedColumn(),
            console=err(),
            transient=True,
            disable=not err().is_terminal,
        )
        self._task = self._bar.add_task(f"{name}: waiting", total=None)
        self._name = name

    def __enter__(self) -> Shown:
        self._bar.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._bar.stop()

    def event(self, event: ServerEvent) -> None:
        match event.kind:
            case "accepted":
                model = event.data.get("model")
                self._bar.update(self._task, description=f"{self._name} ({model})" if model else self._name)
            case "progress":
                self._bar.update(self._task, completed=event.data["step"], total=event.data["total"])
            case "result" if event.data.get("url"):
                self._bar.update(self._task, description=f"{self._name}: a picture is done")
