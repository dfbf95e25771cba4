"""The `darkroom` command. Each command imports what it needs when it runs, so that `--help` is quick."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from gateway.cli import assets, catalogue, jobs, keys, pix2pix
from gateway.cli.console import FAILED, USAGE, Stop
from gateway.cli.flags import URL
from gateway.cli.models import commands as models
from gateway.cli.operations import OperationGroup
from services.errors import BadInput, DarkroomError

app = typer.Typer(
    name="darkroom",
    help="A self-hosted picture studio: its server, and its command.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.command()
def up(
    services: Annotated[
        list[str] | None,
        typer.Argument(help="Only these services, without the gateway (add `gateway` to have it)."),
    ] = None,
) -> None:
    """Start the gateway and every service, and stop them on Ctrl-C."""
    from gateway.cli.up import up as start

    raise typer.Exit(start(services or []))


app.add_typer(
    typer.Typer(cls=OperationGroup, no_args_is_help=True),
    name="run",
    help="Perform an operation: on files, on folders of pictures, on words.",
)
app.add_typer(jobs.app, name="jobs")
app.add_typer(assets.app, name="assets")
app.command(name="operations")(catalogue.operations)
app.add_typer(models.app, name="models")
app.add_typer(keys.app, name="keys")
app.command(
    name="pix2pix",
    add_help_option=False,
    context_settings={
        "ignore_unknown_options": True,
        "allow_extra_args": True,
        "allow_interspersed_args": False,
    },
)(pix2pix.pix2pix)


@app.command()
def bench(
    operation: Annotated[str, typer.Argument(help="The operation to load.")],
    params: Annotated[
        list[str] | None, typer.Argument(help="Its parameters as NAME=VALUE; a picture's value is a file.")
    ] = None,
    calls: Annotated[int, typer.Option("-n", "--calls", min=1, help="How many calls.")] = 50,
    concurrency: Annotated[
        int, typer.Option("-c", "--concurrency", min=1, max=1024, help="How many at once.")
    ] = 4,
    url: URL = None,
) -> None:
    """Load one operation a little, and print times and rates."""
    from gateway.cli.bench import bench as measure
    from gateway.cli.bench import read_params
    from gateway.cli.console import answer

    found = measure(url, operation, read_params(operation, params or []), calls, concurrency)
    for line in found.lines():
        answer(line)
    raise typer.Exit(FAILED if found.errors else 0)


@app.command()
def migrate() -> None:
    """Bring the database up to date, as DARKROOM_MIGRATE=wait asks for."""
    import asyncio

    from gateway.cli.config import load_settings
    from gateway.cli.console import say
    from gateway.store.database import Database

    settings = load_settings()

    async def bring() -> None:
        database = Database(settings.database)
        try:
            await database.open(patience=60)
        finally:
            await database.close()

    asyncio.run(bring())
    say("The database is up to date.")


@app.command()
def doctor() -> None:
    """Check everything that Darkroom stands on, and say what to do."""
    from gateway.cli.doctor import doctor as examine

    raise typer.Exit(examine())


@app.command()
def version() -> None:
    """Print the version."""
    from importlib.metadata import version as installed

    typer.echo(installed("darkroom"))


def main() -> None:
    """The entry point: what stops a command is a sentence that says what to do, never a traceback."""
    try:
        app()
    except Stop as stop:
        sys.stderr.write(stop.sentence + "\n")
        sys.exit(stop.code)
    except DarkroomError as error:
        named = error.field and error.detail.startswith(error.field)
        where = f"{error.field}: " if error.field and not named else ""
        advice = (
            "Set DARKROOM_KEY to a key; `darkroom keys create` makes one."
            if error.status == 401
            else error.what_to_do
        )
        sys.stderr.write(f"{where}{error.detail}\n{advice}\n")
        sys.exit(USAGE if isinstance(error, BadInput) else FAILED)
    except BrokenPipeError:
        sys.exit(FAILED)  # whoever read our answer has had enough of it
