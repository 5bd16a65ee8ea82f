# SPDX-License-Identifier: Apache-2.0
"""Seconds of a cell, from what its device can do at most and from what its own records say of the engine.

At the roof, reading a token takes two operations for each parameter, at the device's matrix rate of the type that the
scheme computes in; a decode step reads every weight once, at the rate that its memory sustains, and calls every layer.
By how much prompts and steps are slower than that is what the throughput suite times: the middle over the newest
records of the same engine and scheme, those of the same model before others. What a suite does beside its tokens comes
from its own records: seconds of each round (memory, throughput, capacity), of each probability that is compared
(divergence), or how far its tokens are from those timed ones (quality). A cell that was measured here before needs what
it needed then, for as much as is expected of it now.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cached_property
from math import sqrt

from bench.catalog.model import Model
from bench.engines.registry import backend, backend_names
from bench.plan import capacity
from bench.plan.loading import Loading
from bench.plan.looks import (
    WITHOUT_RECORDS,
    Look,
    Size,
    at_the_roof,
    compute_type,
    look_at,
    size_of,
    typical,
    with_reread,
)
from bench.records.cell import Cell, Scheme
from bench.records.record import Ending, Prediction, Record
from bench.records.surroundings import Machine, Roof
from bench.suite import Pace, Work
from suites import ORDER, suite
from suites.sweep import noisy_share, repeated

SEARCHES = frozenset({"capacity"})
"""Suites whose work depends on memory: their trials are known only as far as is predicted to fit."""
USUAL_NOISE = 0.5
"""Between the least repeats and the most, as if one cell before all records had been there: the middle of both."""
COMPARED_S = 3e-8
"""Last resort: seconds of comparing one probability of a token's distribution, on one CPU core."""


