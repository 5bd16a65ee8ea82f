# SPDX-License-Identifier: Apache-2.0
"""What is asked of one entry: a cell with its prediction, from what was selected and the machine that is here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache

from pydantic import JsonValue

from bench.catalog import remote
from bench.catalog.config import content
from bench.catalog.model import Model
from bench.engines.contract import Backend
from bench.engines.registry import backend
from bench.plan import predict
from bench.plan.baseline import with_baseline
from bench.plan.selection import Selection, settings_of, source_of, ways
from bench.records.cell import REFERENCE, Cell, Scheme, Weights
from bench.records.record import Prediction
from bench.records.surroundings import Machine
from bench.suite import Pace
from suites import launched_profiles, suite, text_suite


@dataclass(frozen=True, kw_only=True)
class Planned:
    """One cell to run."""

    cell: Cell
    model: Model
    scheme: Scheme
    predicted: Prediction
    path: str | None = None
    base: Model | None = None
    """The entry that this model is added to, None if it stands alone."""
    base_path: str | None = None
    launch: str | None = None
    """Command line of the server to launch, None for engines that launch none."""
    trust_remote_code: bool = False
    files: dict[str, str] = field(default_factory=dict)
    """Paths on this machine of what the settings name."""
    reference: Cell | None = None
    """The divergence cell this one is compared with; None for other suites."""
    pace: Pace | None = None
    """Seconds a token of it is expected to take, None where that is not known before."""
    loading_s: float = 0.0
    """Seconds that its load is expected to take, 0 if unknown."""
    why: str = ""
    """Empty, or `reference`: added because others are compared with it."""


def tells(model: Model) -> tuple[object, ...]:
    """What of an entry its bytes and seconds are predicted from (`bench.plan.predict`), the same for equal ones."""
    return content(model.architecture) if model.architecture else None, bool(model.package), model.parameters


class Questions:
    """The cells of one selection on one machine.

    What is asked of entries of one architecture, and what answering that needs, is worked out once: a catalogue of
    thousands is planned as one, and half of its entries are tunes of another.
    """

    def __init__(self, selection: Selection, machine: Machine) -> None:
        self.selection, self.machine = selection, machine
        self._known: dict[tuple[object, ...], tuple[str, dict[str, JsonValue], Prediction]] = {}

    def planned(
        self, model: Model, engine: Backend, scheme: Scheme, name: str, base: Model | None, fingerprint: str | None
    ) -> Planned:
        """One cell of a suite; `fingerprint` is that of the weights that lie at the selection's paths."""
        selection, machine = self.selection, self.machine
        model = remote.addressed(model, selection.api_url) if engine.remote else model
        weights, source = source_of(selection, model, engine)
        profile, settings, predicted = self._asked(model, weights, engine, scheme, name)
        version = (text_suite(name) if engine.text_only else suite(name)).VERSION
        cell = Cell(
            model=model.name, weights=weights, source=source,
            revision=model.revision if weights is Weights.HUB else None, backend=engine.name, scheme=scheme.name,
            precision=scheme.precision, suite=name, suite_version=version, profile=profile, settings=settings,
            device=machine.device, fingerprint=fingerprint if weights is Weights.LOCAL else None,
        )  # fmt: skip
        compared = name == "divergence" and not engine.text_only
        return Planned(
            cell=cell, model=model, scheme=scheme, predicted=predicted, path=selection.path, base=base,
            base_path=selection.base, trust_remote_code=selection.trust_remote_code, launch=selection.launch,
            files=selection.overrides.files, reference=reference_cell(cell, machine.kind) if compared else None,
        )  # fmt: skip

    def _asked(
        self, model: Model, weights: Weights, engine: Backend, scheme: Scheme, name: str
    ) -> tuple[str, dict[str, JsonValue], Prediction]:
        """Profile, settings and what is predicted: one object for all entries that tell the same of these."""
        key = (*tells(model), model.objective, model.template, weights, engine.name, scheme.name, name)
        if key not in self._known:
            found = text_suite(name) if engine.text_only else suite(name)
            profiles = launched_profiles(name) if engine.launches else found.PROFILES
            profile, settings = settings_of(self.selection, model, name, profiles)
            settings |= ways(self.selection, engine, self.machine)
            stored, work, kind = stored_on(self.machine, engine, scheme), found.work(settings), self.machine.kind
            predicted = predict.predict(
                model, stored, kind, settings, work, engine.footprint, trained=weights is not Weights.RANDOM,
                together=engine.answers.get(kind, 1),
            )  # fmt: skip
            self._known[key] = profile, settings, with_baseline(predicted, kind, engine.name, scheme)
        return self._known[key]


@lru_cache(maxsize=64)
def _adapted(adapt: Callable[[Scheme, Machine], Scheme], scheme: Scheme, machine: Machine) -> Scheme:
    return adapt(scheme, machine)


def stored_on(machine: Machine, engine: Backend, scheme: Scheme) -> Scheme:
    """The scheme as this device stores it: one object for all cells of it."""
    return _adapted(engine.adapt, scheme, machine)


def reference_cell(cell: Cell, machine_kind: str) -> Cell | None:
    """The divergence cell that this one is compared with: the same question at the reference precision."""
    scheme = backend(cell.backend).default_scheme(REFERENCE, machine_kind)
    if scheme is None:
        return None
    return cell.unlimited.model_copy(update={"scheme": scheme.name, "precision": scheme.precision})
