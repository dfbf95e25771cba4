"""What the command says: sentences to a person, JSON to a program, and the one way to stop with an error."""

from __future__ import annotations

import sys
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

FAILED, USAGE = 1, 2


class Stop(Exception):
    """Ends the command: a sentence that says what to do, and the exit code."""

    def __init__(self, sentence: str, code: int = FAILED) -> None:
        super().__init__(sentence)
        self.sentence, self.code = sentence, code


@cache
def out() -> Console:
    """Where answers go."""
    from rich.console import Console

    return Console(highlight=False, soft_wrap=True)


@cache
def err() -> Console:
    """Where progress and errors go, so that an answer can be piped on."""
    from rich.console import Console

    return Console(stderr=True, highlight=False, soft_wrap=True)


def say(sentence: str) -> None:
    """A line for a person, square brackets and all."""
    err().print(sentence, markup=False)


def answer(text: str) -> None:
    """A line of the answer itself."""
    out().print(text, markup=False)


def as_json(document: Any) -> None:
    import orjson

    sys.stdout.write(orjson.dumps(document, option=orjson.OPT_INDENT_2).decode() + "\n")


def table(title: str, columns: list[str], rows: list[list[str]]) -> None:
    """Rows under headings; tab-separated, without headings, when nobody looks."""
    if not out().is_terminal:
        for row in rows:
            sys.stdout.write("\t".join(row) + "\n")
        return
    from rich.table import Table
    from rich.text import Text

    shown = Table(title=title, title_justify="left", box=None, pad_edge=False, header_style="bold")
    for column in columns:
        shown.add_column(column, overflow="fold")
    for row in rows:
        shown.add_row(*map(Text, row))
    out().print(shown)
