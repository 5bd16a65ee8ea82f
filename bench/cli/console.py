# SPDX-License-Identifier: Apache-2.0
"""What commands write on the terminal or into a pipe: tables, titles, notes, and rows as CSV or JSON."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from enum import StrEnum
from textwrap import wrap
from typing import TYPE_CHECKING

from rich.console import Console, ConsoleOptions, RenderableType
from rich.markup import escape
from rich.segment import Segment

from bench.escape import markdown as as_text
from bench.escape import printed, visible

if TYPE_CHECKING:
    from bench.views.answer import Part
    from bench.views.formats import Flat, Table, View


class Terminal(Console):
    """Writes no control but rich's own: whatever is printed may hold what a catalogue, a record or a server says."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterator[Segment]:
        """The pieces of what is printed, each with its controls made visible; colours and cursor are rich's own."""
        for piece in super().render(renderable, options):
            yield piece if piece.control else Segment(printed(piece.text), piece.style)


out = Terminal(highlight=False, emoji=False, soft_wrap=sys.stdout is None or not sys.stdout.isatty())
err = Terminal(stderr=True, highlight=False, emoji=False, soft_wrap=True)
"""Lines on it are never broken: a message is one line, whoever reads it."""

NO_RECORDS = "no records match; `bench run` makes some"
PIPE_WIDTH = 250
"""Columns of a table that no terminal limits."""
WHOLE = "as one table: in a wider terminal, or with --format csv (after a run, of `bench show` and `bench compare`)"
"""What stands beneath rows that are shown as blocks."""


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

    out.print(to_csv(rows) if form is Format.CSV else to_json(rows), end="", markup=False, soft_wrap=True)


def print_table(table: Table, form: Format) -> None:
    """A table with its footnotes, for a terminal or as Markdown."""
    if not _as_table(table, form):
        out.print(f"\n{WHOLE}", markup=False, style="dim")


def _as_table(table: Table, form: Format) -> bool:
    """Print it; returns whether its columns had room, and rows are not blocks."""
    if form is Format.MD:
        from bench.views.formats import markdown

        out.print(markdown(table), markup=False, soft_wrap=True)
        return True
    from bench.views.layout import blocks, shown, widths

    plain = shown(table)
    room = out.width if sys.stdout.isatty() else PIPE_WIDTH
    columns = widths(plain, room)
    if columns is None:
        for head, lines in blocks(plain, room):
            out.print(head, markup=False, style="bold", soft_wrap=True)
            print_lines(lines)
    else:
        _print_rows(plain, columns)
    for index, note in enumerate(plain.notes, 1):
        out.print(f"[{index}] {note}", markup=False)
    return columns is not None


def _print_rows(table: Table, widths: Sequence[int]) -> None:
    """As rich draws its own tables, which takes it half a second for five hundred rows."""
    from bench.views.layout import lines

    (blank,) = lines([[""] * len(widths)], table.titles, widths)
    rule = f" {('-' if out.options.ascii_only else '─') * (len(blank) - 2)} "
    head, body = lines([table.titles], table.titles, widths), lines(table.rows, table.titles, widths)
    _write([blank])
    out.print("\n".join(head), markup=False, style="bold", soft_wrap=True)
    _write([rule, *body, blank])


def _write(lines: Iterable[str]) -> None:
    """Lines that have no style and are broken by nobody, past rich, which looks at every letter of each."""
    out.file.write("".join(f"{line}\n" for line in lines))


def print_views(views: Sequence[View], form: Format) -> None:
    """Tables, with what stands above and beneath each."""
    whole = True
    for view in views:
        if view.title:
            print_title(view.title, form)
        whole &= _as_table(view.table, form)
        print_notes(view.notes, form)
    if not whole:
        out.print(f"\n{WHOLE}", markup=False, style="dim")


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
            out.print(markdown(part), markup=False, soft_wrap=True)
            continue
        for line in text(part, width):
            begins, colon, _ = line.partition(":")
            said = Text(visible(line))
            if colon and not line.startswith(" "):
                said.stylize("bold", 0, len(begins))
            for word, colour in VERDICTS.items():
                said.highlight_words([word], colour)
            out.print(said, soft_wrap=True)
        if part.command:
            out.print(part.command, markup=False, style="cyan", soft_wrap=True)


def print_title(title: str, form: Format) -> None:
    """A heading above a table."""
    if form is Format.TABLE:
        out.print(f"\n[bold]{escape(visible(title))}[/]")
    else:
        out.print(f"## {as_text(title)}\n", markup=False, soft_wrap=True)


def print_notes(lines: Iterable[str], form: Format) -> None:
    """What stands beneath a table."""
    for line in lines:
        if form is not Format.TABLE:
            out.print(f"- {as_text(line)}", markup=False, soft_wrap=True)
            continue
        said = visible(line)
        for part in wrap(said, out.width, subsequent_indent="    ") if sys.stdout.isatty() else [said]:
            out.print(part, markup=False, style="dim")


def print_lines(lines: Iterable[str], form: Format = Format.TABLE) -> None:
    """Sentences as they are: a bracket in them is no markup."""
    said = (visible(line) if form is Format.TABLE else printed(f"- {as_text(line)}") for line in lines)
    if out.soft_wrap:
        _write(said)
        return
    for line in said:
        out.print(line, markup=False)


def print_facts(facts: Sequence[tuple[str, str]], form: Format = Format.TABLE) -> None:
    """Names with what is known of each, one a line."""
    width = max(len(name) for name, _ in facts)
    for name, text in facts:
        if form is Format.MD:
            out.print(f"- {name}: {as_text(text)}", markup=False, soft_wrap=True)
        else:
            out.print(f"[bold]{name:<{width}}[/]  {escape(visible(text))}")


def warn(lines: Iterable[str], style: str | None = None) -> None:
    """Sentences on stderr: what was left out or went wrong."""
    for line in lines:
        err.print(visible(line), markup=False, style=style)
