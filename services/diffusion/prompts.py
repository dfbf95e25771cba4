"""A prompt as people write it, to rows of tokens with a weight for each.

`(word)` is 1.1 times as strong, `(word:1.3)` 1.3 times, `[word]` weaker by 1.1; they nest, and `\\(` is a bracket that
means nothing. `BREAK` begins a new row. A text encoder reads 77 tokens, two of them the start and the end: a longer
prompt is cut into rows, which are encoded one by one and then laid end to end.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from services.errors import BadInput

STRONGER = 1.1
MAX_ROWS = 32  # 2,400 tokens: what attention over one prompt may cost
MAX_WEIGHT = 10.0
MAX_DEPTH = 24  # brackets within brackets; 1.1 to this power is MAX_WEIGHT
_ROW_END = "BREAK"

_PARTS = re.compile(
    r"""
      \\[\\()\[\]]                          # an escaped bracket or backslash
    | [(\[]
    | :\s*([+-]?(?:\d+\.?\d*|\.\d+))\s*\)   # the end of (word:1.3)
    | [)\]]
    | \bBREAK\b
    | [^\\()\[\]:B]+
    | .
    """,
    re.VERBOSE | re.DOTALL,
)


@dataclass(frozen=True, slots=True)
class Piece:
    text: str
    weight: float = 1.0
    ends_row: bool = False


@dataclass(frozen=True, slots=True)
class Rows:
    """Equal rows of token ids, as an encoder reads them, and each token's weight."""

    ids: list[list[int]]
    weights: list[list[float]]

    @property
    def weighted(self) -> bool:
        return any(weight != 1.0 for row in self.weights for weight in row)


def parse(prompt: str) -> list[Piece]:
    """The prompt's pieces, each of one weight. A bracket that is never closed counts to the end; one that lies
    deeper than `MAX_DEPTH` is a mere character."""
    texts: list[tuple[str, float, bool]] = []
    round_opened: list[int] = []
    square_opened: list[int] = []

    def deep() -> bool:
        return len(round_opened) + len(square_opened) >= MAX_DEPTH

    def scale(since: int, factor: float) -> None:
        for at in range(since, len(texts)):
            text, weight, ends = texts[at]
            texts[at] = (text, weight * factor, ends)

    for match in _PARTS.finditer(prompt):
        part, factor = match.group(0), match.group(1)
        if part[0] == "\\" and len(part) == 2:
            texts.append((part[1], 1.0, False))
        elif part == "(" and not deep():
            round_opened.append(len(texts))
        elif part == "[" and not deep():
            square_opened.append(len(texts))
        elif factor is not None and round_opened:
            scale(round_opened.pop(), float(factor))
        elif part == ")" and round_opened:
            scale(round_opened.pop(), STRONGER)
        elif part == "]" and square_opened:
            scale(square_opened.pop(), 1 / STRONGER)
        elif part == _ROW_END:
            texts.append(("", 1.0, True))
        else:
            texts.append((part, 1.0, False))
    for since in round_opened:
        scale(since, STRONGER)
    for since in square_opened:
        scale(since, 1 / STRONGER)
    return _joined(texts)


def _joined(texts: list[tuple[str, float, bool]]) -> list[Piece]:
    """Neighbours of equal weight are one piece, so that a word is not cut where a bracket was escaped."""
    pieces: list[Piece] = []
    for text, weight, ends in texts:
        if ends:
            pieces.append(Piece("", 1.0, ends_row=True))
        elif pieces and not pieces[-1].ends_row and pieces[-1].weight == weight:
            pieces[-1] = Piece(pieces[-1].text + text, weight)
        elif text:
            pieces.append(Piece(text, weight))
    return pieces


def tokenize(prompt: str, tokenizer: Any, length: int, field: str = "prompt") -> Rows:
    """The rows of a prompt, each of `length` tokens with its start and its end; an empty prompt is one row."""
    room = length - 2
    contents: list[list[tuple[int, float]]] = [[]]
    for piece in parse(prompt):
        if abs(piece.weight) > MAX_WEIGHT:
            raise BadInput(f"A weight is {piece.weight:g}; {MAX_WEIGHT:g} is the most.", field=field)
        if piece.ends_row:
            contents.append([])
            continue
        for token in tokenizer(piece.text, add_special_tokens=False, verbose=False).input_ids:
            if len(contents[-1]) == room:
                contents.append([])
            contents[-1].append((int(token), piece.weight))
    if len(contents) > MAX_ROWS:
        raise BadInput(
            f"The {field.replace('_', ' ')} is longer than {MAX_ROWS * room} tokens, which is the most that is read.",
            field=field,
        )
    return Rows(
        [_row([token for token, _ in content], tokenizer, length) for content in contents],
        [
            [1.0, *(weight for _, weight in content), *[1.0] * (length - 1 - len(content))]
            for content in contents
        ],
    )


def padded(rows: Rows, count: int, tokenizer: Any, length: int) -> Rows:
    """With empty rows at the end, until there are `count`."""
    missing = count - len(rows.ids)
    return Rows(
        rows.ids + [_row([], tokenizer, length) for _ in range(missing)],
        rows.weights + [[1.0] * length for _ in range(missing)],
    )


def _row(tokens: list[int], tokenizer: Any, length: int) -> list[int]:
    end = tokenizer.eos_token_id
    padding = end if tokenizer.pad_token_id is None else tokenizer.pad_token_id
    row = [tokenizer.bos_token_id, *tokens, end]
    return row + [padding] * (length - len(row))
