# SPDX-License-Identifier: Apache-2.0
"""A table in so many characters: how wide its columns are, or each row as a block where they have no room. Pure.

No number is ever broken and no word either: a reader takes the `0.00073` of a broken `0.000732` for the figure.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import zip_longest

from rich.cells import cell_len

from bench.escape import visible
from bench.views.formats import Table, is_words

BETWEEN = 2
"""Characters between two columns."""
KEPT = 24
"""A cell with a figure stays on one line up to so many characters: longer ones are sentences."""
UNBROKEN = frozenset({"precision", "perplexity", "verdict"})
"""Titles of columns whose cells stay on one line where there is room for it: others give way."""
HEAD = frozenset({"model", "precision", "scheme", "engine", "cache", "suite", "device", "task", "claim", "name", "at"})
"""Titles of the first columns that say which row it is: a block begins with them."""
TEXTS = 16_384
"""Cells that are remembered: of a plan of thousands most say what others do."""
INDENT = "  "
WIDE = 40
"""A value of more characters has a line of its own in a block."""


def shown(table: Table) -> Table:
    """The same table as a terminal may have it: every text on one line, its controls visible, and not too long."""
    titles, *rows = ([_seen(text or "") for text in row] for row in (table.titles, *table.rows))
    return Table(titles, rows, [visible(note) for note in table.notes])


@lru_cache(maxsize=TEXTS)
def _seen(text: str) -> str:
    return visible(text)


def widths(table: Table, room: int) -> list[int] | None:
    """The width of each column, None where there is no room for them without breaking a number or a word."""
    columns = list(zip(table.titles, *table.rows, strict=True))
    whole = [max(map(cell_len, column)) for column in columns]
    least = [max(_least(column[0], text) for text in column) for column in columns]
    kept = [width if title in UNBROKEN else few for title, width, few in zip(table.titles, whole, least, strict=True)]
    room -= BETWEEN * len(columns)  # and one before the first and behind the last
    narrowest = next((found for found in (kept, least) if sum(found) <= room), None)
    return None if narrowest is None else _fitted(whole, narrowest, room)


@lru_cache(maxsize=TEXTS)
def _least(title: str, text: str) -> int:
    """The narrowest that a text may become: a figure with its interval is one word."""
    if not is_words(title) and len(text) <= KEPT and re.search(r"\d", text):
        return cell_len(text)
    return max((cell_len(word) for word in text.split()), default=0)


def _fitted(whole: Sequence[int], least: Sequence[int], room: int) -> list[int]:
    """From their own widths down to the room, the widest column first, none below its least."""
    found = list(whole)
    while sum(found) > room:
        widest = max((i for i in range(len(found)) if found[i] > least[i]), key=found.__getitem__)
        found[widest] -= 1
    return found


def lines(rows: Iterable[Sequence[str]], titles: Sequence[str], widths: Sequence[int]) -> Iterator[str]:
    """Rows under these titles as they are drawn in columns of these widths, texts aligned left and figures right."""
    left = [is_words(title) for title in titles]
    for cells in rows:
        columns = [_wrapped(text, width) for text, width in zip(cells, widths, strict=True)]
        for parts in zip_longest(*columns, fillvalue=""):
            padded = [
                part + blank if first else blank + part
                for part, width, first in zip(parts, widths, left, strict=True)
                for blank in (" " * (width - cell_len(part)),)
            ]
            yield f" {(' ' * BETWEEN).join(padded)} "


def _wrapped(text: str, width: int) -> list[str]:
    """A text on lines of at most that width, for which no word is too long."""
    if cell_len(text) <= width:
        return [text]
    found = [""]
    for word in re.findall(r"\s*\S+\s*", text):
        if found[-1] and cell_len(found[-1]) + cell_len(word.rstrip()) > width:
            found.append("")
        found[-1] += word
    return [part.rstrip() for part in found]


def blocks(table: Table, room: int) -> Iterator[tuple[str, list[str]]]:
    """For each row what it is about, and all else as lines of titles and values.

    Short values stand side by side, in the same places in every block; a longer one has lines of its own.
    """
    first = 1
    while first < len(table.titles) and table.titles[first] in HEAD:
        first += 1
    room -= len(INDENT)
    titled = max(map(cell_len, table.titles[first:]), default=0)
    most = min(WIDE, room - titled - BETWEEN)
    valued = max((cell_len(text) for row in table.rows for text in row[first:] if cell_len(text) <= most), default=0)
    beside = max(1, (room + BETWEEN) // (titled + valued + 2 * BETWEEN))
    for row in table.rows:
        pairs = [(title, text) for title, text in zip(table.titles[first:], row[first:], strict=True) if text]
        short = [_padded(title, titled) + _padded(text, valued) for title, text in pairs if cell_len(text) <= most]
        lines = ["".join(short[start : start + beside]).rstrip() for start in range(0, len(short), beside)]
        for title, text in pairs:
            if cell_len(text) > most:
                lines += textwrap.wrap(
                    text, room, initial_indent=_padded(title, titled), subsequent_indent=" " * (titled + BETWEEN),
                    break_on_hyphens=False,
                )  # fmt: skip
        yield (" " * BETWEEN).join(row[:first]), [INDENT + line for line in lines]


def _padded(text: str, width: int) -> str:
    return text + " " * (width - cell_len(text) + BETWEEN)
