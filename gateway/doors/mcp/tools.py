"""Each operation as a tool: its declaration in; name, schemas and hints for a model that calls it out."""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping
from typing import Any

from mcp_types import Tool, ToolAnnotations

from gateway.doors import offered
from gateway.doors.mcp.results import ASSETS, SIDE, Answer
from gateway.state import GatewayState
from services.operations import OPERATIONS, Operation
from services.pictures import Mask, Picture, Weights

_HOW = f"the `uri` of an earlier result ({ASSETS}ID), an https address, a data URI or base64."
_KINDS = {
    Picture.__name__.lower(): (Picture.describes, f"A picture: {_HOW}"),
    Mask.__name__.lower(): (
        Mask.describes,
        f"A picture as a mask, white where the work happens, everywhere else black: {_HOW}",
    ),
    Weights.__name__.lower(): (
        Weights.describes,
        "A safetensors file: asset:ID of one that was uploaded, or base64.",
    ),
}
_SEEN = (
    f"The answer shows each picture scaled to {SIDE} pixels a side at most; the whole one is at its `uri`, which other "
    "tools take as a picture."
)
_ID = r"ast_[0-9a-f]{26}"
_REFERENCE = re.compile(rf"(?:{ASSETS}|asset:)?({_ID})\Z")
_LINK = re.compile(rf"/v1/assets/({_ID})(?:\?.*)?\Z", re.DOTALL)
_NO_REFERENCE = re.compile(
    rf"{ASSETS}([^/\s]{{1,64}})\Z"
)  # said as one; who looks it up says that there is none
_DEEPEST = 8  # lists and objects in each other, below which no parameter has a picture
_HIDDEN = frozenset({"previews"})  # an answer has no place for them
_MOST_NAMES = 40


def here(state: GatewayState) -> dict[str, type[Operation]]:
    """The operations whose service is part of this installation."""
    services = state.upstream.status()
    return {name: kind for name, kind in OPERATIONS.items() if kind.service in services}


def tool(state: GatewayState, operation: type[Operation]) -> Tool:
    description = inspect.cleandoc(operation.__doc__ or operation.summary())
    if operation.answers == "pictures":
        description += "\n\n" + _SEEN
    schema = _schema(operation.json_schema())
    schema.pop("description", None)  # the tool's own
    needed = schema.get("required", [])
    names = sorted(schema["properties"].keys() - _HIDDEN, key=[*needed, *schema["properties"]].index)
    properties = {name: schema["properties"][name] for name in names}
    _name(properties, "model", [one["name"] for one in offered.models(state, operation.service)])
    _name(properties, "loras", [one["name"] for one in offered.models(state, operation.service, "lora")])
    words = operation.name().replace("-", " ")
    return Tool(
        name=operation.name(),
        title=words[:1].upper() + words[1:],
        description=description,
        input_schema=schema | {"properties": properties},
        output_schema=_schema(Answer.model_json_schema()),
        annotations=ToolAnnotations(
            # a picture that is made is kept, so that each call leaves one more
            read_only_hint=operation.answers == "data",
            destructive_hint=False,
            idempotent_hint=operation.answers == "data",
            # an address is fetched from wherever it is
            open_world_hint=_takes_pictures(operation.json_schema()),
        ),
    )


def fields(arguments: Mapping[str, Any], operation: type[Operation], base: str) -> dict[str, Any]:
    """The operation's fields; what names a picture of ours does it as every door does. `base` begins our own links."""
    found: dict[str, Any] = {name: _referred(value, base) for name, value in arguments.items()}
    for name in _HIDDEN & operation.model_fields.keys():
        found.setdefault(name, 0)
    return found


def _referred(value: Any, base: str, depth: int = 0) -> Any:
    if isinstance(value, str):
        if len(value) > 2000:
            return value
        link = value.removeprefix(base) if base and value.startswith(base) else ""
        match = _REFERENCE.match(value) or _LINK.match(link) or _NO_REFERENCE.match(value)
        return f"asset:{match[1]}" if match else value
    if depth < _DEEPEST and isinstance(value, dict):
        return {name: _referred(inner, base, depth + 1) for name, inner in value.items()}
    if depth < _DEEPEST and isinstance(value, list):
        return [_referred(inner, base, depth + 1) for inner in value]
    return value


def _schema(node: Any) -> Any:
    """As short as it can be, since a model reads all of them: without titles that repeat a name, and without the null
    that says the same as leaving a parameter out. And with how pictures are given here."""
    if isinstance(node, list):
        return [_schema(one) for one in node]
    if not isinstance(node, dict):
        return node
    found = {
        key: {name: _schema(inner) for name, inner in value.items()}
        if key in ("properties", "$defs")
        else value
        if key in ("default", "const", "enum", "examples")
        else _schema(value)
        for key, value in node.items()
        if key != "title"
    }
    if {"type": "null"} in found.get("anyOf", ()) and found.get("default", ...) is None:
        branches = [branch for branch in found.pop("anyOf") if branch != {"type": "null"}]
        del found["default"]
        if len(branches) > 1:
            found["anyOf"] = branches
        else:
            said = [str(one["description"]) for one in (found, branches[0]) if "description" in one]
            found = branches[0] | found
            if said:
                found["description"] = " ".join(said)
    if (kind := _KINDS.get(str(found.get("format")))) is not None:
        usual, ours = kind
        own = found.get("description", usual)
        del found["format"]
        found["description"] = ours if own == usual else f"{own} {ours}"
    return found


def _takes_pictures(node: Any) -> bool:
    if isinstance(node, dict):
        return node.get("format") in ("picture", "mask") or any(map(_takes_pictures, node.values()))
    return isinstance(node, list) and any(map(_takes_pictures, node))


def _name(properties: dict[str, Any], field: str, names: list[str]) -> None:
    """Tell which there are, since many clients show a model the tools and nothing else."""
    if field in properties and names:
        said = properties[field].get("description", "")
        more = ", ..." if len(names) > _MOST_NAMES else ""
        told = f"{said} There are: {', '.join(names[:_MOST_NAMES])}{more}.".strip()
        properties[field] = properties[field] | {"description": told}
