"""The `darkroom` command. Each command imports what it needs when it runs, so that `--help` is quick."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from gateway.cli.console import Stop

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


@app.command()
def version() -> None:
    """Print the version."""
    from importlib.metadata import version as installed

    typer.echo(installed("darkroom"))


def main() -> None:
    """The entry point: what stops a command is one sentence, never a traceback."""
    try:
        app()
    except Stop as stop:
        sys.stderr.write(stop.sentence + "\n")
        sys.exit(stop.code)
