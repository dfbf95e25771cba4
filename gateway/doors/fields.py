"""An operation's schema in, the HTML of its form out: a label and an input for each parameter, by its type.

A picture is a file input, needed or not; a list of objects is rows that can be added, with an input for each of their
own parameters. What makes the rows work is in pages/darkroom.js; without a script a list is written as JSON.
"""

from __future__ import annotations

import html
import json
from dataclasses import dataclass
from typing import Any, Literal

FILES = {"picture": "image/*", "mask": "image/*", "weights": ".safetensors"}
Kind = Literal["text", "number", "boolean", "json"]


@dataclass(frozen=True, slots=True)
class Place:
    """Where an input stands: in the form, by its name, or in a row, where the script finds it by `data-field`."""

    row: bool = False

    def attributes(self, field: str, kind: Kind | Literal["file"]) -> str:
        return f'data-field="{field}" data-kind="{kind}"' if self.row else f'name="{field}"'


def form_fields(schema: dict[str, Any]) -> str:
    """What is needed comes first, pictures before the rest of it; then pictures that may be; the others folded away."""
    needed = schema.get("required", [])
    properties = {
        name: _resolved(value, schema.get("$defs", {})) for name, value in schema["properties"].items()
    }
    pictures = {name for name, value in properties.items() if _shows_picture(value)}
    first = [name for name in properties if name in pictures or name in needed]
    first.sort(
        key=lambda name: (name not in needed, name not in pictures, properties[name].get("type") == "array")
    )
    rest = sorted((name for name in properties if name not in first), key=lambda name: name == "model")
    made = {name: _field(name, value, name in needed, Place()) for name, value in properties.items()}
    folded = "".join(made[name] for name in rest)
    more = f"<details><summary>{len(rest)} more settings</summary>{folded}</details>" if rest else ""
    return "".join(made[name] for name in first) + more


def _resolved(schema: Any, defs: dict[str, Any]) -> Any:
    """The schema with its references replaced by what they refer to."""
    if isinstance(schema, list):
        return [_resolved(item, defs) for item in schema]
    if not isinstance(schema, dict):
        return schema
    if "$ref" in schema:
        # one that holds itself is an object like any other, in the end
        known = defs.get(schema["$ref"].rpartition("/")[2], {"type": "object"})
        inner = {name: value for name, value in defs.items() if value is not known}
        return _resolved(known, inner) | {key: value for key, value in schema.items() if key != "$ref"}
    return {key: _resolved(value, defs) for key, value in schema.items()}


def _variants(schema: dict[str, Any]) -> list[dict[str, Any]]:
    return [one for one in schema.get("anyOf", [schema]) if one.get("type") != "null"]


def _file(schema: dict[str, Any]) -> str | None:
    """What files it takes, if it takes any."""
    return next((FILES[one["format"]] for one in _variants(schema) if one.get("format") in FILES), None)


def _shows_picture(schema: dict[str, Any]) -> bool:
    """A picture, or a list of what has one."""
    if schema.get("type") == "array":
        return any(_file(inner) == "image/*" for inner in schema["items"].get("properties", {}).values())
    return _file(schema) == "image/*"


def _field(name: str, schema: dict[str, Any], needed: bool, place: Place) -> str:
    if schema.get("type") == "array" and "properties" in schema["items"] and not place.row:
        return _rows(name, schema)
    files, variants = _file(schema), _variants(schema)
    others = [one for one in variants if one.get("format") not in FILES]
    if files is None:
        return _labelled(name, schema, _input(name, schema, needed, place))
    need = " required" if needed and not others else ""
    chooser = f'<input type="file" {place.attributes(name, "file")} accept="{files}"{need}>'
    if not others:
        return _labelled(name, schema, chooser)
    written = _input(name, {**schema, "anyOf": others}, False, place)
    return _labelled(name, schema, written) + _labelled(f"{name} (file)", schema, chooser)


def _labelled(text: str, schema: dict[str, Any], control: str) -> str:
    title = html.escape(schema.get("description", ""), quote=True)
    return f'<label><span title="{title}">{text}</span>{control}</label>'


def _input(name: str, schema: dict[str, Any], needed: bool, place: Place) -> str:
    variants = _variants(schema)
    types = {str(one.get("type")) for one in variants}
    options = [option for one in variants for option in one.get("enum", [])]
    default, need = schema.get("default"), " required" if needed else ""
    if options and not types & {"number", "integer"}:
        empty = "" if needed or default is not None else '<option value=""></option>'
        return f"<select {place.attributes(name, 'text')}>{empty}{_options(options, default)}</select>"
    if "boolean" in types:
        chosen = _options(["false", "true"], str(default).lower())
        return f"<select {place.attributes(name, 'boolean')}>{chosen}</select>"
    if types & {"array", "object"}:
        return f'<textarea {place.attributes(name, "json")} rows="1" placeholder="JSON"{need}></textarea>'
    number = types <= {"number", "integer"}
    shown = "" if default is None else default if isinstance(default, str) else json.dumps(default)
    hint = html.escape(str(schema.get("examples", [""])[0]), quote=True)
    mode = ' inputmode="decimal"' if number else ""
    return (
        f"<input {place.attributes(name, 'number' if number else 'text')} "
        f'value="{html.escape(shown, quote=True)}" placeholder="{hint}"{mode}{need}>'
    )


def _options(options: list[Any], default: Any) -> str:
    return "".join(
        f"<option{' selected' if option == default else ''}>{html.escape(str(option))}</option>"
        for option in options
    )


def _rows(name: str, schema: dict[str, Any]) -> str:
    """A row for each object of the list: the first field of a row is its file."""
    needed, properties = schema["items"].get("required", []), schema["items"]["properties"]
    order = sorted(properties, key=lambda key: (_file(properties[key]) is None, key not in needed))
    inputs = "".join(_field(key, properties[key], key in needed, Place(row=True)) for key in order)
    least, most = schema.get("minItems", 0), schema.get("maxItems", "")
    title = html.escape(schema.get("description", ""), quote=True)
    return (
        f'<fieldset class="rows" data-list="{name}" data-least="{least}" data-most="{most}">'
        f'<legend title="{title}">{name}</legend>'
        f'<template><fieldset class="row"><legend></legend>{inputs}'
        f'<button type="button" class="remove">Remove</button></fieldset></template>'
        f'<button type="button" class="add" aria-label="Add to {name}">Add</button>'
        f'<noscript><label><span>{name}</span><input name="{name}" placeholder="JSON"></label></noscript></fieldset>'
    )
