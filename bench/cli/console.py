# SPDX-License-Identifier: Apache-2.0
"""What commands write on the terminal or into a pipe: tables, titles, notes, and rows as CSV or JSON."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from enum import StrEnum
from textwrap import wrap
from typing import TYPE_CHECKING, Literal

from rich.console import Console
from rich.markup import escape

if TYPE_CHECKING:
    from bench.views.answer import Part
    from bench.views.formats import Flat, Table, View

out = Console(highlight=False, emoji=False, soft_wrap=sys.stdout is None or not sys.stdout.isatty())
err = Console(stderr=True, highlight=False, emoji=False, soft_wrap=True)
"""Lines on it are never broken: a message is one line, whoever reads it."""

NO_RECORDS = "no records match; `bench run` makes some"
PIPE_WIDTH = 250
"""Columns of a table that no terminal limits."""
WORDS = frozenset({
    "model", "precision", "scheme", "engine", "suite", "device", "task", "verdict", "name", "organisation", "kind",
    "measured or reason", "claim", "question", "bounded by", "stated", "evidence",
})  # fmt: skip
"""Titles of columns that hold words: they are aligned left, numbers right."""

UNBROKEN = frozenset({"precision", "perplexity", "verdict"})
"""Titles of columns whose cells stay on one line where a terminal is narrow: others give way."""


class Format(StrEnum):
    """How a view is written."""

    TABLE = "table"
    MD = "md"
    CSV = "csv"
    JSON = "json"

    @property
    def flat(self) -> bool:
        """Whether programs read it: rows of values in base units instead of tables and notes for people."""
        return self in {Format.CSV, Format.JSON}


def print_flat(rows: Sequence[Flat], form: Format) -> None:
    """Rows as CSV or JSON."""
    from bench.views.formats import to_json
    from bench.views.table import to_csv

    out.print(to_csv(rows) if form is Format.CSV else to_json(rows), end="", markup=False)


def print_table(table: Table, form: Format) -> None:
    """A table with its footnotes, for a terminal or as Markdown."""
    if form is Format.MD:
        from bench.views.formats import markdown

        out.print(markdown(table), markup=False, soft_wrap=True)
        return
    from rich import box
    from rich.table import Table as RichTable

    rich_table = RichTable(box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    width = None if sys.stdout.isatty() else PIPE_WIDTH
    for title, least in zip(table.titles, _least(table, width or out.width), strict=True):
        justify: Literal["left", "right"] = "left" if title in WORDS else "right"
        rich_table.add_column(title, justify=justify, overflow="fold", min_width=least)
    for row in table.rows:
        rich_table.add_row(*(escape(cell or "") for cell in row))
    Console(highlight=False, width=width).print(rich_table)
    for index, note in enumerate(table.notes, 1):
        out.print(f"[{index}] {note}", markup=False)


def _least(table: Table, width: int) -> list[int | None]:
    """The narrowest each column may become, so that no word is broken where a terminal has room for all words.

    Some are kept whole as long as there is room for that too; None where there is room for neither.
    """
    columns = [[title, *cells] for title, *cells in zip(table.titles, *table.rows, strict=True)]
    words = [max(len(word) for cell in column for word in (cell.split() or [""])) for column in columns]
    whole = [
        max(map(len, column)) if column[0] in UNBROKEN else least for column, least in zip(columns, words, strict=True)
    ]
    between = 2 * len(columns)
    return next((list(found) for found in (whole, words) if sum(found) + between <= width), [None] * len(columns))


def print_views(views: Sequence[View], form: Format) -> None:
    """Tables, with what stands above and beneath each."""
    for view in views:
        if view.title:
            print_title(view.title, form)
        print_table(view.table, form)
        print_notes(view.notes, form)


VERDICTS = {"equivalent": "green", "better": "green", "worse": "red", "undecided": "yellow"}
"""Colours of the words that a reader looks for."""
NARROWEST = 60
"""Columns below which no line is broken any further."""


def print_parts(parts: Sequence[Part], form: Format) -> None:
    """The answer in words, verdicts coloured, and the command that runs what was chosen as it is to be typed."""
    from rich.text import Text

    from bench.views.answer import markdown, text

    width = max(NARROWEST, out.width if sys.stdout.isatty() else 100)
    for part in parts:
        print_title(part.title, form)
        if form is Format.MD:
            out.print(markdown(part), markup=False)
            continue
        for line in text(part, width):
            begins, colon, _ = line.partition(":")
            said = Text(line)
            if colon and not line.startswith(" "):
                said.stylize("bold", 0, len(begins))
            for word, colour in VERDICTS.items():
                said.highlight_words([word], colour)
            out.print(said, soft_wrap=True)
        if part.command:
            out.print(part.command, markup=False, style="cyan", soft_wrap=True)


def print_title(title: str, form: Format) -> None:
    """A heading above a table."""
    out.print(f"\n[bold]{escape(title)}[/]" if form is Format.TABLE else f"## {title}\n")


def print_notes(lines: Iterable[str], form: Format) -> None:
    """What stands beneath a table."""
    for line in lines:
        if form is not Format.TABLE:
            out.print(f"- {line}", markup=False)
            continue
        for part in wrap(line, out.width, subsequent_indent="    ") if sys.stdout.isatty() else [line]:
            out.print(part, markup=False, style="dim")


def print_lines(lines: Iterable[str]) -> None:
    """Sentences as they are: a bracket in them is no markup."""
    for line in lines:
        out.print(line, markup=False)


def print_facts(facts: Sequence[tuple[str, str]], form: Format = Format.TABLE) -> None:
    """Names with what is known of each, one a line."""
    width = max(len(name) for name, _ in facts)
    for name, text in facts:
        markdown = form is Format.MD
        out.print(f"- {name}: {escape(text)}" if markdown else f"[bold]{name:<{width}}[/]  {escape(text)}")


def warn(lines: Iterable[str], style: str | None = None) -> None:
    """Sentences on stderr: what was left out or went wrong."""
    for line in lines:
        err.print(line, markup=False, style=style)
