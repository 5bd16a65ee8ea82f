# SPDX-License-Identifier: Apache-2.0
"""A selection becomes a Plan: the cells to run with their predictions, and the ones left out with their reasons."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache

import suites
from bench.catalog.model import Model
from bench.engines.registry import backend, backend_names
from bench.instruments.machine import installed
from bench.paths import reference_folder
from bench.plan.capacity import with_capacity
from bench.plan.local_weights import described, require_readable, told_apart
from bench.plan.questions import Planned, Questions, stored_on
from bench.plan.seconds import SEARCHES, Estimator
from bench.plan.selection import (
    ORDER,
    Selection,
    chosen_models,
    never,
    refuse_unknown,
    schemes_of,
    telling_suites,
)
from bench.processes import is_unfinished
from bench.records.cell import Cell, Weights, reference_name
from bench.records.record import Prediction, Record
from bench.records.scored import scored_after_itself
from bench.records.surroundings import Machine, Roof
from bench.suite import Pace
from bench.units import human_bytes, human_limit

HEADROOM = 0.97
"""Share of the free memory that a predicted peak with its process may take before a cell is left out."""


@dataclass(frozen=True, kw_only=True)
class LeftOut:
    """Something that was asked for but will not run."""

    model: str
    what: str
    """Precision or scheme; `*` for all."""
    reason: str
    planned: Planned | None = None
    """The cell, if the reason belongs in a record because it concerns this machine (`does_not_fit`)."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Everything that a run will do."""

    cells: tuple[Planned, ...]
    left_out: tuple[LeftOut, ...]
    settled: int = 0
    """Cells not planned because records already answer them."""
    loads: Mapping[tuple[str | int | None, ...], float] = field(default_factory=dict)
    """By `Cell.load_key`, the expected seconds in which a process starts and a model loads; nothing if unknown."""

    @property
    def loading_s(self) -> float:
        """Expected seconds of every load that the cells need, each once."""
        return sum(self.loads.get(key, 0.0) for key in dict.fromkeys(planned.cell.load_key for planned in self.cells))

    @property
    def seconds(self) -> float:
        """Expected seconds of the whole run, loading included; 0 if unknown."""
        return self.loading_s + sum(planned.predicted.seconds or 0.0 for planned in self.cells)


def make_plan(
    selection: Selection, models: Sequence[Model], machine: Machine, records: Iterable[Record] = (),
    free_bytes: int = 0, *, roof: Roof | None = None, budget_s: float | None = None,
    known: Collection[str] | None = None, held: Callable[[Cell], bool] | None = None,
) -> Plan:  # fmt: skip
    """The plan for a selection on a machine, given the records that exist.

    `free_bytes` is the memory a worker could have; 0 means that is not looked at. `roof` is what the device can do at
    most, None for what the records say of it. With `missing`, a cell that an earlier budget cut is asked again where
    `budget_s` is more than that budget was, or None. With `known`, the ids of the records that were there when this
    call began, what another call has settled since then is not asked again. `held` says whether the distributions of a
    reference cell are where the cells will be measured, by default in the cache of this machine. Raises UserError when
    the selection names something unknown.
    """
    asked, left_out = _ask(selection, models, machine)
    asked = [_with_capacity(planned, machine, free_bytes) for planned in asked]
    existing = list(records)
    recent = existing if selection.missing else [r for r in existing if known is not None and r.id not in known]
    done = {r.cell.key for r in recent if _answers(r, machine.device, budget_s)}
    cells = [planned for planned in asked if planned.cell.key not in done] if done else asked
    settled = len(asked) - len(cells)
    cells = _with_references(cells, selection, machine, held or has_reference)
    fitting, too_large = _by_size(cells, free_bytes, selection.force)
    estimator = Estimator(machine, existing, [*models, *(planned.model for planned in fitting)], roof)
    return _with_seconds(Plan(cells=tuple(fitting), left_out=(*left_out, *too_large), settled=settled), estimator)


def _ask(selection: Selection, models: Sequence[Model], machine: Machine) -> tuple[list[Planned], list[LeftOut]]:
    """Every cell that the selection means, and what can never be measured."""
    cells: list[Planned] = []
    left_out: list[LeftOut] = []
    backends = [backend(name) for name in selection.backends]
    if selection.path:
        require_readable(selection.path, backends)
    chosen, named = chosen_models(selection, models), {model.name: model for model in models}
    refuse_unknown(selection, backends)
    fingerprint = told_apart(selection.path, selection.base) if selection.path else None
    questions = Questions(selection, machine)
    told = {engine.name: telling_suites(selection, engine) for engine in backends}
    schemes = {engine.name: schemes_of(selection, engine, machine.kind) for engine in backends}
    for model in chosen:
        base = named.get(model.base_model or "")
        for engine in backends:
            seen = described(model, selection.path, engine)
            reason = never(selection, seen, engine)
            if reason:
                left_out.append(LeftOut(model=model.name, what="*", reason=reason))
                continue
            names, silent = told[engine.name]
            left_out += [LeftOut(model=model.name, what=name, reason=reason) for name, reason in silent.items()]
            for what, scheme in schemes[engine.name]:
                if scheme is None:
                    why = f"{engine.name} has no {what} on {machine.kind}"
                    left_out.append(LeftOut(model=model.name, what=what, reason=why))
                else:
                    cells += [questions.planned(seen, engine, scheme, name, base, fingerprint) for name in names]
    return cells, list(dict.fromkeys(left_out))


