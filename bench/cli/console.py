# SPDX-License-Identifier: Apache-2.0
"""What commands write on the terminal or into a pipe: tables, titles, notes, and rows as CSV or JSON."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from enum import StrEnum
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape

if TYPE_CHECKING:
    from bench.views.formats import Flat, Table, View

out = Console(highlight=False, emoji=False, soft_wrap=not sys.stdout.isatty())
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
    for title in table.titles:
        rich_table.add_column(title, justify="left" if title in WORDS else "right", overflow="fold")
    for row in table.rows:
        rich_table.add_row(*(escape(cell or "") for cell in row))
    width = None if sys.stdout.isatty() else PIPE_WIDTH
    Console(highlight=False, width=width).print(rich_table)
    for index, note in enumerate(table.notes, 1):
        out.print(f"[{index}] {note}", markup=False)


def print_views(views: Sequence[View], form: Format) -> None:
    """Tables, with what stands above and beneath each."""
    for view in views:
        if view.title:
            print_title(view.title, form)
        print_table(view.table, form)
        print_notes(view.notes, form)


def print_title(title: str, form: Format) -> None:
    """A heading above a table."""
    out.print(f"\n[bold]{escape(title)}[/]" if form is Format.TABLE else f"## {title}\n")


def print_notes(lines: Iterable[str], form: Format) -> None:
    """What stands beneath a table."""
    table = form is Format.TABLE
    for line in lines:
        out.print(line if table else f"- {line}", markup=False, style="dim" if table else None)


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
