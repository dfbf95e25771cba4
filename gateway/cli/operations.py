"""`darkroom run` and `darkroom jobs submit`: one command an operation, made when it is asked for."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

if TYPE_CHECKING:
    from gateway.cli.flags import Described
    from services.operations import Operation


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
    return describe(name, kind.summary(), kind.answers, kind.json_schema(), partial(accepts, kind))


def accepts(operation: type[Operation], name: str, value: Any) -> bool:
    """Whether a parameter by itself takes a value: one of another spelling too, where the operation knows it."""
    from pydantic import TypeAdapter, ValidationError

    field = operation.model_fields[name]
    declared: Any = Annotated[field.annotation, field]
    try:
        TypeAdapter(declared).validate_python(value)
    except ValidationError:
        return False
    return True


def _remote(name: str) -> Described | None:
    """An operation that only the gateway knows, by an extension of its own."""
    from gateway.cli.flags import describe
    from gateway.cli.where import darkroom_at
    from services.errors import DarkroomError

    try:
        with darkroom_at(None, timeout=5) as darkroom:
            known = {document["name"]: document for document in darkroom.operations()}
    except DarkroomError:
        return None  # the name is wrong as far as anybody can tell
    if name not in known:
        return None
    found = known[name]
    # what it understands beside its choices, only the gateway knows
    return describe(name, found["summary"], found["answers"], found["params"], lambda _name, _value: True)
