"""From an operation's JSON Schema to a command: each parameter becomes a flag, with its help, bounds and choices.

In goes what `GET /v1/operations` says of an operation (the local declaration says the same); out comes a Typer
function whose signature has the flags, and which hands what was given on to `act`.
"""

from __future__ import annotations

import inspect
import json
import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Annotated, Any, Literal

import typer

from gateway.cli.console import USAGE, Stop

Kind = Literal["picture", "maybe-picture", "choice", "boolean", "integer", "number", "text", "json", "scalar"]
PRIMARY = ("image", "prompt")  # the parameter that may be written without its flag
Accept = Callable[[Any], bool]  # whether a value is understood, by a name that is not among the choices too
_TYPES: dict[Kind, Any] = {"integer": int, "number": float, "boolean": bool}


@dataclass(frozen=True, slots=True)
class Flag:
    """One parameter of an operation, as the command takes it."""

    name: str
    kind: Kind
    help: str
    choices: tuple[str, ...] = ()
    minimum: float | None = None
    maximum: float | None = None
    accept: Accept | None = field(default=None, compare=False)

    @property
    def word(self) -> str:
        return "--" + self.name.replace("_", "-")

    @property
    def picture(self) -> bool:
        return self.kind in ("picture", "maybe-picture")

    def read(self, value: Any) -> Any:
        """The value that goes into the request."""
        if self.kind == "json":
            try:
                return json.loads(value)
            except ValueError as error:
                raise Stop(f"{self.word} must be JSON, as in '[...]': {error}.", USAGE) from error
        if self.kind == "scalar":
            try:
                return float(value)
            except ValueError:
                return value
        return value


@dataclass(frozen=True, slots=True)
class Described:
    """An operation as the command knows it."""

    name: str
    summary: str
    answers: str
    flags: tuple[Flag, ...]

    @property
    def primary(self) -> Flag | None:
        return next((flag for name in PRIMARY for flag in self.flags if flag.name == name), None)


@dataclass(frozen=True, slots=True)
class Given:
    """What was typed: the operation's parameters, and what the command itself is told."""

    operation: Described
    params: dict[str, Any]
    inputs: list[str]
    to: str | None
    as_job: bool
    concurrency: int
    skip_existing: bool
    quiet: bool
    url: str | None
    document: bool = field(default=False)


def describe(
    name: str,
    summary: str,
    answers: str,
    schema: dict[str, Any],
    accept: Callable[[str, Any], bool] | None = None,
) -> Described:
    """`accept` says whether the parameter of a name takes a value."""
    required = schema.get("required", [])
    flags = [_flag(key, prop, key in required) for key, prop in schema["properties"].items()]
    if accept is not None:
        flags = [replace(flag, accept=partial(accept, flag.name)) for flag in flags]
    return Described(name, summary, answers, tuple(flags))


def _flag(name: str, prop: dict[str, Any], required: bool) -> Flag:
    variants = [variant for variant in prop.get("anyOf", [prop]) if variant.get("type") != "null"]
    kind = _kind(variants)
    sentence = str(prop.get("description", "")) if kind != "picture" else _picture_help(prop)
    if kind == "json":
        sentence = f"{sentence} As JSON.".strip()
    if required:
        sentence = f"{sentence} Needed.".strip()
    elif prop.get("default") not in (None, "", []):
        sentence = f"{sentence} Default: {json.dumps(prop['default']).strip(chr(34))}.".strip()
    only = variants[0] if len(variants) == 1 else {}
    choices = tuple(str(choice) for variant in variants for choice in variant.get("enum", ()))
    return Flag(name, kind, sentence, choices, only.get("minimum"), only.get("maximum"))


def _picture_help(prop: dict[str, Any]) -> str:
    own = str(prop.get("description", ""))
    how = "A file, `asset:ID`, or - for stdin."
    return how if own.startswith(("A picture:", "A mask,")) else f"{own} {how}".strip()


def _kind(variants: list[dict[str, Any]]) -> Kind:
    pictures = [variant.get("format") in ("picture", "mask") for variant in variants]
    if any(pictures):
        return "picture" if all(pictures) else "maybe-picture"
    if all("enum" in variant for variant in variants):
        return "choice"
    types = {variant.get("type", "object") for variant in variants}
    if types & {"array", "object"}:
        return "json"
    if len(types) > 1:
        return "scalar"
    kinds: dict[str, Kind] = {"boolean": "boolean", "integer": "integer", "number": "number"}
    return kinds.get(types.pop(), "text")


