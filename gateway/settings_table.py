"""docs/settings.md, made from the settings themselves: `python -m gateway.settings_table` rewrites it."""

from __future__ import annotations

import inspect
import re
import types
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt
from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo

from gateway.settings import Settings
from services.settings import CleanupSettings, DiffusionSettings, HubSettings, ServiceSettings

PAGE = Path(__file__).parents[1] / "docs" / "settings.md"
_HEAD = """# Settings

Each is read from the environment, or from a `.env` file in the folder where the gateway starts; the environment wins.
`darkroom doctor` checks them. This page is made from `gateway/settings.py`
and `services/settings.py` by `python -m gateway.settings_table`.
"""
_COLUMNS = ("| variable | value | default | what for |", "|---|---|---|---|")
# what the services read beside what they share with the gateway; `darkroom up` hands its environment on to them
OF_SERVICES: dict[str, type[BaseModel]] = {
    "Every service": ServiceSettings,
    "sdxl and controlnet": DiffusionSettings,
    "cleanup": CleanupSettings,
    "Fetching models": HubSettings,
}
_SECTION = re.compile(r"\s*# ── (?P<title>.+?) ─+\s*$")
_FIELD = re.compile(r"    (?P<name>[a-z_0-9]+): ")


def page(settings: type[Settings] = Settings) -> str:
    """The whole page."""
    lines = [_HEAD]
    for title, names in _sections(settings):
        lines += [
            f"## {title[:1].upper()}{title[1:]}",
            "",
            *_COLUMNS,
        ]
        lines += [_row(name, settings.model_fields[name]) for name in names]
        lines.append("")
    told = set(settings.model_fields)
    for title, own in OF_SERVICES.items():
        names = [name for name in own.model_fields if name not in told]
        told |= set(names)
        lines += [f"## {title}", "", *_COLUMNS, *(_row(name, own.model_fields[name]) for name in names), ""]
    return "\n".join(lines)


def _sections(settings: type[Settings]) -> list[tuple[str, list[str]]]:
    """The headings that the class itself has, and the fields below each."""
    found: list[tuple[str, list[str]]] = []
    for line in inspect.getsource(settings).splitlines():
        if heading := _SECTION.match(line):
            found.append((heading["title"], []))
        elif (field := _FIELD.match(line)) and field["name"] in settings.model_fields:
            found[-1][1].append(field["name"])
    return found


def _row(name: str, field: FieldInfo) -> str:
    cells = (
        f"`DARKROOM_{name.upper()}`",
        _values(field),
        _default(field),
        (field.description or "").replace("|", "\\|"),
    )
    return "| " + " | ".join(cells) + " |"


def _default(field: FieldInfo) -> str:
    value = field.get_default(call_default_factory=True)
    if value is None or value in ("", [], {}):
        return "none"
    if isinstance(value, list):
        return f"`{','.join(value)}`"  # as it is written
    return f"`{value}`"


def _values(field: FieldInfo) -> str:
    kind = _kind(field.annotation)
    bounds = []
    for item in field.metadata:
        match item:
            case Ge(ge):
                bounds.append(f"from {ge}")
            case Gt(gt):
                bounds.append(f"above {gt}")
            case Le(le):
                bounds.append(f"up to {le}")
            case Lt(lt):
                bounds.append(f"below {lt}")
    return ", ".join([kind, *bounds])


def _kind(annotation: Any) -> str:
    if get_origin(annotation) in (types.UnionType,):
        return " or ".join(_kind(item) for item in get_args(annotation) if item is not type(None))
    if get_origin(annotation) is Literal:
        return " or ".join(f"`{item}`" for item in get_args(annotation))
    if get_origin(annotation) is list:
        return "a list with commas"
    if get_origin(annotation) is dict:
        return "JSON"
    names = {
        int: "whole number",
        float: "number",
        str: "text",
        bool: "true or false",
        Path: "path",
        SecretStr: "secret",
    }
    return names.get(annotation, str(annotation))


def main() -> None:
    PAGE.write_text(page())


if __name__ == "__main__":
    main()