class Estimator:
    """Predicts seconds on one device."""

    def __init__(
        self, machine: Machine, records: Iterable[Record], models: Sequence[Model], roof: Roof | None = None
    ) -> None:
        self.kind, self.models = machine.kind, {model.name: model for model in models}
        every = [record for record in records if record.cell.device == machine.device]
        here = [record for record in every if record.outcome.ending is Ending.OK and record.seconds]
        here.sort(key=lambda record: record.when, reverse=True)
        self.loading = Loading(every, machine.kind)
        self.roof = roof or newest_roof(here)
        self._rates = self.roof.quantities() if self.roof else {}
        self.own: dict[str, Record] = {}
        for record in here:
            self.own.setdefault(record.cell.key, record)
        self._measured = {_kind_of(record.cell) for record in here}
        self.measured = {record.cell.model for record in here}
        """Models that a record of this device tells of."""
        self.looks = [look for record in here if (look := self._look(record))]

    def _look(self, record: Record) -> Look | None:
        cell = record.cell
        model = self.models.get(cell.model)
        scheme = backend(cell.backend).scheme(cell.scheme) if cell.backend in backend_names() else None
        weights = record.predicted.weights_bytes
        if model is None or scheme is None or weights is None or cell.suite not in ORDER:
            return None
        size = size_of(model, weights, cell.settings)
        done = suite(cell.suite).done(cell.settings, record.measurements)
        return look_at(record, size, self._at_the_roof(cell, scheme, size), done)

    def _at_the_roof(self, cell: Cell, scheme: Scheme, size: Size) -> Pace:
        return at_the_roof(size, self._rates, compute_type(scheme, self.kind), self.kind, cell.backend)

    @cached_property
    def _timed(self) -> dict[tuple[str, str], list[Look]]:
        """By engine and scheme, the looks whose prompts were timed."""
        found: dict[tuple[str, str], list[Look]] = {}
        for look in self.looks:
            if look.prefill:
                found.setdefault(look.scheme, []).append(look)
        return found

    @cached_property
    def _timed_alike(self) -> dict[tuple[str, str, str], list[Look]]:
        """The same by model too."""
        found: dict[tuple[str, str, str], list[Look]] = {}
        for looks in self._timed.values():
            for look in looks:
                found.setdefault((*look.scheme, look.record.cell.model), []).append(look)
        return found

    @cached_property
    def _noise(self) -> float:
        """How far this device's cells go from the least repeats to the most."""
        told = [USUAL_NOISE]
        for look in self.looks:
            samples = look.record.measurement("prefill_s")
            if look.prefill and samples and not look.record.cut:
                share = noisy_share(look.record.cell.settings, len(samples.values))
                told += [] if share is None else [share]
        return sum(told) / len(told)

    def work(self, cell: Cell, predicted: Prediction) -> Work:
        """What a cell is expected to do, with what is predicted to fit its memory. Raises KeyError for old settings."""
        if cell.suite == "throughput":
            return suite(cell.suite).work(repeated(cell.settings, self._noise))
        trials = capacity.trials(cell.settings, predicted) if cell.suite in SEARCHES else None
        return trials or suite(cell.suite).work(cell.settings)

    def pace(self, cell: Cell, model: Model, scheme: Scheme, predicted: Prediction, work: Work) -> Pace | None:
        """Seconds that this cell's tokens and rounds take; None where the model's size is unknown."""
        if predicted.weights_bytes is None:
            return None
        size = size_of(model, predicted.weights_bytes, cell.settings)
        pace = self._beside(cell, size, self._tokens(cell, scheme, size), work)
        own = self._own_seconds(cell, pace, work)
        pace = pace.times(own / pace.seconds(work)) if own and pace.seconds(work) else pace
        return pace.model_copy(update={"guess": cell.backend not in self._engines})

    @cached_property
    def _engines(self) -> set[str]:
        return {look.record.cell.backend for look in self.looks}

    def _tokens(self, cell: Cell, scheme: Scheme, size: Size) -> Pace:
        """Seconds of a token of the prompt and of a step, as timed here, else as the roof and other records tell."""
        roof, model = self._at_the_roof(cell, scheme, size), cell.model
        if timed := self._timed.get((cell.backend, cell.scheme)):
            own = self._timed_alike.get((cell.backend, cell.scheme, model), [])
            return _slower(roof, own if any(look.decode for look in own) else timed, model, size)
        whole = [look for look in self.looks if look.scheme == (cell.backend, cell.scheme)]
        if whole := [look for look in whole if not _searches_or_asks(look)] or whole:
            return roof.times(typical(whole, model, size.weights, lambda look: look.whole))
        every = [look for looks in self._timed.values() for look in looks]
        if engine := [look for look in every if look.record.cell.backend == cell.backend]:
            return _between(roof, engine, model, size)
        if alike := [look for look in every if look.record.cell.precision == cell.precision]:
            return _slower(roof, alike, model, size)
        return roof.times(WITHOUT_RECORDS)

    def _beside(self, cell: Cell, size: Size, tokens: Pace, work: Work) -> Pace:
        """The pace of the tokens with what the cell's suite does beside them."""
        tokens, names = with_reread(tokens, size), (cell.suite, cell.backend, cell.scheme)
        levels = (names, names[:2]) if work.rounds else (names, names[:2], names[:1])  # rounds are an engine's own
        known = next((found for level in levels if (found := self._beside_looks.get(level))), None)
        values = self._beside_values
        value = typical(known, cell.model, size.weights, lambda look: values[look.record.id]) if known else None
        if work.compared_tokens:
            each = COMPARED_S if value is None else value
            return tokens.model_copy(update={"compared_s": each * size.vocabulary})
        if work.rounds:
            usual = self.loading.usual.load_s if cell.suite in SEARCHES else 0.0  # each trial may load anew
            return tokens.model_copy(update={"round_s": usual if value is None else value})
        return tokens if value is None else tokens.times(value)

    @cached_property
    def _beside_values(self) -> dict[str, float]:
        """By record, what was done beside its tokens.

        Seconds of each probability that was compared; seconds of each round, where the very model's tokens were timed;
        else its seconds over those that its tokens take by what was timed.
        """
        timed = {(look.scheme, look.record.cell.model) for looks in self._timed.values() for look in looks}
        found = {}
        for look in self.looks:
            record, done = look.record, look.done
            if not done.compared_tokens and done.rounds and (look.scheme, record.cell.model) not in timed:
                continue
            tokens = self._explained(look)
            beyond = max(0.0, record.seconds - tokens)
            if done.compared_tokens:
                found[record.id] = beyond / (done.compared_tokens * look.size.vocabulary)
            else:
                found[record.id] = beyond / done.rounds if done.rounds else record.seconds / tokens
        return found

    @cached_property
    def _beside_looks(self) -> dict[tuple[str, ...], list[Look]]:
        """The looks that tell it, by suite, by its engine too, and by its scheme too."""
        found: dict[tuple[str, ...], list[Look]] = {}
        for look in self.looks:
            names = (look.record.cell.suite, *look.scheme)
            for length in (1, 2, 3) if look.record.id in self._beside_values else ():
                found.setdefault(names[:length], []).append(look)
        return found

    def _explained(self, look: Look) -> float:
        """Seconds of a record that its tokens take by what was timed of its engine and scheme."""
        cell = look.record.cell
        scheme = backend(cell.backend).scheme(cell.scheme)
        assert scheme is not None  # it has a look
        done = Work(prefill_tokens=look.done.prefill_tokens, decode_tokens=look.done.decode_tokens)
        return with_reread(self._tokens(cell, scheme, look.size), look.size).seconds(done)

    def _own_seconds(self, cell: Cell, pace: Pace, work: Work) -> float | None:
        """What the very same cell took when it was last measured here.

        In proportion where a budget cut it, or where noise made it longer than is expected again.
        """
        record = self.own.get(cell.key) if _kind_of(cell) in self._measured else None  # a key takes its time
        if record is None:
            return None
        if not record.cut and not work.rounds:
            return record.seconds
        done = pace.seconds(suite(cell.suite).done(cell.settings, record.measurements))
        return record.seconds * pace.seconds(work) / done if done else None


