# SPDX-License-Identifier: Apache-2.0
"""Seconds of a cell, from what its device can do at most and from what its own records say of the engine.

Reading a token takes two operations for each parameter, at the device's matrix rate of the type that the scheme
computes in; a decode step reads every weight once, at the rate that its memory sustains (the roof). By how much the
device's records show an engine's scheme and a suite to be slower than that is a factor: the median over the newest
records, those of the same model before others. A cell that was measured here before needs what it needed then.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import median

from bench.catalog.model import Model
from bench.engines.registry import backend, backend_names
from bench.plan import predict
from bench.records.cell import Cell, Scheme
from bench.records.record import Ending, Record
from bench.records.surroundings import Machine, Roof
from bench.suite import Pace, Work
from suites import ORDER, suite

NEWEST = 5
"""Records of a kind that tell its factor."""
NEAREST = 3
"""Records of other models that tell it: small models are further from their roof than large ones."""
WITHOUT_RECORDS = 3.0
"""Last resort: by how much a cell is slower than the roof where no record of the device tells."""
SEARCHES = frozenset({"capacity"})
"""Suites whose seconds depend on memory and not on tokens that are known before."""
TIMED = frozenset(ORDER) - SEARCHES
TYPES = ("fp32", "bf16", "fp16")


def compute_type(scheme: Scheme, kind: str) -> str:
    """The type that a scheme's products are expected to run in, before a loaded model tells it."""
    if scheme.name in TYPES:
        return scheme.name
    bits = scheme.bits or 16
    if bits in {32, 16, 8}:
        return {32: "fp32", 16: "bf16", 8: "int8"}[int(bits)]
    return "fp32" if kind == "cpu" else "fp16"


def at_the_roof(parameters: int, weights_bytes: int, known: Mapping[str, float], computing: str, kind: str) -> Pace:
    """What a token would take if nothing but the device limited it.

    `known` is what its roof tells (`Roof.quantities`); where it tells nothing, `predict.RATES` is the last resort.
    """
    rates, usual = dict(known), predict.RATES[kind]
    memory = rates.pop("memory", WITHOUT_RECORDS * usual.read_bytes_per_s)
    matrix = rates.get(computing) or max(rates.values(), default=WITHOUT_RECORDS * usual.operations_per_s)
    return Pace(prefill_s=2 * parameters / matrix, decode_s=weights_bytes / memory)


@dataclass(frozen=True)
class Look:
    """What one record tells."""

    model: str
    backend: str
    scheme: str
    suite: str
    weights: int
    """Bytes of the model's."""
    factor: float
    """Measured seconds over those at the roof."""


def _typical(looks: Sequence[Look], model: str, weights: int) -> float:
    """The middle factor of the newest records of the same model, else of the models that are nearest in size."""
    same = [look.factor for look in looks if look.model == model]
    near = sorted(looks, key=lambda look: abs(math.log(look.weights / weights)))
    return median(same[:NEWEST] or [look.factor for look in near[:NEAREST]])


