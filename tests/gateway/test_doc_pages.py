"""The pages that are made from the code say what the code says."""

from __future__ import annotations

from gateway.doc_pages import DOCS, http_page, operations_page


def test_the_operations_page_is_current() -> None:
    assert (DOCS / "operations-reference.md").read_text() == operations_page(), "run `make docs`"


def test_the_table_of_errors_is_current() -> None:
    assert (DOCS / "http.md").read_text() == http_page(), "run `make docs`"
