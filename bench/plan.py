# SPDX-License-Identifier: Apache-2.0
"""A selection becomes a Plan: the cells to run with their predictions, and the ones left out with their reasons."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pydantic import JsonValue

import suites
from bench import catalog, predict
from bench.cell import MEMORY_LIMIT, REFERENCE, Cell, Kind, Model, Precision, Scheme, Weights, digest, slug
from bench.engine import Backend, backend, backend_names
from bench.errors import UserError
from bench.extras import Extras, context
from bench.machine import installed
from bench.places import reference_folder
from bench.record import Ending, Machine, Prediction, Record
from bench.request import reference_name
from bench.suite import PROFILES, suite
from bench.units import human_bytes

ORDER = (REFERENCE, Precision.FP32, Precision.INT8, Precision.INT4)
"""The reference first: the others are compared with what it leaves."""
HEADROOM = 0.97
"""Share of the memory that a predicted peak may take before a cell is left out."""


@dataclass(frozen=True, kw_only=True)
class Selection:
    """What the caller asked for; empty means the default."""

    models: tuple[str, ...] = ()
    precisions: tuple[Precision, ...] = ()
    schemes: tuple[str, ...] = ()
    backends: tuple[str, ...] = ("transformers",)
    suites: tuple[str, ...] = ()
    weights: Weights | None = None
    path: str | None = None
    """Folder of local weights."""
    profile: str = "standard"
    tasks: tuple[str, ...] = ()
    device: str = "cpu"
    missing: bool = False
    """Only what no settled record of this device and these versions answers."""
    force: bool = False
    """Try cells that are predicted not to fit."""
    memory_limit_bytes: int | None = None
    """Hard limit of every process, None for none."""
    extras: Extras = field(default_factory=Extras)
    """What is asked of the suites beyond the profile."""
    tokens: int | None = None
    """Positions that the memory suite holds at its peak, None for the profile's own."""

    @property
    def key(self) -> str:
        """Identifies the same call made again."""
        data = vars(self) | {"path": Path(self.path).resolve().name if self.path else None}
        return digest(json.loads(json.dumps(data, default=str)))


@dataclass(frozen=True, kw_only=True)
class Planned:
    """One cell to run."""

    cell: Cell
    model: Model
    scheme: Scheme
    predicted: Prediction
    path: str | None = None
    files: dict[str, str] = field(default_factory=dict)
    """Paths on this machine of what the settings name."""
    reference: Cell | None = None
    """The divergence cell this one is compared with; None for other suites."""
    why: str = ""
    """Empty, or `reference`: added because others are compared with it."""


@dataclass(frozen=True, kw_only=True)
class LeftOut:
    """One thing that was asked for and will not run."""

    model: str
    what: str
    """Precision or scheme; `*` for all."""
    reason: str
    planned: Planned | None = None
    """The cell, where the reason is this machine's and belongs in a record (`does_not_fit`)."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Everything that will happen, before it does."""

    cells: tuple[Planned, ...]
    left_out: tuple[LeftOut, ...]
    settled: int = 0
    """Cells not planned because records already answer them."""
    seconds: float = field(default=0.0)
    """Expected seconds in all; 0 where nothing is known."""


def make_plan(
    selection: Selection, models: Sequence[Model], machine: Machine, records: Iterable[Record] = (), free_bytes: int = 0
) -> Plan:
    """The plan for a selection on a machine, given the records that exist.

    `free_bytes` is the memory a worker could have; 0 means that is not looked at. Raises UserError when the
    selection names something unknown.
    """
    asked, left_out = _ask(selection, models, machine)
    existing = list(records)
    done = {r.cell.key for r in existing if _answers(r, machine.device)} if selection.missing else set()
    cells = [planned for planned in asked if planned.cell.key not in done]
    settled = len(asked) - len(cells)
    cells = _with_references(cells, selection, machine)
    fitting, too_large = _by_size(cells, free_bytes, selection.force)
    return Plan(
        cells=tuple(fitting),
        left_out=(*left_out, *too_large),
        settled=settled,
        seconds=_expected_seconds(fitting, existing, machine.kind),
    )