class Estimator:
    """Predicts seconds on one device."""

    def __init__(
        self, machine: Machine, records: Iterable[Record], models: Sequence[Model], roof: Roof | None = None
    ) -> None:
        self.kind, self.models = machine.kind, {model.name: model for model in models}
        here = [r for r in records if r.cell.device == machine.device and r.outcome.ending is Ending.OK and r.seconds]
        here.sort(key=lambda record: record.when, reverse=True)
        self.roof = roof or newest_roof(here)
        self._rates = self.roof.quantities() if self.roof else {}
        self.own: dict[str, Record] = {}
        for record in here:
            self.own.setdefault(record.cell.key, record)
        self._measured = {_kind_of(record.cell) for record in here}
        self.looks = [look for record in here if (look := self._look(record))]

    @cached_property
    def _alike(self) -> dict[tuple[str, str, str], list[Look]]:
        """Looks by engine, scheme and suite."""
        found: dict[tuple[str, str, str], list[Look]] = {}
        for look in self.looks:
            found.setdefault((look.backend, look.scheme, look.suite), []).append(look)
        return found

    def _look(self, record: Record) -> Look | None:
        cell = record.cell
        model = self.models.get(cell.model)
        scheme = backend(cell.backend).scheme(cell.scheme) if cell.backend in backend_names() else None
        weights = record.predicted.weights_bytes
        if model is None or scheme is None or weights is None or cell.suite not in TIMED:
            return None
        done = suite(cell.suite).done(cell.settings, record.measurements)
        expected = self._at_the_roof(model, scheme, weights).seconds(done)
        factor = record.seconds / expected if expected else None
        return Look(cell.model, cell.backend, cell.scheme, cell.suite, weights, factor) if factor else None

    def _at_the_roof(self, model: Model, scheme: Scheme, weights: int) -> Pace:
        parameters = predict.multiplied(model, weights)
        return at_the_roof(parameters, weights, self._rates, compute_type(scheme, self.kind), self.kind)

    def factor(self, cell: Cell, weights: int) -> float:
        """How much slower than its roof a cell is expected to be.

        By records of its engine's scheme in its suite. Else from those of other suites and other schemes: if int4 is
        three times slower than int8 in one suite, it is expected to be so in the next.
        """
        own = self._alike.get((cell.backend, cell.scheme, cell.suite), [])
        if own:
            return _typical(own, cell.model, weights)
        engine = [look for look in self.looks if look.backend == cell.backend]
        of_scheme = [look for look in engine if look.scheme == cell.scheme]
        of_suite = [look for look in engine if look.suite == cell.suite]
        if not of_scheme or not of_suite:
            known = of_scheme or of_suite or engine
            return _typical(known, cell.model, weights) if known else WITHOUT_RECORDS
        both = [(look.scheme, look.suite) for look in engine]
        crossed = [
            _typical([x for x in of_scheme if x.suite == suite], cell.model, weights)
            * _typical([x for x in of_suite if x.scheme == scheme], cell.model, weights)
            / _typical([x for x in engine if (x.scheme, x.suite) == (scheme, suite)], cell.model, weights)
            for scheme, suite in dict.fromkeys(both)
            if (cell.scheme, suite) in both and (scheme, cell.suite) in both
        ]
        return median(crossed) if crossed else _typical(of_scheme, cell.model, weights)

    def pace(self, cell: Cell, model: Model, scheme: Scheme, weights: int | None, work: Work) -> Pace | None:
        """Seconds a token of this cell takes; None where the model's size is unknown, and of suites that search."""
        if weights is None or cell.suite in SEARCHES:
            return None
        pace = self._at_the_roof(model, scheme, weights).times(self.factor(cell, weights))
        own = self.own_seconds(cell, pace, work)
        pace = pace.times(own / pace.seconds(work)) if own and pace.seconds(work) else pace
        return pace.model_copy(update={"guess": cell.backend not in self._engines})

    @cached_property
    def _engines(self) -> set[str]:
        return {look.backend for look in self.looks}

    def own_seconds(self, cell: Cell, pace: Pace | None, work: Work) -> float | None:
        """What the very same cell took when it was last measured here, in proportion where a budget cut it."""
        record = self.own.get(cell.key) if _kind_of(cell) in self._measured else None  # a key takes its time
        if record is None:
            return None
        if not record.cut or pace is None:
            return record.seconds
        done = pace.seconds(suite(cell.suite).done(cell.settings, record.measurements))
        return record.seconds * pace.seconds(work) / done if done else None


def _kind_of(cell: Cell) -> tuple[str, str, str, str]:
    return cell.model, cell.backend, cell.scheme, cell.suite


def newest_roof(newest_first: Iterable[Record]) -> Roof | None:
    """The roof of a device that its newest record with one holds; of today's method if any is."""
    roofs = [record.before.roof for record in newest_first if record.before.roof and record.before.roof.memory()]
    return max(roofs, key=lambda roof: roof.method, default=None)
