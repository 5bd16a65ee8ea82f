# SPDX-License-Identifier: Apache-2.0
"""Seconds from starting a process to a model ready in it, from what a device's records say of loads.

A record tells when its cell began and how long it took, so the pause between the last cell of one load and the first of
the next is the whole of a load: imports, weights made ready, read and quantized, and the proofs of the precision. Of it
the memory suite tells the part that grows with the bytes (`load_s`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from statistics import median_low

from bench.plan import predict
from bench.plan.looks import NEAREST, NEWEST
from bench.records.cell import Cell
from bench.records.record import Prediction, Record, moment

FAR = 3
"""A pause so many times longer than an engine's loads was of something that does not happen again: weights were
quantized into the cache, or a cell was measured whose record is gone."""


@dataclass(frozen=True, kw_only=True)
class Load:
    """What records tell of one load."""

    cell: Cell
    weights: int
    """Bytes of the model's."""
    whole_s: float | None
    """From the end of what was before it to its first cell; None where nothing was before it in its run."""
    read_s: float | None
    """What the engine took to load, None where no cell asked for it."""


def loads(records: Iterable[Record]) -> list[Load]:
    """Every load that these records of one device show, the newest first."""
    found = []
    for _, run in groupby(sorted(records, key=lambda r: (r.run, r.when)), key=lambda record: record.run):
        before: float | None = None
        for _, group in groupby(run, key=lambda record: record.cell.load_key):
            of_load = list(group)
            began = min(moment(record.started).timestamp() for record in of_load)
            whole = None if before is None else began - before
            found.append((of_load[0].when, _load(of_load, whole if whole is not None and whole > 0 else None)))
            before = max(moment(record.started).timestamp() + record.seconds for record in of_load)
    return [load for _, load in sorted(found, key=lambda pair: pair[0], reverse=True) if load]


def _load(records: Sequence[Record], whole_s: float | None) -> Load | None:
    weights = next((r.predicted.weights_bytes for r in records if r.predicted.weights_bytes), None)
    timed = (record.measurement("load_s") for record in records)
    read = next((found.values[0] for found in timed if found and found.values), None)
    return Load(cell=records[0].cell, weights=weights, whole_s=whole_s, read_s=read) if weights else None


class Loading:
    """Predicts the seconds of loads on one device."""

    def __init__(self, records: Iterable[Record], kind: str) -> None:
        self.loads, self.usual = loads(records), predict.RATES[kind]

    def seconds(self, cell: Cell, predicted: Prediction) -> float:
        """What its engine waits for and what its scheme does with bytes; what this very load took, where that is near.

        Where no record tells one of the first two, `predict.RATES` is the last resort for it.
        """
        engine = [load for load in self.loads if load.cell.backend == cell.backend]
        scheme = [load for load in engine if load.cell.scheme == cell.scheme]
        weights = predicted.weights_bytes or 0
        waits = [load.whole_s - (load.read_s or 0.0) for load in engine if load.whole_s is not None]
        wait = max(0.0, median_low(waits[:NEWEST])) if waits else self.usual.load_s
        rates = _nearest(scheme, weights) or _nearest(engine, weights)
        usual = wait + weights * (median_low(rates) if rates else 1 / self.usual.load_bytes_per_s)
        own = [load.whole_s for load in scheme if load.cell.model == cell.model and load.whole_s is not None]
        near = [seconds for seconds in own if seconds <= FAR * usual]
        return median_low(near[:NEWEST]) if near else usual


def _nearest(known: Sequence[Load], weights: int) -> list[float]:
    """Seconds that each byte took in the loads that are nearest in size."""
    timed = [(abs(load.weights - weights), load.read_s / load.weights) for load in known if load.read_s is not None]
    return [rate for _, rate in sorted(timed, key=lambda pair: pair[0])[:NEAREST]]
