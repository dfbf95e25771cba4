"""`python -m gateway.client_asks` makes client/asks.py of the operations, so that an editor knows every parameter.

It stands outside of the client, which imports what it writes.
"""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from services.operations import OPERATIONS, Operation

ASKS = Path(__file__).parent / "client" / "asks.py"
PICTURES = ("picture", "mask", "weights")
WIDTH, LONG = 110, 70  # characters of a line, and of the options that it may have
HEAD = '''"""Every operation with its parameters, for editors and type checkers: written by `make schemas`.

What is left out, or None, is as the operation declares it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypedDict

from gateway.client.doing import Ask, AsyncDoes, Does
from gateway.client.params import PictureLike
'''


def own() -> dict[str, type[Operation]]:
    """The operations that are Darkroom's own; an extension's are asked for by their names."""
    return {name: kind for name, kind in OPERATIONS.items() if kind.__module__ == "services.operations"}


def text() -> str:
    """The whole module."""
    operations = own()
    defs: dict[str, Any] = {}
    for kind in operations.values():
        defs |= kind.json_schema().get("$defs", {})
    parts = [HEAD]
    parts += [_typed_dict(name, schema) for name, schema in sorted(defs.items()) if _shown(name)]
    parts += [_function(kind) for kind in operations.values()]
    for client, does in (("Operations", "Does"), ("AsyncOperations", "AsyncDoes")):
        lines = "".join(f"    {kind.method()} = {does}({kind.method()})\n" for kind in operations.values())
        parts.append(f'\n\nclass {client}:\n    """What a client can do, an attribute each."""\n\n{lines}')
    return "".join(parts)


def _shown(name: str) -> bool:
    return name in ("ControlInput", "Lora")


def _typed_dict(name: str, schema: dict[str, Any]) -> str:
    doc = str(schema["description"]).strip().splitlines()[0]
    lines = "".join(f"    {field}: {kind}\n" for field, kind in _fields(schema))
    return f'\n\nclass {name}(TypedDict, total=False):\n    """{doc}"""\n\n{lines}'


def _fields(schema: dict[str, Any]) -> Iterator[tuple[str, str]]:
    for name, value in schema["properties"].items():
        yield name, _type(value)


def _function(kind: type[Operation]) -> str:
    schema = kind.json_schema()
    needed = schema.get("required", [])
    # pictures first, and then words, as they would be said
    first = sorted(needed, key=lambda name: schema["properties"][name].get("format") not in PICTURES)
    rest = [name for name in schema["properties"] if name not in needed]
    lines = [f"    {name}: {_type(schema['properties'][name])},\n" for name in first]
    lines += ["    *,\n"]
    lines += [f"    {name}: {_type(schema['properties'][name])} | None = None,\n" for name in rest]
    told = [f"    {name}: {_told(name, schema)}" for name in [*first, *rest]]
    doc = "\n".join([f'    """{kind.summary()}', "", *_wrapped(told), '    """'])
    return f'\n\ndef {kind.method()}(\n{"".join(lines)}) -> Ask:\n{doc}\n    return Ask("{kind.name()}", locals())\n'


def _told(name: str, schema: dict[str, Any]) -> str:
    value = schema["properties"][name]
    default = value.get("default")
    tail = "" if default in (None, "", [], {}) else f" Default: {default}."
    words = str(value.get("description", "")).strip() or _type(value)
    return (words if words.endswith((".", "?")) else f"{words}.") + tail


def _wrapped(lines: list[str]) -> Iterator[str]:
    for line in lines:
        yield from textwrap.wrap(line, WIDTH, subsequent_indent="        ", break_on_hyphens=False) or [""]


def _type(value: dict[str, Any]) -> str:
    """The Python type of what a JSON schema describes, as a caller may give it."""
    branches = [one for one in value.get("anyOf", [value]) if one.get("type") != "null"]
    kinds = list(dict.fromkeys(_branch(one) for one in branches))
    if "PictureLike" in kinds:  # a string is one already
        kinds = ["PictureLike"]
    return " | ".join(kinds)


def _branch(value: dict[str, Any]) -> str:
    if "$ref" in value:
        name = str(value["$ref"]).rpartition("/")[2]
        return name if _shown(name) else "Mapping[str, Any]"
    if "enum" in value or "const" in value:
        options = value.get("enum", [value.get("const")])
        quoted = ", ".join(f'"{one}"' if isinstance(one, str) else repr(one) for one in options)
        return f"Literal[{_folded(quoted) if len(quoted) > LONG else quoted}]"
    if value.get("format") in PICTURES:
        return "PictureLike"
    if value.get("type") == "array":
        return f"Sequence[{_type(value['items'])}]"
    kinds = {"string": "str", "integer": "int", "number": "float", "boolean": "bool"}
    return kinds.get(str(value.get("type")), "Mapping[str, Any]")


def _folded(options: str) -> str:
    indent = " " * 8
    lines = textwrap.wrap(
        options, WIDTH, initial_indent=indent, subsequent_indent=indent, break_on_hyphens=False
    )
    return "\n".join(["", *lines, "    "])


def main() -> int:
    ASKS.write_text(text())
    return 0


if __name__ == "__main__":
    sys.exit(main())
