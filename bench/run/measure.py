# SPDX-License-Identifier: Apache-2.0
"""One call of `bench run`: take up an interrupted run where it stopped, measure, and remember what is still open."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from rich.console import Console

from bench.engines.contract import Backend
from bench.engines.registry import backend
from bench.instruments import machine
from bench.instruments.roof import measure_roof
from bench.plan.plan import LeftOut, Plan, has_reference, timed_again
from bench.plan.questions import Planned
from bench.plan.selection import Selection
from bench.records.cell import ATTENTION, UNTRIED, digest
from bench.records.record import Record, Run
from bench.records.store import Runs, Store
from bench.records.surroundings import Condition, Machine, Roof
from bench.run import threads
from bench.run.answered import Answered
from bench.run.assemble import now
from bench.run.devices import is_part
from bench.run.display import LiveDisplay
from bench.run.locks import measuring, measuring_on
from bench.run.options import Observer, RunOptions
from bench.run.runner import Runner, new_run_id
from bench.run.stopping import Stop
from bench.run.sweep import sweep
from bench.run.taken import Taken
from bench.run.telling import Heard, Telling, told
from bench.scoring.journal import forget


@dataclass(frozen=True, kw_only=True)
class Call:
    """What one call is to do, as it stands now."""

    plan: Plan
    options: RunOptions
    key: str
    """Under which name its run is found again after an interruption."""
    run: str
    """Id of the run that it begins, or goes on with."""
    resumed: int = 0
    """Cells that an interrupted call of this run has settled."""
    fresh: bool = False
    """Whether nothing of an interrupted run is used."""

    @property
    def nothing(self) -> bool:
        """Whether no record is left to be made."""
        return not self.plan.cells and not any(left.planned for left in self.plan.left_out)


def run_key(selection: Selection, described: Machine) -> str:
    """The name of a selection's run on a device: equal cards have runs of their own, which may go on at once.

    So have other machines that share the folder: who is done first must not end what another would go on with. Cards
    that one call was given share its run.
    """
    return digest([selection.key, described.device if is_part() else machine.lock_name(described)])


def continued(
    plan: Plan, key: str, store: Store, options: RunOptions, of_run: Callable[[str], Iterable[Record]], *, fresh: bool
) -> Call:
    """The plan without what an unfinished run of the same call (`run_key`) settled, under that run's id or a new one.

    `of_run` gives the records that a run has made here.
    A settled reference whose distributions are gone from the cache is measured again where another cell needs them.
    A run that turns out to have settled everything is finished here.
    """
    runs = Runs(store.root)
    run = None if fresh else runs.unfinished(key)
    call = Call(plan=plan, options=options, key=key, run=run or new_run_id(), fresh=fresh)
    if run is None:
        return call
    settled = {record.cell.key for record in of_run(run) if record.outcome.ending.settled}
    needed = {p.reference.key: p.reference for p in plan.cells if p.reference and p.cell.key not in settled}
    settled -= {name for name, reference in needed.items() if not has_reference(reference)}
    cells = tuple(planned for planned in plan.cells if planned.cell.key not in settled)
    left = tuple(item for item in plan.left_out if item.planned is None or item.planned.cell.key not in settled)
    skipped = len(plan.cells) - len(cells)
    plan = replace(plan, cells=cells, left_out=left, settled=plan.settled + skipped)
    call = replace(call, plan=plan, resumed=skipped)
    if call.nothing:
        runs.finish(key)
    return call


def together(plans: Sequence[Plan]) -> Plan:
    """Join several plans: cells of one loaded model stand together; no cell, load or reason appears twice."""
    cells = {planned.cell.key: planned for plan in plans for planned in plan.cells}
    left = {_named(item): item for plan in plans for item in plan.left_out}
    return Plan(
        cells=tuple(sorted(cells.values(), key=lambda planned: str(planned.cell.load_key))),
        left_out=tuple(left.values()),
        settled=sum(plan.settled for plan in plans),
        loads={key: seconds for plan in plans for key, seconds in plan.loads.items()},
    )


def _named(left: LeftOut) -> tuple[str, ...]:
    """What tells two things apart that are left out."""
    return (left.model, left.what, left.reason, left.planned.cell.key if left.planned else "")


def run_call(
    planned: Callable[[], Call],
    begin: Callable[[Call], None],
    selection: Selection,
    store: Store,
    described: Machine,
    known: Callable[[], Iterable[Record]],
    console: Console,
    *,
    quiet: bool,
    wait: bool = True,
) -> list[Answered] | None:
    """Measure every cell; None where there was nothing to do. What is not settled stays open for the same call.

    `planned` says what is to be done. It is asked again when nobody else measures here any more, if that may have
    changed, and `begin` hears what will be done. `known` gives the records that tell how long cells take here. Without
    `wait` a device that another harness measures on is a UserError.
    """
    before, call = store.ids(), planned()
    if call.nothing:
        begin(call)
        return None
    store.check_writable()

    def tell(text: str) -> None:
        console.out(text, highlight=False)

    with _alone(_engines(_asked(call.plan)), selection, store, described, wait=wait, tell=tell) as waited:
        if waited or store.ids() != before:
            call = planned()
        if _try_out(call.plan, described, tell):
            call = planned()
        begin(call)
        sweep(store)
        try:
            return [] if call.nothing else _measure(call, store, described, known, console, quiet=quiet, before=before)
        finally:
            sweep(store)


def _try_out(plan: Plan, described: Machine, tell: Callable[[str], None]) -> bool:
    """Try what the plan does not know of this device yet, how its engines attend; whether there was something."""
    unknown = [planned for planned in _asked(plan) if planned.cell.settings.get(ATTENTION) == UNTRIED]
    for engine in _engines(unknown):
        if engine.try_attention:
            tell(engine.try_attention(described))
    return bool(unknown)


def _asked(plan: Plan) -> list[Planned]:
    """Every cell that becomes a record, those that do not fit too."""
    return [*plan.cells, *(left.planned for left in plan.left_out if left.planned)]


def _engines(cells: Iterable[Planned]) -> list[Backend]:
    return [backend(name) for name in dict.fromkeys(planned.cell.backend for planned in cells)]


def _alone(
    engines: Sequence[Backend], selection: Selection, store: Store, described: Machine, *, wait: bool,
    tell: Callable[[str], None],
) -> contextlib.AbstractContextManager[bool]:  # fmt: skip
    """The right to measure here; where nothing here computes, the right to ask the same for the same folder."""
    if all(engine.roof or engine.remote for engine in engines):
        name = f"call-{digest([selection.key, machine.lock_name(described), str(store.root.resolve())])}"
        return measuring(name, wait=wait, tell=tell, what="asks the same")
    return measuring_on(machine.lock_names(described), wait=wait, tell=tell)


def _measure(
    call: Call,
    store: Store,
    described: Machine,
    known: Callable[[], Iterable[Record]],
    console: Console,
    *,
    quiet: bool,
    before: frozenset[str],
) -> list[Answered]:
    """The same, while this process holds the lock."""
    runs, plan, options, engines = Runs(store.root), call.plan, call.options, _engines(call.plan.cells)
    if call.fresh:
        for planned in plan.cells:
            forget(planned.cell.key)
    run = runs.begin(call.key, call.run, [planned.cell for planned in plan.cells], fresh=call.fresh)

    here = [engine for engine in engines if not engine.remote]

    def roofed(state: Condition, until: Callable[[], object] = lambda: None) -> Condition:
        roof = roof_of(here, described.kind, options.threads, until) if here else None
        return state.model_copy(update={"roof": roof})

    stop, seen = Stop(), store.ids() if call.fresh else before
    with LiveDisplay(plan, console, quiet=quiet) as display:
        state = machine.condition(described.kind)  # before our own work could be mistaken for that of others
        if options.request_seconds and described.kind == "cpu":
            options = replace(options, swept=_swept(plan, described, display, options.request_seconds))
        telling = Telling(root=store.root, run=run, plan=plan)
        with told(telling), contextlib.closing(Taken(store, seen)) as taken:
            runner = Runner(
                run=run, store=store, described=described, before=state, options=options, stop=stop, taken=taken,
                observer=Heard(display, telling, described.unit or described.kind),
            )  # fmt: skip
            with _ahead(runner, plan, here) as ready, stop.by_ctrl_c():
                runner.before = roofed(state, ready)
                plan = timed_again(plan, described, known(), runner.before.roof)
                telling.expects(plan)
                answers = runner.run(plan)
    ended = f"{now():%Y-%m-%dT%H:%M:%SZ}"
    after = roofed(machine.condition(described.kind))
    store.write_run(Run(run=run, device=described.device, ended=ended, before=runner.before, after=after))
    if all(answer.outcome.ending.settled for answer in answers) and not runner.undecided:
        runs.finish(call.key)
    return answers


def _ahead(
    runner: Runner, plan: Plan, engines: Sequence[Backend]
) -> contextlib.AbstractContextManager[Callable[[], object]]:
    """The first worker begins while the roofs are asked for, where a process is asked: importing takes both seconds."""
    if not engines or any(engine.roof for engine in engines):
        return contextlib.nullcontext(lambda: None)
    return runner.ahead(plan)


def roof_of(engines: Sequence[Backend], kind: str, threads: int | None, until: Callable[[], object]) -> Roof:
    """What the device can do at most, by the library that these engines compute with, or what an engine knows of it."""
    known = next((engine.roof for engine in engines if engine.roof), None)
    library = "torch" if any("torch" in engine.requires for engine in engines) else "numpy"
    return known() if known else measure_roof(library, kind, threads, until)


def _swept(
    plan: Plan, described: Machine, observer: Observer, request_seconds: Callable[[Record], float | None]
) -> dict[tuple[str | int | None, ...], int]:
    """The best thread count of each load of the plan, measured where this machine does not know it yet."""

    def measure(question: Planned, count: int, folder: Path) -> list[Record]:
        runner = Runner(
            run=new_run_id(), store=Store(folder), described=described, before=machine.condition(), observer=observer,
            options=RunOptions(threads=count),
        )  # fmt: skip
        runner.run(Plan(cells=(question,), left_out=()))
        return [record for record in Store(folder).records() if record.run == runner.run_id]

    loads = {p.cell.load_key: p for p in plan.cells if not backend(p.cell.backend).text_only}
    found = {key: threads.chosen(planned, described, measure, request_seconds) for key, planned in loads.items()}
    return {key: count for key, count in found.items() if count is not None}
