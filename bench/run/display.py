# SPDX-License-Identifier: Apache-2.0
"""What a person sees while cells are measured: the cell, its phase, its time; in a pipe, a dated log."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, ProgressColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.progress import Task as Bar
from rich.text import Text

from bench.escape import visible
from bench.plan.plan import Plan
from bench.plan.questions import Planned
from bench.records.owner import Owner
from bench.records.record import Ending, Record
from bench.run.answered import Answered
from bench.run.options import Observer
from bench.units import human_seconds

REFRESH_PER_S = 1
"""Redrawing takes about 3 ms; once a second keeps the waiting process under 1 % of a core."""


def answers(records: Iterable[Answered]) -> list[list[Answered]]:
    """Records grouped by output line: all cells of a failed load are one group, every other record is its own."""
    groups: list[list[Answered]] = []
    for record in records:
        if groups and _same_failure(groups[-1][-1], record):
            groups[-1].append(record)
        else:
            groups.append([record])
    return groups


def _same_failure(this: Answered, other: Answered) -> bool:
    """Whether one failing load settled both: nothing was ever loaded, and they began and ended as one."""
    ends = [(r.cell.load_key, r.run, r.started, r.outcome) for r in (this, other)]
    return ends[0] == ends[1] and _while_loading(this) and _while_loading(other)


def _while_loading(record: Answered) -> bool:
    return not record.loaded and record.outcome.ending is not Ending.OK


def named(group: Sequence[Answered]) -> str:
    """What a group's line begins with: its cell, or how many cells of which suites."""
    first = group[0].cell
    if len(group) == 1:
        return str(first)
    head, suites = str(first).removesuffix(f" {first.suite}"), ", ".join(record.cell.suite for record in group)
    return f"{head} {len(group)} cells ({suites})"


class Expected(ProgressColumn):
    """The expected time of a bar, and what of it is loading; empty if it is unknown."""

    max_refresh = 0.9

    def render(self, task: Bar) -> Text:
        """The text."""
        expected, loading = task.fields.get("expected") or 0, task.fields.get("loading") or 0
        part = f", {human_seconds(loading)} of it loading" if loading else ""
        return Text(f"of about {human_seconds(expected)}{part}" if expected else "", style="dim")


class LiveDisplay(Observer):
    """An Observer that prints a line for each record; silent when told.

    On a terminal two more lines say what is being measured. In a pipe nothing moves, and a record's line has its time
    and the count of cells before it, so that what an unattended run left in a file is its log.
    """

    def __init__(self, plan: Plan, console: Console, *, quiet: bool) -> None:
        self.console, self.quiet, self.logs = console, quiet, not console.is_terminal
        self.total, self.done, self.began = len(plan.cells), 0, time.monotonic()
        self.progress = Progress(
            TextColumn("{task.description}"), BarColumn(bar_width=18), TimeElapsedColumn(), Expected(),
            console=console, refresh_per_second=REFRESH_PER_S, transient=True, disable=quiet or self.logs,
        )  # fmt: skip
        self.all = self.progress.add_task("", total=self.total, expected=plan.seconds, loading=plan.loading_s)
        self.now: TaskID | None = None
        self.held: list[Answered] = []
        """What one failing load has settled so far: told in one line, when something else happens."""
        self._title()

    def __enter__(self) -> Self:
        self.progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._tell_held()
        self.progress.stop()

    def _title(self) -> None:
        self.progress.update(self.all, description=f"cells {self.done}/{self.total}", completed=self.done)

    def _begin(self, label: str, expected: float) -> None:
        self._tell_held()
        if self.now is not None:
            self.progress.remove_task(self.now)
        self.label = label
        self.now = self.progress.add_task(label, total=None, expected=expected)

    def more(self, cells: int) -> None:
        """There are so many more cells than was known."""
        self.total += cells
        self.progress.update(self.all, total=self.total)
        self._title()

    def load(self, first: Planned) -> None:
        """A worker begins to load."""
        self._begin(f"{first.cell.model} {first.cell.precision} ({first.cell.scheme}): start", 0)

    def cell(self, planned: Planned) -> None:
        """A cell begins."""
        cell = planned.cell
        self._begin(f"{cell.model} {cell.precision} ({cell.scheme}): {cell.suite}", planned.predicted.seconds or 0)

    def phase(self, name: str, done: int, total: int) -> None:
        """Progress within it."""
        if self.now is not None:
            count = f" {done}/{total}" if total > 1 else ""
            head = self.label.removesuffix(": start")
            described = f"{head}, {escape(visible(name))}{count}"  # a task file's own name may be among it
            self.progress.update(self.now, description=described, total=total or None, completed=done)

    def finishing(self, planned: Planned | None) -> None:
        """Said even with --quiet: whoever asked for the end must know what is waited for."""
        self._tell_held()
        what = str(planned.cell) if planned else "what runs"
        self.console.print(f"{what} is finished first; Ctrl-C once more stops it now", highlight=False, markup=False)

    def again(self, cells: Sequence[Planned]) -> None:
        """Say why there are more cells than were planned."""
        self._tell_held()
        self.total += len(cells)
        self.progress.update(self.all, total=self.total)
        if not self.quiet:
            self.console.print(f"time is left: {len(cells)} cells that were cut are measured longer", highlight=False)

    def undecided(self, cells: Sequence[Planned]) -> None:
        """Print this even with --quiet: a spent budget must not look like an answer."""
        named = ", ".join(str(planned.cell) for planned in cells)
        self._tell_held()
        self.console.print(
            f"budget spent, {len(cells)} cells stay undecided: {named}; the same command goes on from here",
            highlight=False, markup=False,
        )  # fmt: skip

    def elsewhere(self, cells: Sequence[Planned]) -> None:
        """One line: these count as answered."""
        self._tell_held()
        self.done += len(cells)
        self._title()
        if not self.quiet:
            self.console.print(f"another bench has answered {len(cells)} of these cells", highlight=False)

    def waits(self, owner: Owner | None) -> None:
        """Said even with --quiet, once."""
        if owner is not None:
            self._tell_held()
            self.console.print(
                f"another bench (process {owner.pid}) measures what is left: waiting for it", highlight=False
            )

    def record(self, record: Record) -> None:
        """One line for what is now on disk; one for all that a failing load settles."""
        answered = Answered.of(record)
        if self.held and not _same_failure(self.held[-1], answered):
            self._tell_held()
        self.done += 1
        self._title()
        self.held.append(answered)
        if not _while_loading(answered):
            self._tell_held()

    def _tell_held(self) -> None:
        group, self.held = self.held, []
        if not group or self.quiet:
            return
        outcome, took = group[0].outcome, f"[dim]{human_seconds(group[0].seconds)}[/]"
        ok = outcome.ending is Ending.OK
        mark = "[green]ok[/]" if ok else f"[red]{outcome.ending}[/]: {escape(visible(outcome.reason))}"
        stamp = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ} {self.done}/{self.total} " if self.logs else ""
        self.console.print(f"{stamp}{escape(named(group))}: {mark} {took}", highlight=False)