def _ask(selection: Selection, models: Sequence[Model], machine: Machine) -> tuple[list[Planned], list[LeftOut]]:
    """Every cell the selection means, and what of it can never be."""
    cells: list[Planned] = []
    left_out: list[LeftOut] = []
    names = [name for name in suites.ORDER if not selection.suites or name in selection.suites]
    backends = [backend(name) for name in selection.backends]
    chosen = chosen_models(selection, models)
    _refuse_unknown(selection, backends)
    for model in chosen:
        reason = None if selection.path else catalog.unmeasurable(model)
        if selection.weights is Weights.PACKAGE and model.package is None:
            reason = reason or "no package ships its weights"
        if reason:
            left_out.append(LeftOut(model=model.name, what="*", reason=reason))
            continue
        for engine in backends:
            for what, scheme in _schemes(selection, engine, machine.kind):
                if scheme is None:
                    why = f"{engine.name} has no {what} on {machine.kind}"
                    left_out.append(LeftOut(model=model.name, what=what, reason=why))
                else:
                    cells += [_planned(selection, model, engine, scheme, name, machine) for name in names]
    return cells, left_out


def _refuse_unknown(selection: Selection, backends: Sequence[Backend]) -> None:
    """Raise UserError for a name that means nothing, even where nothing could run anyway."""
    known = {scheme.name for engine in backends for scheme in engine.schemes}
    for name in selection.schemes:
        if name not in known:
            raise UserError(f"no scheme {name!r}", f"one of: {', '.join(sorted(known))}")
    for name in selection.suites:
        suite(name)
    if selection.profile not in PROFILES:
        raise UserError(f"no profile {selection.profile!r}", f"one of: {', '.join(PROFILES)}")


def chosen_models(selection: Selection, models: Sequence[Model]) -> list[Model]:
    """The models a selection names: catalogue entries, else a Hub repository, else the local folder itself."""
    patterns = list(selection.models)
    if selection.path and not patterns:
        return [catalog.own_model(Path(selection.path).resolve())]
    if not patterns:
        return [model for model in models if model.name == catalog.DEFAULT_MODEL]
    known, unknown = [], []
    for pattern in patterns:
        try:
            known += catalog.select(models, [pattern])
        except UserError:
            if not re.fullmatch(r"[\w.-]+/[\w.-]+", pattern):
                raise
            unknown.append(pattern)
    own = [Model(name=slug(p), display=p, family="own", organisation="-", kind=Kind.OPEN, repo=p) for p in unknown]
    found = list({model.name: model for model in [*known, *own]}.values())
    if selection.path and len(found) > 1:
        raise UserError(f"--weights local=FOLDER is one model, {len(found)} are selected", "name one with --model")
    return found


def _schemes(selection: Selection, engine: Backend, kind: str) -> list[tuple[str, Scheme | None]]:
    if selection.schemes:
        return [(name, engine.scheme(name)) for name in selection.schemes if engine.scheme(name)]
    wanted = selection.precisions or (tuple(Precision) if not selection.models else tuple(Precision)[1:])
    return [(p.value, engine.default_scheme(p, kind)) for p in sorted(wanted, key=ORDER.index)]


def _planned(
    selection: Selection, model: Model, engine: Backend, scheme: Scheme, name: str, machine: Machine
) -> Planned:
    weights = selection.weights or model.default_weights
    if not engine.needs_repository:
        weights, source = Weights.RANDOM, engine.name
    elif weights is Weights.PACKAGE:
        source = model.package or ""
    elif weights is Weights.LOCAL:
        source = Path(str(selection.path)).resolve().name
    else:
        source = model.repo or ""
    found = suite(name)
    settings: dict[str, JsonValue] = dict(found.PROFILES[selection.profile])
    if selection.tasks and "tasks" in settings:
        settings["tasks"] = list(selection.tasks)
    settings |= selection.extras.settings(name)
    profile = selection.profile
    if selection.tokens and name == "memory":
        profile = f"tokens-{selection.tokens}"
        settings |= context(selection.tokens)
    if selection.memory_limit_bytes:
        settings[MEMORY_LIMIT] = selection.memory_limit_bytes
    cell = Cell(
        model=model.name,
        weights=weights,
        source=source,
        revision=model.revision if weights is Weights.HUB else None,
        backend=engine.name,
        scheme=scheme.name,
        precision=scheme.precision,
        suite=name,
        suite_version=found.VERSION,
        profile=profile,
        settings=settings,
        device=machine.device,
    )
    predicted = predict.predict(model, engine.adapt(scheme, machine), machine.kind, settings, found.work(settings))
    reference = reference_cell(cell, machine.kind) if name == "divergence" else None
    on_disk: dict[str, Any] = {"path": selection.path, "files": selection.extras.files}
    return Planned(cell=cell, model=model, scheme=scheme, predicted=predicted, reference=reference, **on_disk)


