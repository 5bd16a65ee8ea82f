# SPDX-License-Identifier: Apache-2.0
"""`bench show`: the figures of the newest comparable records."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatch
from typing import TYPE_CHECKING, Annotated

from bench.cli.console import NO_RECORDS, Format, out, print_flat, print_lines, print_notes, print_table, print_title
from bench.cli.options import Rows, SuiteNames, View, named, split
from bench.cli.stored import exit_for_unreadable, matching, newest_rows
from bench.errors import UserError

if TYPE_CHECKING:
    from bench.records.store import Store
    from bench.views.listings import Listing
    from bench.views.table import Row


def _columns() -> list[str]:
    from bench.views.columns import VIEWS
    from bench.views.listings import LISTINGS

    return [*VIEWS, *LISTINGS, "roof", "all"]


@dataclass(frozen=True, kw_only=True)
class Shown(Rows):
    """Which records."""

    suite: SuiteNames = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class Columns(View):
    """Output."""

    columns: Annotated[
        str,
        named(
            "--columns",
            "default, memory, counters, speed, points, roof, energy, quality, served, predicted, capacity, all.",
            _columns,
        ),
    ] = "default"


def show(asked: Shown, output: Columns) -> None:
    """Show the newest comparable record of every cell.

    Example: bench show --model 'smollm2-*' --columns memory
    """
    from bench.records.store import Store
    from bench.views.table import flat

    store = Store(output.results)
    if output.columns == "roof" and not output.format.flat:
        _print_roofs(store, asked.device, output.format)
        return
    rows = matching(newest_rows(store), asked)
    if output.format.flat:
        suites = split(asked.suite)
        records = [(row, name, record) for row in rows for name, record in row.records.items()]
        chosen = [found for found in records if not asked.suite or found[1] in suites]
        print_flat([flat(record, row.lent(name)) for row, name, record in chosen], output.format)
    else:
        print_rows(rows, output.columns, output.format)
    exit_for_unreadable(store)


def print_rows(rows: Sequence[Row], columns: str, form: Format) -> None:
    """The figures of rows, a table for each device."""
    from bench.views.listings import LISTINGS
    from bench.views.notes import footnotes
    from bench.views.table import COLUMNS, VIEWS, people, with_any

    if columns != "all" and columns not in {*VIEWS, *LISTINGS}:
        raise UserError(f"no columns {columns!r}", f"one of: {', '.join(_columns())}")
    if columns in LISTINGS:
        _print_listing(rows, LISTINGS[columns], form)
        return
    chosen = tuple(COLUMNS) if columns == "all" else VIEWS[columns]
    rows = with_any(rows)
    if not rows:
        out.print(NO_RECORDS)
    for device in sorted({row.device for row in rows}):
        here = [row for row in rows if row.device == device]
        print_title(device, form)
        print_table(people(here, chosen), form)
        print_notes(footnotes(here, chosen), form)


def _print_listing(rows: Sequence[Row], listing: Listing, form: Format) -> None:
    """A table that has several lines for one row."""
    from bench.views.listings import listed
    from bench.views.notes import warned

    shown = listed(rows, listing)
    if not shown:
        print_lines([f"no records of {listing.suite} match; `bench run --suite {listing.suite}` makes some"])
    for device in sorted({row.device for row in shown}):
        print_title(device, form)
        here = [row for row in shown if row.device == device]
        print_table(listing.table(here), form)
        print_notes([*listing.notes, *warned(here, [listing.suite], told=["not_measured"])], form)


def _print_roofs(store: Store, device: str, form: Format) -> None:
    """What each run measured of its device's own limits."""
    from bench.views.roofs import NOTES, roofs

    runs = [run for run in store.runs() if fnmatch(run.device, device)]
    found = {name: roofs(run for run in runs if run.device == name) for name in sorted({run.device for run in runs})}
    if not any(table.rows for table in found.values()):
        out.print("no run that measured its device matches; `bench run` makes one")
    for name, table in found.items():
        if table.rows:
            print_title(name, form)
            print_table(table, form)
            print_notes(NOTES, form)
