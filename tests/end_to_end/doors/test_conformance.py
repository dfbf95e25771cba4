"""The tables of docs/doors.md are held true: what they say of each name is asked of a running gateway."""

from __future__ import annotations

import importlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.end_to_end.doors.conformance.checks import TABLES, House
from tests.end_to_end.doors.conformance.page import Row, rows
from tests.end_to_end.doors.conformance.strict import strict_gateway

for _file in sorted((Path(__file__).parent / "conformance").glob("of_*.py")):
    importlib.import_module(f"tests.end_to_end.doors.conformance.{_file.stem}")
ROWS = rows()


@pytest.fixture(scope="module")
def house(stack: Any, begin_stack: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    with strict_gateway(begin_stack, tmp_path_factory.mktemp("strict")) as strict:
        made = House(stack, strict)
        yield made
        made.close()


@pytest.mark.parametrize("row", ROWS, ids=str)
def test_what_the_page_says_of_it_is_so(house: House, row: Row) -> None:
    table = TABLES.get(row.table)
    assert table is not None and row.name in table.checks, "no check is registered for it"
    verdict, check = table.checks[row.name]
    assert verdict == row.verdict, "the page says otherwise than its check"
    seen = house.once(check, lambda: check(house))
    if verdict == "refused":
        assert code_of(seen) == row.code, seen


def test_every_check_has_its_row_and_no_name_stands_twice() -> None:
    told = Counter((row.table, row.name) for row in ROWS)
    checked = {(title, name) for title, table in TABLES.items() for name in table.checks}
    assert checked - set(told) == set()
    assert [row for row, count in told.items() if count > 1] == []


def test_every_verdict_is_one_that_is_known() -> None:
    assert {row.verdict for row in ROWS} <= {"works", "ignored", "refused"}
    assert all(bool(row.code) == (row.verdict == "refused") for row in ROWS)


def code_of(seen: Any) -> str:
    """The code of an answer that refuses, or of a gRPC error."""
    code = getattr(seen, "status_code", None)
    return str(seen.code().name if code is None else code)
