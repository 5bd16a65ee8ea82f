# SPDX-License-Identifier: Apache-2.0
"""Tables as Markdown, flat rows as CSV or JSON. Pure: text in, text out."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field

TEXT = ("model", "precision", "scheme", "engine", "device", "task", "metric", "verdict", "question", "bounded by")
"""Titles of columns that hold words, not numbers."""

FlatValue = str | int | float | bool | None
Flat = dict[str, FlatValue]
"""A row for machines: values in base units by their keys (`bench.views.fields`), None where there is none."""


@dataclass
class Table:
    """Text cells with their titles, and the footnotes they point to."""

    titles: list[str]
    rows: list[list[str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def note(self, text: str) -> str:
        """The mark of a footnote, made on first use."""
        if text not in self.notes:
            self.notes.append(text)
        return f"[{self.notes.index(text) + 1}]"


@dataclass(frozen=True, kw_only=True)
class View:
    """One table as a command shows it."""

    title: str = ""
    """What stands above it, empty for nothing."""
    table: Table
    notes: tuple[str, ...] = ()
    """What stands beneath it, one sentence or warning each."""


def markdown(table: Table) -> str:
    """A GitHub table, numbers right-aligned, with its footnotes."""
    text = sum(title in TEXT for title in table.titles)
    rule = ["---" if i < text else "---:" for i in range(len(table.titles))]
    lines = ["| " + " | ".join(cells) + " |" for cells in [table.titles, rule, *table.rows]]
    lines += ["", *(f"[{i}] {note}  " for i, note in enumerate(table.notes, 1))] if table.notes else []
    return "\n".join(line.replace("\n", " ") for line in lines).rstrip() + "\n"


def to_csv(rows: Sequence[Flat], empty: Sequence[str] = ()) -> str:
    """Flat rows as CSV, empty where null; without rows the titles in `empty`."""
    names = list(dict.fromkeys(name for row in rows for name in row)) or list(empty)
    out = io.StringIO()
    writer = csv.DictWriter(out, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()


def to_json(rows: Sequence[Flat]) -> str:
    """Flat rows as a JSON list, null where there is none or no number; every row has every key."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    flats = [{name: _number(row.get(name)) for name in names} for row in rows]
    return json.dumps(flats, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def _number(value: FlatValue) -> FlatValue:
    """JSON has no infinity."""
    return None if isinstance(value, float) and not math.isfinite(value) else value
