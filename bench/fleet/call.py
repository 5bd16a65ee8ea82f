# SPDX-License-Identifier: Apache-2.0
"""One call of `bench run --ray`: a plan for each device that the boxes turn out to be, resumed where it stopped."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from rich.console import Console

from bench.engines.registry import backend
from bench.errors import UserError
from bench.fleet.dispatch import Dispatcher
from bench.fleet.link import Link
from bench.fleet.loads import Load, loads
from bench.fleet.news import News
from bench.fleet.wire import Box, Look, Seen
from bench.plan.plan import Plan
from bench.plan.selection import Selection
from bench.records import progress
from bench.records.cell import REFERENCE, digest
from bench.records.code_digest import sources
from bench.records.record import Record
from bench.records.store import Runs, Store
from bench.run.answered import Answered
from bench.run.display import LiveDisplay
from bench.run.locks import measuring
from bench.run.needs import shares
from bench.run.options import RunOptions
from bench.run.runner import new_run_id
from bench.run.telling import Telling, told

COMPARED_WHILE_MEASURED = "quality"
"""The suite whose rows stop once they are told apart from the reference's."""
BESIDE = 3
"""Records of that reference that go with a load: the newest may hold fewer items than the one before."""


@dataclass(frozen=True, kw_only=True)
class Ended:
    """What a call over many boxes has come to."""

    answers: list[Answered]
    open: int
    """Cells that have no record, for want of a box or of budget."""
    devices: tuple[str, ...]
    """Those that were planned for, in the order in which they were met."""


@dataclass(kw_only=True)
class _Part:
    """The call on one device."""

    key: str
    run: str
    plan: Plan
    settled: set[str]
    """Keys of the cells that earlier calls of this run have settled."""
    open: set[str]
    """Keys of its cells that have no settled record of this run."""


@dataclass(kw_only=True)
class _Home:
    """What the dispatcher asks of the call."""

    selection: Selection
    store: Store
    planned: Callable[[Seen], tuple[Plan, RunOptions]]
    of_run: Callable[[str, str], Iterable[Record]]
    fresh: bool
    display: LiveDisplay
    news: News
    say: Callable[[str], None]
    parts: dict[str, _Part] = field(default_factory=dict)

    def admitted(self, box: Box, seen: Seen) -> Sequence[Load]:
        """Plan for a device that is new, unless the box cannot or must not measure. Raises UserError."""
        require_alike(seen)
        require_engines(self.selection.backends, seen)
        device = seen.machine.device
        self.tell(f"box {box.name}: {device}")
        if device in self.parts:
            return []
        plan, options = self.planned(seen)
        part = self._part(device, plan)
        self.parts[device] = part
        open_cells = [planned for planned in plan.cells if planned.cell.key in part.open and not planned.why]
        fits_not = tuple(left for left in plan.left_out if left.planned and left.planned.cell.key in part.open)
        Runs(self.store.root).begin(part.key, part.run, [planned.cell for planned in plan.cells])
        self.display.more(len(open_cells) + len(fits_not))
        self.news.more(part.run, open_cells, fits_not)
        known = {planned.cell.unlimited.key: planned for planned in plan.cells if planned.reference}
        parts = shares(options.budget_s, open_cells)
        found = list(
            loads(
                part.run, seen.machine, options, open_cells, shares=parts, known=known, forced=self.selection.force
            )
        )  # fmt: skip
        if fits_not:
            found.insert(
                0, Load(run=part.run, machine=seen.machine, options=options, cells=[], left_out=fits_not, forced=True)
            )
        return found

    def _part(self, device: str, plan: Plan) -> _Part:
        """The plan's cells that no record of an unfinished run of the same call has settled, under that run's id."""
        key = digest([self.selection.key, device, "boxes"])
        run = None if self.fresh else Runs(self.store.root).unfinished(key)
        asked = {planned.cell.key for planned in plan.cells if not planned.why}
        asked |= {left.planned.cell.key for left in plan.left_out if left.planned}
        made = self.of_run(run, device) if run is not None else ()
        settled = {record.cell.key for record in made if record.outcome.ending.settled}
        return _Part(key=key, run=run or new_run_id(), plan=plan, settled=settled, open=asked - settled)

    def beside(self, load: Load) -> Sequence[Record]:
        """The newest records of the reference that a load's items are compared with, as this folder has them."""
        found: list[Record] = []
        for cell in (p.cell for p in load.cells if p.cell.suite == COMPARED_WHILE_MEASURED):
            scheme = backend(cell.backend).default_scheme(REFERENCE, load.machine.kind)
            if scheme is not None and scheme.name != cell.scheme:
                found += self.store.newest(cell.model_copy(update={"scheme": scheme.name}), BESIDE)
        return found

    def known(self, record: Record) -> bool:
        """Whether an earlier call of this run has settled its cell."""
        return record.cell.key in self.parts[record.cell.device].settled

    def record(self, record: Record, box: Box, load: Load) -> None:
        """One line, and one cell less that is open."""
        self.display.record(record)
        self.news.answered(box, load, record)
        part = self.parts.get(record.cell.device)
        if part is not None and record.outcome.ending.settled:
            part.open.discard(record.cell.key)

    def begins(self, box: Box, load: Load) -> None:
        """Told to who asks."""
        self.news.begins(box, load)

    def ends(self, load: Load) -> None:
        """Told to who asks."""
        self.news.ends(load)

    def tell(self, text: str) -> None:
        """Above the bar."""
        self.say(text)


