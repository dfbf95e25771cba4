"""`darkroom run` and `darkroom jobs submit`: one command an operation, made when it is asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import typer
from typer.core import TyperGroup

if TYPE_CHECKING:
    from gateway.cli.flags import Described


class OperationGroup(TyperGroup):
    """A group whose commands are the operations, declared here or known to the gateway."""

    as_job = False

    def list_commands(self, ctx: Any) -> list[str]:
        from services.operations import OPERATIONS

        return list(OPERATIONS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        from gateway.cli.flags import command
        from gateway.cli.run import act

        described = _local(cmd_name) or _remote(cmd_name)
        if described is None:
            return None
        app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
        app.command(name=cmd_name, help=described.summary)(command(described, act, as_job=self.as_job))
        return typer.main.get_command(app)


class JobGroup(OperationGroup):
    """The same, always as a job."""

    as_job = True


def _local(name: str) -> Described | None:
    from gateway.cli.flags import describe
    from services.operations import OPERATIONS

    kind = OPERATIONS.get(name)
    if kind is None:
        return None
    return describe(name, kind.summary(), kind.answers, kind.json_schema())


def _remote(name: str) -> Described | None:
    """An operation that only the gateway knows, by an extension of its own."""
    from gateway.cli.flags import describe
    from gateway.client import Darkroom
    from services.errors import DarkroomError

    try:
        with Darkroom(timeout=5) as darkroom:
            known = {document["name"]: document for document in darkroom.operations()}
    except DarkroomError:
        return None  # the name is wrong as far as anybody can tell
    if name not in known:
        return None
    found = known[name]
    return describe(name, found["summary"], found["answers"], found["params"])
