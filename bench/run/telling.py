# SPDX-License-Identifier: Apache-2.0
"""Tell on disk how far a run is, for `bench status` in another terminal, beside what this terminal shows."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bench.errors import UserError
from bench.escape import visible
from bench.plan.plan import Plan
from bench.plan.questions import Planned
from bench.records.owner import Owner, this_process
from bench.records.progress import Doing, Failed, Progress, close, now, own_path, tell
from bench.records.record import Record
from bench.run.options import Observer

EVERY_S = 2.0
"""Progress within a cell is written so often at most; what begins and ends, at once."""
MOST_FAILURES = 20
REASON = 200
STEADY_S = 30.0
"""Seconds of the predictions that a run has kept to before anything is measured."""


@dataclass(kw_only=True)
class Telling:
    """What one run tells; several devices may tell at once."""

    root: Path
    run: str
    plan: Plan
    began: float = field(default_factory=now)
    answered: int = 0
    failed: int = 0
    others: int = 0
    open_cells: int = 0
    cells: int = 0
    doing: dict[str, Doing] = field(default_factory=dict)
    failures: list[Failed] = field(default_factory=list)
    waits_for: str = ""

    def __post_init__(self) -> None:
        self.expects(self.plan)
        self._took, self._expected = 0.0, 0.0
        self._path, self._lock, self._written = own_path(self.root), threading.Lock(), 0.0

    def expects(self, plan: Plan) -> None:
        """The seconds of the cells that are still ahead, all of them."""
        self.plan, self.cells = plan, len(plan.cells)
        self._left = {planned.cell.key: planned.predicted.seconds or 0.0 for planned in plan.cells}
        self._loads = {planned.cell.load_key: planned.loading_s for planned in plan.cells}
        self._known = plan.seconds > 0

    def left_s(self) -> float | None:
        """What is predicted of what is left, by how this run has kept to its predictions; what runs is counted once."""
        if not self._known:
            return None
        factor = (self._took + STEADY_S) / (self._expected + STEADY_S)
        left = factor * (sum(self._left.values()) + sum(self._loads.values()))
        spent = sum(min(now() - one.since, one.expected_s) for one in self.doing.values() if one.expected_s)
        return max(0.0, left - spent) / max(1, len(self.doing))

    def write(self, *, whole: bool = True) -> None:
        """Write it down; with `whole` False only where the last time is a while ago."""
        with self._lock:
            if not whole and time.monotonic() - self._written < EVERY_S:
                return
            self._written = time.monotonic()
            tell(self._path, self._progress())

    def _progress(self, ended: str = "") -> Progress:
        left = self.left_s()
        return Progress(
            run=self.run, owner=this_process(), began=self.began, told=now(), cells=self.cells, answered=self.answered,
            failed=self.failed, others=self.others, undecided=self.open_cells,
            left_s=None if left is None or ended else round(left, 1), doing=() if ended else tuple(self.doing.values()),
            failures=tuple(self.failures), waits_for=self.waits_for, ended=ended,
        )  # fmt: skip

    def close(self, ended: str) -> None:
        """The run has ended so."""
        with self._lock:
            close(self.root, self._progress(ended))

    def begins(self, device: str, what: str, expected_s: float) -> None:
        """A load or a cell on a device."""
        self.doing[device] = Doing(device=device, what=what, since=now(), expected_s=expected_s)
        self.write()

    def loads(self, device: str, first: Planned) -> None:
        """A load begins, and its seconds are no longer ahead once its first cell does."""
        cell = first.cell
        self.begins(device, f"{cell.model} {cell.precision} ({cell.backend} {cell.scheme})", first.loading_s)

    def answers(self, device: str, planned: Planned) -> None:
        """A cell begins."""
        self._loads.pop(planned.cell.load_key, None)
        self.begins(device, str(planned.cell), planned.predicted.seconds or 0.0)

    def goes_on(self, device: str, name: str, done: int, total: int) -> None:
        """Progress within it."""
        if device in self.doing:
            news = {"phase": visible(name, 100), "done": done, "total": total}
            self.doing[device] = self.doing[device].model_copy(update=news)
            self.write(whole=False)

    def answered_by(self, device: str, record: Record) -> None:
        """A record is on disk."""
        self.doing.pop(device, None)
        self.answered += 1
        expected = self._left.pop(record.cell.key, 0.0)
        if record.outcome.ending.settled and expected:
            self._took, self._expected = self._took + record.seconds, self._expected + expected
        if not record.outcome.ending.settled:
            self.failed += 1
            reason = visible(record.outcome.reason, REASON)
            self.failures.append(Failed(cell=str(record.cell), ending=str(record.outcome.ending), reason=reason))
            del self.failures[:-MOST_FAILURES]
        self.write()

    def no_more(self, cells: Sequence[Planned], *, answered: bool) -> None:
        """Cells that another process has answered, or that the budget leaves open."""
        for planned in cells:
            self._left.pop(planned.cell.key, None)
        if answered:
            self.others += len(cells)
            self.answered += len(cells)
        else:
            self.open_cells += len(cells)
        left = {planned.cell.load_key for planned in self.plan.cells if planned.cell.key in self._left}
        self._loads = {key: seconds for key, seconds in self._loads.items() if key in left}
        self.write()

    def again(self, cells: Sequence[Planned]) -> None:
        """More cells than were planned: those that were cut and have time left, or those of one more device."""
        self.cells += len(cells)
        for planned in cells:
            self._left[planned.cell.key] = planned.predicted.seconds or 0.0
            self._loads[planned.cell.load_key] = planned.loading_s
        self._known = self._known or any(self._left.values())
        self.write()

    def waits(self, owner: Owner | None) -> None:
        """Another process has what is left; None: no longer."""
        self.waits_for = "" if owner is None else f"process {owner.pid}"
        self.write()


@contextlib.contextmanager
def told(telling: Telling) -> Iterator[Telling]:
    """Tell how far the run is while it measures, and how it ended."""
    telling.write()
    ended = "stopped"
    try:
        yield telling
        ended = "done"
    except UserError as error:
        ended = error.message
        raise
    finally:
        telling.close(ended)


class Heard(Observer):
    """What happens on one device: shown on the terminal and told on disk."""

    def __init__(self, shown: Observer, telling: Telling, device: str) -> None:
        self.shown, self.telling, self.device = shown, telling, device

    def load(self, first: Planned) -> None:
        """A worker begins to load."""
        self.shown.load(first)
        self.telling.loads(self.device, first)

    def cell(self, planned: Planned) -> None:
        """A cell begins."""
        self.shown.cell(planned)
        self.telling.answers(self.device, planned)

    def phase(self, name: str, done: int, total: int) -> None:
        """Progress within a load or a cell."""
        self.shown.phase(name, done, total)
        self.telling.goes_on(self.device, name, done, total)

    def record(self, record: Record) -> None:
        """A record is on disk."""
        self.shown.record(record)
        self.telling.answered_by(self.device, record)

    def finishing(self, planned: Planned | None) -> None:
        """Nothing more begins after this cell."""
        self.shown.finishing(planned)

    def again(self, cells: Sequence[Planned]) -> None:
        """There is time left for these."""
        self.shown.again(cells)
        self.telling.again(cells)

    def undecided(self, cells: Sequence[Planned]) -> None:
        """The budget is spent."""
        self.shown.undecided(cells)
        self.telling.no_more(cells, answered=False)

    def elsewhere(self, cells: Sequence[Planned]) -> None:
        """Another process has answered these."""
        self.shown.elsewhere(cells)
        self.telling.no_more(cells, answered=True)

    def waits(self, owner: Owner | None) -> None:
        """Another process has what is left."""
        self.shown.waits(owner)
        self.telling.waits(owner)
