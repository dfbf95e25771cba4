"""docs/doors.md as tables: its text in, out come the rows of every table that says how an original's interface is met.

Such a table has the columns: what of the original (its title says of what), `here` (works, ignored, refused CODE), how.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

PAGE = Path(__file__).parents[4] / "docs" / "doors.md"
_NAME = re.compile(r"`([^`]+)`")


@dataclass(frozen=True)
class Row:
    """One name of a table's first column; a row of several names is as many of these."""

    table: str
    name: str
    verdict: str  # works, ignored, refused
    code: str = ""  # with which it is refused

    def __str__(self) -> str:
        return f"{self.table}: {self.name}"


def rows(text: str | None = None) -> list[Row]:
    return list(_rows(PAGE.read_text() if text is None else text))


def _rows(text: str) -> Iterator[Row]:
    table = ""
    for line in text.splitlines():
        if not line.startswith("|"):
            table = ""
            continue
        cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        if cells[1:] == ["here", "how"]:
            table = cells[0]
        elif table and not set(cells[0]) <= {"-"}:
            verdict, _, code = cells[1].partition(" ")
            for name in _NAME.findall(cells[0]) or [cells[0]]:
                yield Row(table, name, verdict, code)
