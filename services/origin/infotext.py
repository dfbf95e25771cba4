"""Takes apart the text that AUTOMATIC1111's page, and we (parameters.py), write into pictures: in goes the text, out
come its prompts and its fields. Nothing heavy is imported: the gateway's doors read pictures with it.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass

NEGATIVE = "Negative prompt:"
_FIELD = re.compile(r'\s*([\w][\w \-/]*?):\s*("(?:[^"\\]|\\.)*"|[^,]*)(?:,|$)')
_FEWEST_FIELDS = 3  # a last line with fewer is a line of the prompt


@dataclass(frozen=True, slots=True)
class Parameters:
    """What such a text says."""

    prompt: str
    negative_prompt: str
    fields: dict[str, str]


def read_parameters(text: str) -> Parameters:
    """Takes a text apart as that page does: the last line has the fields, what is before it the prompts."""
    *lines, last = text.strip().split("\n")
    found = _FIELD.findall(last)
    if len(found) < _FEWEST_FIELDS:
        lines, found = [*lines, last], []
    at = next((n for n, line in enumerate(lines) if line.strip().startswith(NEGATIVE)), len(lines))
    negative = "\n".join(line.strip() for line in lines[at:]).removeprefix(NEGATIVE).strip()
    fields = {name.strip(): unquoted(value.strip()) for name, value in found}
    return Parameters("\n".join(line.strip() for line in lines[:at]), negative, fields)


def quoted(value: str) -> str:
    """A value that could be mistaken for several is quoted."""
    return json.dumps(value, ensure_ascii=False) if any(mark in value for mark in ',:\n"') else value


def unquoted(value: str) -> str:
    if len(value) < 2 or not (value.startswith('"') and value.endswith('"')):
        return value
    try:
        return str(json.loads(value))
    except ValueError:
        return value
