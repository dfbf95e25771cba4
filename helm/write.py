"""`python -m helm.write`: the chart's schema goes in, values.schema.json and the table in docs/chart.md come out."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from helm.schema import Schema
from helm.values import DEFINITIONS, whole_schema

ROOT = Path(__file__).parent.parent
SCHEMA, VALUES, PAGE = (
    ROOT / "helm/darkroom/values.schema.json",
    ROOT / "helm/darkroom/values.yaml",
    ROOT / "docs/chart.md",
)
BEGIN, END = "<!-- the values: written by `make chart` -->\n", "<!-- the end of the values -->\n"


def schema_text() -> str:
    return json.dumps(whole_schema(), indent=1, ensure_ascii=False) + "\n"


def table() -> str:
    """Every value with its default; the parts that repeat (an image, resources) are told once."""
    lines = ["| value | default | what |", "|---|---|---|"]
    values = yaml.safe_load(VALUES.read_text())
    for path, schema in _leaves("", whole_schema()):
        lines.append(f"| `{path}` | {_default(values, path)} | {_cell(schema)} |")
    return "\n".join(lines) + "\n"


TOLD_ONCE = {"settings", "image", "resources", "requests", "limits", "drain", "network", "serviceAccount"}
ONCE = {"gateway", "serviceDefaults", "database", "image"}


def _leaves(path: str, schema: Schema) -> Iterator[tuple[str, Schema]]:
    for name, one in schema.get("properties", {}).items():
        here = f"{path}.{name}" if path else name
        if here in ("global", "services"):
            continue
        one = DEFINITIONS[one["$ref"].rpartition("/")[2]] if "$ref" in one else one
        if one.get("properties") and not (
            name in ("settings", "canary") or (name in TOLD_ONCE and path.split(".")[0] not in ONCE)
        ):
            yield from _leaves(here, one)
        else:
            yield here, one


def _default(values: Any, path: str) -> str:
    for name in path.split("."):
        values = values.get(name) if isinstance(values, dict) else None
    if values in (None, "", [], {}):
        return ""
    return f"`{values if isinstance(values, str) else json.dumps(values)}`"


def _cell(schema: Schema) -> str:
    choices = f" One of {', '.join(f'`{one}`' for one in schema['enum'] if one)}." if "enum" in schema else ""
    return (str(schema.get("description", "")) + choices).replace("|", "\\|")


def page_text(page: str) -> str:
    head, _, rest = page.partition(BEGIN)
    _, _, tail = rest.partition(END)
    return head + BEGIN + "\n" + table() + "\n" + END + tail


def main() -> None:
    SCHEMA.write_text(schema_text())
    PAGE.write_text(page_text(PAGE.read_text()))


if __name__ == "__main__":
    main()
