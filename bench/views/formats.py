# SPDX-License-Identifier: Apache-2.0
"""Tables as Markdown, flat rows as CSV or JSON. Pure: text in, text out."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from bench import escape

WORDS = frozenset({
    "model", "precision", "scheme", "engine", "cache", "suite", "device", "task", "metric", "verdict", "name",
    "organisation", "kind", "measured or reason", "claim", "question", "bounded by", "stated", "evidence",
})  # fmt: skip
"""Titles of columns that hold words: they are aligned left, numbers right."""


def is_words(title: str) -> bool:
    """Whether a column of that title holds words, not numbers."""
    return title in WORDS


FlatValue = str | int | float | bool | None
Flat = dict[str, FlatValue]
"""A row for machines: values in base units by their keys (`bench.views.fields`), None where there is none."""


@dataclass
class Table:
    """Text cells with their titles, and the footnotes they point to."""

    titles: list[str]
    rows: list[list[str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    _places: dict[str, int] = field(default_factory=dict, init=False, repr=False, compare=False)

    def note(self, text: str) -> str:
        """The mark of a footnote, made on first use."""
        if text not in self._places:
            self.notes.append(text)
            self._places[text] = len(self.notes)
        return f"[{self._places[text]}]"


@dataclass(frozen=True, kw_only=True)
class View:
    """One table as a command shows it."""

    title: str = ""
    """What stands above it, empty for nothing."""
    table: Table
    notes: tuple[str, ...] = ()
    """What stands beneath it, one sentence or warning each."""


def markdown(table: Table) -> str:
    """A GitHub table, numbers right-aligned, with its footnotes. Whatever its cells say stays text."""
    rule: list[str] = [escape.Markup("---" if is_words(title) else "---:") for title in table.titles]
    lines = [markdown_row(cells) for cells in (table.titles, rule, *table.rows)]
    notes = [f"[{i}] {escape.markdown(note)}  " for i, note in enumerate(table.notes, 1)]
    return "\n".join([*lines, *([""] if notes else []), *notes]).rstrip() + "\n"


def markdown_row(cells: Iterable[str]) -> str:
    """One line of a table: what is no `escape.Markup` is text."""
    return "| " + " | ".join(escape.markdown(cell) for cell in cells) + " |"


def to_csv(rows: Sequence[Flat], empty: Sequence[str] = ()) -> str:
    """Flat rows as CSV, empty where null; without rows the titles in `empty`."""
    names = list(dict.fromkeys(name for row in rows for name in row)) or list(empty)
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(map(escape.cell, names))
    for row in rows:
        values = (row.get(name) for name in names)
        writer.writerow([escape.cell(value) if isinstance(value, str) else value for value in values])
    return out.getvalue()


def to_json(rows: Sequence[Flat]) -> str:
    """Flat rows as a JSON list, null where there is none or no number; every row has every key."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    flats = [{name: _number(row.get(name)) for name in names} for row in rows]
    return escape.json(json.dumps(flats, indent=1, ensure_ascii=False, allow_nan=False)) + "\n"


def _number(value: FlatValue) -> FlatValue:
    """JSON has no infinity."""
    return None if isinstance(value, float) and not math.isfinite(value) else value