def _with_capacity(planned: Planned, machine: Machine, free_bytes: int) -> Planned:
    """A capacity cell with what is predicted to fit its limit, or else the memory that is free."""
    cell, engine = planned.cell, backend(planned.cell.backend)
    if cell.suite != "capacity":
        return planned
    stored, budget = stored_on(machine, engine, planned.scheme), cell.memory_limit_bytes or free_bytes
    found = with_capacity(
        planned.predicted, planned.model, stored, engine, machine.kind, cell.settings, budget,
        trained=cell.weights is not Weights.RANDOM,
    )  # fmt: skip
    return replace(planned, predicted=found)


def timed_again(plan: Plan, machine: Machine, records: Iterable[Record], roof: Roof | None) -> Plan:
    """The plan with the seconds that a newer look at its device lets expect.

    A plan may have looked while something else computed: on a device without records that look is all there is, and one
    such look predicted forty times too much.
    """
    if roof is None or roof.memory() is None:
        return plan
    return _with_seconds(plan, Estimator(machine, records, [planned.model for planned in plan.cells], roof))


def _with_seconds(plan: Plan, estimator: Estimator) -> Plan:
    """The plan with the seconds of every cell and of every load."""
    known: dict[tuple[int, int], tuple[Pace | None, Prediction]] = {}
    cells = tuple(_timed(planned, estimator, known) for planned in plan.cells)
    first = {planned.cell.load_key: planned for planned in reversed(cells)}
    loads = {key: estimator.loading.seconds(load.cell, load.predicted) for key, load in first.items()}
    cells = tuple(replace(planned, loading_s=loads[planned.cell.load_key]) for planned in cells)
    return replace(plan, cells=cells, loads=loads)


def _timed(
    planned: Planned, estimator: Estimator, known: dict[tuple[int, int], tuple[Pace | None, Prediction]]
) -> Planned:
    """A cell with the seconds that its device's roof and records let expect.

    `known` are those of cells whose model no record tells anything of: they are the same for all of one prediction.
    """
    cell = planned.cell
    if backend(cell.backend).text_only:
        return planned
    alike = (id(planned.predicted), id(planned.scheme))  # the plan keeps both while it is timed
    measured = cell.model in estimator.measured
    if measured or alike not in known:
        work = estimator.work(cell, planned.predicted)
        pace = estimator.pace(cell, planned.model, planned.scheme, planned.predicted, work)
        seconds = round(pace.seconds(work), 1) if pace else planned.predicted.seconds
        told = None if cell.suite in SEARCHES else pace  # a search has no rounds that a budget could count
        predicted = planned.predicted.model_copy(update={"seconds": seconds})
        if measured:
            return replace(planned, pace=told, predicted=predicted)
        known[alike] = told, predicted
    told, predicted = known[alike]
    return replace(planned, pace=told, predicted=predicted)


def _with_references(
    cells: list[Planned], selection: Selection, machine: Machine, held: Callable[[Cell], bool]
) -> list[Planned]:
    """Add the reference's divergence cell if others need its distributions and they are not held."""
    keys = {planned.cell.unlimited.key for planned in cells if planned.cell.suite == "divergence"}
    questions = Questions(replace(selection, memory_limit_bytes=None), machine)
    added: list[Planned] = []
    for planned in cells:
        cell = planned.reference
        if cell is None or cell.key in keys or held(cell):
            continue
        keys.add(cell.key)
        engine = backend(cell.backend)
        scheme = engine.scheme(cell.scheme)
        assert scheme is not None
        extra = questions.planned(planned.model, engine, scheme, "divergence", planned.base, planned.cell.fingerprint)
        added.append(replace(extra, why="reference"))
    return sorted([*added, *cells], key=_position)


def _position(planned: Planned) -> tuple[str, str, int, str, int]:
    cell = planned.cell
    return (cell.model, cell.backend, ORDER.index(cell.precision), cell.scheme, suites.ORDER.index(cell.suite))


@lru_cache
def _installed(packages: tuple[str, ...]) -> dict[str, str]:
    """Read once: three of a plan's four seconds went into asking for every cell again."""
    return installed(packages)


def has_reference(cell: Cell) -> bool:
    """Whether this machine holds distributions written by that reference cell with the engine installed now."""
    pattern = reference_name(cell.key, _installed(backend(cell.backend).requires))
    return any(not is_unfinished(path) and path.is_dir() for path in reference_folder().glob(pattern))


def _answers(record: Record, device: str, budget_s: float | None) -> bool:
    """Whether a record settles its cell for the engine versions installed now, in a call with such a budget."""
    if record.cell.device != device or not record.outcome.ending.settled:
        return False
    if any(map(scored_after_itself, record.measurements)):  # a rule of scoring has changed since
        return False
    if record.cut and (budget_s is None or record.budget_s is None or budget_s > record.budget_s):
        return False
    engine = backend(record.cell.backend) if record.cell.backend in backend_names() else None
    now = _installed(engine.requires) if engine else {}
    return all(record.versions.packages.get(name) == version for name, version in now.items())


def _by_size(cells: list[Planned], free_bytes: int, force: bool) -> tuple[list[Planned], list[LeftOut]]:
    if force or not free_bytes:
        return cells, []
    fitting: list[Planned] = []
    too_large: list[LeftOut] = []
    for planned in cells:
        predicted, limit = planned.predicted, planned.cell.memory_limit_bytes
        room = min(HEADROOM * free_bytes, limit or free_bytes)
        if (predicted.needed_bytes or 0) <= room:
            fitting.append(planned)
            continue
        there = f"{human_limit(limit)} is the limit" if limit == room else f"{human_bytes(free_bytes)} are free"
        own = f" and {human_bytes(predicted.baseline_bytes)} for the process" if predicted.baseline_bytes else ""
        reason = f"does not fit: predicted {human_bytes(predicted.peak_bytes or 0)}{own}, {there}"
        what = f"{planned.cell.precision} {planned.cell.suite}"
        too_large.append(LeftOut(model=planned.cell.model, what=what, reason=reason, planned=planned))
    return fitting, too_large
