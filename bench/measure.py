# SPDX-License-Identifier: Apache-2.0
"""One call of `bench run`: take up an interrupted run where it stopped, measure, and remember what is still open."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from rich.console import Console

from bench import machine
from bench.display import LiveDisplay
from bench.plan import Plan, has_reference
from bench.record import Machine, Record
from bench.runner import Limits, Runner, new_run_id
from bench.selection import Selection
from bench.store import Runs, Store


def continued(plan: Plan, selection: Selection, store: Store, *, fresh: bool) -> tuple[Plan, str, int]:
    """The plan without what an unfinished run of the same call settled, that run's id (or a new one), and how many.

    A settled reference whose distributions are gone from the cache is measured again where another cell needs them.
    A run that turns out to have settled everything is finished here.
    """
    runs = Runs(store.root)
    run = None if fresh else runs.unfinished(selection.key)
    if run is None:
        return plan, new_run_id(), 0
    settled = {r.cell.key for r in store.records() if r.run == run and r.outcome.ending.settled}
    needed = {p.reference.key: p.reference for p in plan.cells if p.reference and p.cell.key not in settled}
    settled -= {key for key, reference in needed.items() if not has_reference(reference)}
    cells = tuple(planned for planned in plan.cells if planned.cell.key not in settled)
    left = tuple(item for item in plan.left_out if item.planned is None or item.planned.cell.key not in settled)
    skipped = len(plan.cells) - len(cells)
    if not cells and not any(item.planned for item in left):
        runs.finish(selection.key)
    return replace(plan, cells=cells, left_out=left, settled=plan.settled + skipped), run, skipped


def together(plans: Sequence[Plan]) -> Plan:
    """Several plans as one: equal loads side by side, no cell twice."""
    cells = {planned.cell.key: planned for plan in plans for planned in plan.cells}
    return Plan(
        cells=tuple(sorted(cells.values(), key=lambda planned: str(planned.cell.load_key))),
        left_out=tuple(left for plan in plans for left in plan.left_out),
        settled=sum(plan.settled for plan in plans),
        seconds=sum(plan.seconds for plan in plans),
    )


def run_plan(
    plan: Plan,
    selection: Selection,
    store: Store,
    described: Machine,
    run: str,
    limits: Limits,
    console: Console,
    *,
    quiet: bool,
) -> list[Record]:
    """Measure every cell. The run stays unfinished until every cell is settled, so that the same call completes it."""
    store.check_writable()
    runs = Runs(store.root)
    runs.begin(selection.key, run, [planned.cell for planned in plan.cells])
    with LiveDisplay(plan, console, quiet=quiet) as display:
        runner = Runner(
            run=run, store=store, described=described, before=machine.condition(), observer=display, limits=limits
        )
        records = runner.run(plan)
    if all(record.outcome.ending.settled for record in records):
        runs.finish(selection.key)
    return records