def _searches_or_asks(look: Look) -> bool:
    """Whether its suite does most of its work beside tokens that are counted before."""
    return look.record.cell.suite in SEARCHES or not (look.done.rounds or look.done.compared_tokens)


def _slower(roof: Pace, timed: Sequence[Look], model: str, size: Size) -> Pace:
    """The roof's pace, so many times slower as prompts and as steps were timed to be."""
    prefill = typical(timed, model, size.weights, lambda look: look.prefill or 0.0)
    stepped = [look for look in timed if look.decode]
    decode = typical(stepped, model, size.weights, lambda look: look.decode or 0.0) if stepped else prefill
    return Pace(prefill_s=prefill * roof.prefill_s, decode_s=decode * roof.decode_s)


def _between(roof: Pace, others: Sequence[Look], model: str, size: Size) -> Pace:
    """The pace of a scheme that nothing is known of, by other schemes of its engine.

    Between the seconds that they took and those that the two roofs tell apart, in the geometric middle: a part of what
    a scheme costs is the device's, and a part the engine's own, whatever the bits.
    """

    def prefill(look: Look) -> float:
        same = look.roof.prefill_s * size.parameters / look.size.parameters
        return (look.prefill or 0.0) * sqrt(roof.prefill_s * same)

    def decode(look: Look) -> float:
        same = look.roof.decode_s * size.parameters / look.size.parameters
        return (look.decode or 0.0) * sqrt(roof.decode_s * same)

    stepped = [look for look in others if look.decode]
    first = typical(others, model, size.weights, prefill)
    step = typical(stepped, model, size.weights, decode) if stepped else roof.decode_s * WITHOUT_RECORDS
    return Pace(prefill_s=first, decode_s=step)


def _kind_of(cell: Cell) -> tuple[str, str, str, str]:
    return cell.model, cell.backend, cell.scheme, cell.suite


def newest_roof(newest_first: Iterable[Record]) -> Roof | None:
    """The roof of a device that its newest record with one holds; of today's method if any is."""
    roofs = [record.before.roof for record in newest_first if record.before.roof and record.before.roof.memory()]
    return max(roofs, key=lambda roof: roof.method, default=None)