def run_on_boxes(
    reach: Callable[[], Link], selection: Selection, kind: str | None, store: Store,
    planned: Callable[[Seen], tuple[Plan, RunOptions]], of_run: Callable[[str, str], Iterable[Record]],
    console: Console, *, quiet: bool, fresh: bool = False,
) -> Ended:  # fmt: skip
    """Measure a selection on every device that the boxes of a cluster are; boxes of one device share its loads.

    `reach` opens the link to them, once nobody else asks the same for this folder here.
    `planned` makes the plan for a box's machine, `of_run` has the records that a run has made of a device here. What
    is not settled stays open for the same call. Raises UserError where no box can measure, and where results cannot be
    written.
    """
    store.check_writable()
    store.sweep()
    progress.clear_up(store.root)

    def say(text: str) -> None:
        if not quiet:
            console.out(text, highlight=False)

    name = f"call-{digest([selection.key, str(store.root.resolve())])}"
    with (
        measuring(name, wait=True, tell=say, what="asks the same"),
        contextlib.closing(reach()) as link,
        LiveDisplay(Plan(cells=(), left_out=()), console, quiet=quiet) as display,
        told(Telling(root=store.root, run=new_run_id(), plan=Plan(cells=(), left_out=()))) as telling,
    ):
        home = _Home(
            selection=selection, store=store, planned=planned, of_run=of_run, fresh=fresh, display=display,
            news=News(telling), say=say,
        )  # fmt: skip
        dispatcher = Dispatcher(link, store, Look(kind=kind, backends=selection.backends), home)
        dispatcher.run()
    runs, stay_open = Runs(store.root), 0
    for part in home.parts.values():
        stay_open += len(part.open)
        if not part.open:
            runs.finish(part.key)
    return Ended(answers=dispatcher.answers, open=stay_open, devices=tuple(home.parts))


def require_alike(seen: Seen) -> None:
    """Refuse a box that runs another harness: its rows would be another instrument's. Raises UserError."""
    if seen.sources != sources():
        theirs = f"revision {seen.revision}" if seen.revision else f"sources {seen.sources}"
        what = f"runs another version of this harness ({theirs}; here sources {sources()})"
        raise UserError(what, "install the same one on every box")


def require_engines(backends: Sequence[str], seen: Seen) -> None:
    """Refuse a box that lacks an engine that is asked for. Raises UserError."""
    for name in backends:
        if name in seen.lacking:
            lacks, _, install = seen.lacking[name].partition(": ")
            raise UserError(f"lacks {lacks} for backend {name}", install)