def command(
    operation: Described, act: Callable[[Given], None], *, as_job: bool = False
) -> Callable[..., None]:
    """A function for Typer. Every flag's default is None: what is not given is the gateway's to decide."""
    primary = operation.primary
    names = {flag.name for flag in operation.flags}

    def run(**typed: Any) -> None:
        params = {
            flag.name: flag.read(typed[flag.name]) for flag in operation.flags if typed[flag.name] is not None
        }
        inputs = [str(item) for item in typed["inputs"] or []]
        if primary is not None and inputs and primary.name in params:
            raise Stop(f"Give {primary.name} once: with {primary.word} or without it.", USAGE)
        act(
            Given(
                operation,
                params,
                inputs,
                typed["to"],
                as_job or typed["as_job"],
                typed["jobs"],
                typed["skip_existing"],
                typed["quiet"],
                typed["url"],
                typed["document"],
            )
        )

    parameters = [_parameter(flag) for flag in operation.flags]
    parameters += _own(primary, [] if "output" in names else ["--output"])
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    run.__doc__ = operation.summary
    return run


def _parameter(flag: Flag) -> inspect.Parameter:
    typed = _TYPES.get(flag.kind, str)
    word = f"{flag.word}/--no-{flag.word[2:]}" if flag.kind == "boolean" else flag.word
    metavar = "FILE" if flag.kind == "picture" else "JSON" if flag.kind == "json" else None
    named: dict[str, Any] = {}
    if flag.kind == "choice":
        # not an enumeration: the operation may know other names for what it shows
        metavar = f"[{'|'.join(flag.choices)}]"
        named = {"callback": _chosen(flag), "autocompletion": _completed(flag)}
    elif flag.kind == "number":
        metavar, named = f"FLOAT{_range(flag)}", {"parser": _number(flag)}
    elif flag.kind == "integer":
        named = {"min": flag.minimum, "max": flag.maximum}
    option = typer.Option(word, help=flag.help, metavar=metavar, show_default=False, **named)
    return _keyword(flag.name, Annotated[typed | None, option], None)


def _chosen(flag: Flag) -> Callable[[str | None], str | None]:
    def chosen(value: str | None) -> str | None:
        if value is None or value in flag.choices or (flag.accept is not None and flag.accept(value)):
            return value
        raise typer.BadParameter(
            f"{value!r} is not one of {', '.join(flag.choices)}.",
        )

    return chosen


def _number(flag: Flag) -> Callable[[str], float]:
    """Bounds alone would tell of a `nan` that it is too large."""

    def number(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            raise typer.BadParameter(f"{text!r} is not a number.")
        low, high = flag.minimum, flag.maximum
        if (low is not None and value < low) or (high is not None and value > high):
            raise typer.BadParameter(f"{text} is not in the range{_range(flag)}.")
        return value

    return number


def _range(flag: Flag) -> str:
    low = "" if flag.minimum is None else f"{flag.minimum:g}<="
    high = "" if flag.maximum is None else f"<={flag.maximum:g}"
    return f" [{low}x{high}]" if low or high else ""


def _completed(flag: Flag) -> Callable[[str], list[str]]:
    def completed(incomplete: str) -> list[str]:
        return [choice for choice in flag.choices if choice.startswith(incomplete)]

    return completed


def _own(primary: Flag | None, output: list[str]) -> list[inspect.Parameter]:
    """What the command itself takes, beside the operation's parameters."""
    what = "Pictures and folders of pictures." if primary and primary.picture else "The prompt."
    metavar = "PICTURE" if primary and primary.picture else "PROMPT"
    inputs = typer.Argument(help=what, metavar=metavar, show_default=False, hidden=primary is None)
    to = typer.Option(
        "-o", "--to", *output, help="Where to: a file, a folder, or - for stdout.", show_default=False
    )
    return [
        _keyword("inputs", Annotated[list[str] | None, inputs], None),
        _keyword("to", Annotated[str | None, to], None),
        _keyword(
            "as_job",
            Annotated[bool, typer.Option("--as-job", help="Submit as a job; with -o, wait for it too.")],
            False,
        ),
        _keyword(
            "jobs",
            Annotated[
                int, typer.Option("-j", "--at-once", min=1, max=64, help="Of a folder, how many at once.")
            ],
            2,
        ),
        _keyword(
            "skip_existing",
            Annotated[
                bool, typer.Option("--skip-existing", help="Of a folder, leave out what is done already.")
            ],
            False,
        ),
        _keyword(
            "document", Annotated[bool, typer.Option("--json", help="Print the whole answer as JSON.")], False
        ),
        _keyword("quiet", Annotated[bool, typer.Option("-q", "--quiet", help="No progress.")], False),
        _keyword("url", URL, None),
    ]


URL = Annotated[
    str | None,
    typer.Option(
        "--url",
        envvar="DARKROOM_URL",
        help="Where Darkroom is; else this machine, as its settings say.",
        show_default=False,
    ),
]


def _keyword(name: str, annotation: Any, default: Any) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, annotation=annotation, default=default)
