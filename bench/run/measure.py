# SPDX-License-Identifier: Apache-2.0
"""One call of `bench run`: take up an interrupted run where it stopped, measure, and remember what is still open."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from bench.engines.contract import Backend
from bench.engines.registry import backend
from bench.instruments import machine
from bench.instruments.roof import measure_roof
from bench.plan.plan import Plan, Planned, has_reference
from bench.plan.selection import Selection
from bench.records.record import Record, Run
from bench.records.store import Runs, Store
from bench.records.surroundings import Condition, Machine, Roof
from bench.run import threads
from bench.run.assemble import now
from bench.run.display import LiveDisplay
from bench.run.locks import measuring
from bench.run.options import Observer, RunOptions
from bench.run.runner import Runner, new_run_id
from bench.scoring.journal import forget


def continued(plan: Plan, selection: Selection, store: Store, *, fresh: bool) -> tuple[Plan, str, int]:
    """The plan without what an unfinished run of the same call settled, that run's id (or a new one), and how many.

    A settled reference whose distributions are gone from the cache is measured again where another cell needs them.
    A run that turns out to have settled everything is finished here.
    """
    runs = Runs(store.root)
    if fresh:
        for planned in plan.cells:
            forget(planned.cell.key)
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
    """Join several plans: cells of one loaded model stand together, and no cell appears twice."""
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
    options: RunOptions,
    console: Console,
    *,
    quiet: bool,
    wait: bool = True,
) -> list[Record]:
    """Measure every cell. The run stays unfinished until every cell is settled, so that the same call completes it.

    Without `wait` a device that another harness measures on is a UserError.
    """
    store.check_writable()
    engines = [backend(name) for name in dict.fromkeys(planned.cell.backend for planned in plan.cells)]
    elsewhere = all(engine.roof or engine.remote for engine in engines)

    def tell(text: str) -> None:
        console.out(text, highlight=False)

    with contextlib.nullcontext() if elsewhere else measuring(machine.lock_name(described), wait=wait, tell=tell):
        return _measure(plan, selection, store, described, run, options, console, engines, quiet=quiet)


def _measure(
    plan: Plan, selection: Selection, store: Store, described: Machine, run: str, options: RunOptions, console: Console,
    engines: Sequence[Backend], *, quiet: bool,
) -> list[Record]:  # fmt: skip
    """The same, while this process holds the device's lock."""
    runs = Runs(store.root)
    runs.begin(selection.key, run, [planned.cell for planned in plan.cells])

    def roofed(state: Condition) -> Condition:
        here = [engine for engine in engines if not engine.remote]
        roof = _roof(here, described.kind, options.threads) if here else None
        return state.model_copy(update={"roof": roof})

    with LiveDisplay(plan, console, quiet=quiet) as display:
        state = machine.condition(described.kind)  # before our own work could be mistaken for that of others
        if options.request_seconds and described.kind == "cpu":
            options = replace(options, swept=_swept(plan, described, display, options.request_seconds))
        before = roofed(state)
        runner = Runner(run=run, store=store, described=described, before=before, observer=display, options=options)
        records = runner.run(plan)
    ended = f"{now():%Y-%m-%dT%H:%M:%SZ}"
    after = roofed(machine.condition(described.kind))
    store.write_run(Run(run=run, device=described.device, ended=ended, before=before, after=after))
    if all(record.outcome.ending.settled for record in records) and not runner.undecided:
        runs.finish(selection.key)
    return records


def _roof(engines: Sequence[Backend], kind: str, threads: int | None) -> Roof:
    """What the device can do at most, by the library that these engines compute with, or what an engine knows of it."""
    known = next((engine.roof for engine in engines if engine.roof), None)
    library = "torch" if any("torch" in engine.requires for engine in engines) else "numpy"
    return known() if known else measure_roof(library, kind, threads)


def _swept(
    plan: Plan, described: Machine, observer: Observer, request_seconds: Callable[[Record], float | None]
) -> dict[tuple[str | int | None, ...], int]:
    """The best thread count of each load of the plan, measured where this machine does not know it yet."""

    def measure(question: Planned, count: int, folder: Path) -> list[Record]:
        runner = Runner(
            run=new_run_id(), store=Store(folder), described=described, before=machine.condition(), observer=observer,
            options=RunOptions(threads=count),
        )  # fmt: skip
        return runner.run(Plan(cells=(question,), left_out=()))

    loads = {p.cell.load_key: p for p in plan.cells if not backend(p.cell.backend).remote}
    found = {key: threads.chosen(planned, described, measure, request_seconds) for key, planned in loads.items()}
    return {key: count for key, count in found.items() if count is not None}
