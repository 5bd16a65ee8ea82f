# SPDX-License-Identifier: Apache-2.0
"""`bench show`: the figures of the newest comparable records."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from bench.cli.console import NO_RECORDS, Format, print_flat, print_lines, print_notes, print_views
from bench.cli.options import Rows, SuiteNames, View, named, split
from bench.cli.stored import Stored, matching
from bench.errors import UserError

if TYPE_CHECKING:
    from bench.judge.rows import Row


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
            "default, memory, counters, speed, points, roof, energy, quality, tasks, served, predicted, capacity, all.",
            _columns,
        ),
    ] = "default"


def show(asked: Shown, output: Columns) -> None:
    """Show the newest comparable record of every cell.

    Example: bench show --model 'smollm2-*' --columns memory
    """
    if output.columns == "roof" and not output.format.flat:
        _print_roofs(output.results, asked.device, output.format)
        return
    stored = Stored(output.results)  # first: the folder is listed while the rest is imported
    from bench.views.table import flats
    from bench.views.warnings import every

    rows = matching(stored.rows(), asked)
    if output.format.flat:
        print_flat(flats(rows, split(asked.suite)), output.format)
    else:
        print_rows(rows, output.columns, output.format)
        if output.warnings:
            print_notes(every(rows), output.format)
    stored.finish()


def print_rows(rows: Sequence[Row], columns: str, form: Format) -> None:
    """The figures of rows, a table for each device."""
    import suites
    from bench.judge.rows import with_any
    from bench.views import listings, table
    from bench.views.columns import COLUMNS, VIEWS

    named = listings.LISTINGS
    if columns != "all" and columns not in {*VIEWS, *named}:
        raise UserError(f"no columns {columns!r}", f"one of: {', '.join(_columns())}")
    if columns in named:
        suite = named[columns].suite
        found = listings.views(rows, named[columns])
        none = f"no records of {suite} match; `bench run --suite {suite}` makes some"
    else:
        found = table.views(with_any(rows, suites.DEFAULT), tuple(COLUMNS) if columns == "all" else VIEWS[columns])
        none = NO_RECORDS
    print_views(found, form)
    if not found:
        print_lines([none])


def _print_roofs(results: Path, device: str, form: Format) -> None:
    """What each run measured of its device's own limits."""
    from bench.records.store import Store
    from bench.views import roofs

    found = roofs.views([run for run in Store(results).runs() if fnmatch(run.device, device)])
    print_views(found, form)
    if not found:
        print_lines(["no run that measured its device matches; `bench run` makes one"])
