"""docs/operations-reference.md and the errors in docs/http.md, made from the declarations: `make docs` writes them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from services.errors import TYPE_PREFIX, family
from services.operations import OPERATIONS, Operation

DOCS = Path(__file__).parents[1] / "docs"
_ERRORS = re.compile(r"(<!-- errors -->\n).*?(<!-- /errors -->)", re.DOTALL)
_BOUNDS = {
    "minimum": "≥",
    "maximum": "≤",
    "multipleOf": "multiple of",
    "maxLength": "characters ≤",
    "maxItems": "items ≤",
}


def errors_table() -> str:
    rows = [
        f"| {kind.status} | `{TYPE_PREFIX}{kind.slug}` | {kind.title} | {kind.help} |"
        for kind in sorted(family(), key=lambda kind: kind.status)
        if kind.__module__ == "services.errors"  # others word one differently, or are the client's own
    ]
    return "\n".join(["| status | `type` | what | what to do |", "|---|---|---|---|", *rows]) + "\n"


def http_page() -> str:
    """docs/http.md as it is, with the errors as they are declared."""
    return _ERRORS.sub(lambda match: match[1] + errors_table() + match[2], (DOCS / "http.md").read_text())


def operations_page() -> str:
    head = "# The operations\n\nMade from `services/operations.py` by `make docs`.\n\n"
    rows = [
        f"| [`{name}`](#{name}) | {kind.summary()} | {kind.service} | {kind.answers} |"
        for name, kind in OPERATIONS.items()
    ]
    table = "\n".join(["| operation | what | service | answers |", "|---|---|---|---|", *rows])
    return head + table + "\n" + "".join(_section(kind) for kind in OPERATIONS.values())


def _section(operation: type[Operation]) -> str:
    schema = operation.json_schema()
    required = schema.get("required", [])
    rows = [
        f"| `{name}` | {_kind(value, schema)} | {_default(name, value, required)} | {value.get('description', '')} |"
        for name, value in sorted(schema["properties"].items(), key=lambda item: item[0] not in required)
    ]
    table = "\n".join(["| parameter | value | default | what |", "|---|---|---|---|", *rows])
    return f"\n## {operation.name()}\n\n{operation.summary()}\n\n{table}\n"


def _kind(value: dict[str, Any], schema: dict[str, Any]) -> str:
    branches = [branch for branch in value.get("anyOf", [value]) if branch.get("type") != "null"]
    return " or ".join(_branch(branch, schema) for branch in branches)


def _branch(branch: dict[str, Any], schema: dict[str, Any]) -> str:
    if "$ref" in branch:
        name = branch["$ref"].rpartition("/")[2]
        return "{" + ", ".join(schema["$defs"][name]["properties"]) + "}"
    if "enum" in branch:
        return ", ".join(f"`{option}`" for option in branch["enum"])
    if branch.get("type") == "array":
        kind = f"list of {_branch(branch['items'], schema)}"
    else:
        kind = str(branch.get("format") or branch.get("type"))
    bounds = [f"{sign} {branch[name]}" for name, sign in _BOUNDS.items() if name in branch]
    return f"{kind} ({', '.join(bounds)})" if bounds else kind


def _default(name: str, value: dict[str, Any], required: list[str]) -> str:
    if name in required:
        return "**needed**"
    default = value.get("default")
    return "" if default in (None, "", [], {}) else f"`{default}`"


def main() -> None:
    (DOCS / "http.md").write_text(http_page())
    (DOCS / "operations-reference.md").write_text(operations_page())


if __name__ == "__main__":
    main()