def reference_cell(cell: Cell, machine_kind: str) -> Cell | None:
    """The divergence cell that this one is compared with: the same question at the reference precision."""
    scheme = backend(cell.backend).default_scheme(REFERENCE, machine_kind)
    if scheme is None:
        return None
    return cell.unlimited.model_copy(update={"scheme": scheme.name, "precision": scheme.precision})


def _with_references(cells: list[Planned], selection: Selection, machine: Machine) -> list[Planned]:
    """Add the reference's divergence where others need it and this machine's cache does not hold it."""
    keys = {planned.cell.unlimited.key for planned in cells}
    selection = replace(selection, memory_limit_bytes=None)
    added: list[Planned] = []
    for planned in cells:
        cell = planned.reference
        if cell is None or cell.key in keys or has_reference(cell):
            continue
        keys.add(cell.key)
        engine = backend(cell.backend)
        scheme = engine.scheme(cell.scheme)
        assert scheme is not None
        extra = _planned(selection, planned.model, engine, scheme, "divergence", machine)
        added.append(replace(extra, why="reference"))
    return sorted([*added, *cells], key=_position)


def _position(planned: Planned) -> tuple[str, str, int, str, int]:
    cell = planned.cell
    return (cell.model, cell.backend, ORDER.index(cell.precision), cell.scheme, suites.ORDER.index(cell.suite))


def has_reference(cell: Cell) -> bool:
    """Whether this machine holds distributions written by that reference cell with the engine installed now."""
    pattern = reference_name(cell.key, installed(backend(cell.backend).requires))
    return any(".part" not in path.name and path.is_dir() for path in reference_folder().glob(pattern))


def _answers(record: Record, device: str) -> bool:
    """Whether a record settles its cell for the engine versions installed now."""
    if record.cell.device != device or not record.outcome.ending.settled:
        return False
    engine = backend(record.cell.backend) if record.cell.backend in backend_names() else None
    now = installed(engine.requires) if engine else {}
    return all(record.versions.packages.get(name) == version for name, version in now.items())


def _by_size(cells: list[Planned], free_bytes: int, force: bool) -> tuple[list[Planned], list[LeftOut]]:
    if force or not free_bytes:
        return cells, []
    fitting: list[Planned] = []
    too_large: list[LeftOut] = []
    for planned in cells:
        wanted, limit = planned.predicted.peak_bytes or 0, planned.cell.memory_limit_bytes
        room = min(HEADROOM * free_bytes, limit or free_bytes)
        if wanted <= room:
            fitting.append(planned)
            continue
        there = f"{human_bytes(limit)} is the limit" if limit == room else f"{human_bytes(free_bytes)} are free"
        reason = f"does not fit: predicted {human_bytes(wanted)}, {there}"
        what = f"{planned.cell.precision} {planned.cell.suite}"
        too_large.append(LeftOut(model=planned.cell.model, what=what, reason=reason, planned=planned))
    return fitting, too_large


def _expected_seconds(cells: Sequence[Planned], records: Iterable[Record], kind: str) -> float:
    """This device's own newest time for the same question where it has one, else the rough prediction."""
    own = {r.cell.key: r.seconds for r in records if r.outcome.ending is Ending.OK}
    total = 0.0
    loads: set[Any] = set()
    for planned in cells:
        total += own.get(planned.cell.key, planned.predicted.seconds or 0.0)
        if planned.cell.load_key not in loads:
            loads.add(planned.cell.load_key)
            total += predict.load_seconds(planned.predicted, kind)
    return total
