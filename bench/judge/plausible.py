# SPDX-License-Identifier: Apache-2.0
"""What cannot be true of a record that somebody else measured. Pure.

A schema says that a record can be read, not that it can be believed. Each check is a limit that physics, arithmetic or
the project's own rules set: nothing is read faster than the device's memory sustains, weights take the bytes that their
architecture and scheme say, repeats do not take longer than the cell, random weights have no quality.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime, timedelta

from bench.judge.speeds import exceeds, held_against, main_point
from bench.records.cell import QUALITY_SUITES, Weights
from bench.records.record import Ending, Measurement, Record, Unit, moment
from bench.units import human_bytes

APART = 0.10
"""Weights may differ by this share from what their architecture says: kernels repack, files keep more in 16 bits."""
LONGER = 1.05
"""The samples of a cell may take this many times its own seconds: clocks are read at different places."""
AHEAD = timedelta(days=1)
"""A record may be so far ahead: clocks differ, and time zones are forgotten."""
NEVER_NEGATIVE = frozenset({Unit.BYTE, Unit.SECOND, Unit.TOKEN, Unit.COUNT, Unit.JOULE, Unit.USD, Unit.BIT})
CHANGES = ("change", "loglikelihood", "nll")
"""Parts of names of quantities that may be negative whatever their unit."""
SINGLE = frozenset({"prefill_s", "ttft_s"})
"""Samples of which the throughput suite takes several: one has no interval."""

Expected = Callable[[Record], int | None]
"""Bytes of weights that a record's model and scheme must have; None where that is not known."""


def doubts(record: Record, expected: Expected, now: datetime) -> list[str]:
    """Every reason why this record cannot be true; empty where nothing speaks against it."""
    return [
        *_times(record, now),
        *_values(record),
        *_weights(record, expected),
        *_speeds(record),
        *_random(record),
    ]


def repeated(records: Iterable[Record]) -> Mapping[tuple[str, str], int]:
    """By device and id, how often an id stands there that should stand once."""
    counts = Counter((record.cell.device, record.id) for record in records)
    return {key: count for key, count in counts.items() if count > 1}


def _times(record: Record, now: datetime) -> Iterator[str]:
    if moment(record.started) > now + AHEAD:
        yield f"started in the future: {moment(record.started):%Y-%m-%d %H:%M} UTC"


def _values(record: Record) -> Iterator[str]:
    for one in record.measurements:
        changes = any(part in one.name for part in CHANGES)
        if one.unit in NEVER_NEGATIVE and not changes and any(value < 0 for value in one.values):
            yield f"{one.name} is negative: {min(one.values):g} {one.unit}"
        if one.unit is Unit.SECOND and one.name in {"prefill_s", "itl_s"} and any(value == 0 for value in one.values):
            yield f"{one.name} took no time"
    if record.outcome.ending is Ending.OK and not record.measurements:
        yield "ended well without a single measurement"


def _weights(record: Record, expected: Expected) -> Iterator[str]:
    found = record.measurement("weights_bytes")
    wanted = expected(record) if found else None
    if found is None or not found.values or not wanted:
        return
    share = found.values[0] / wanted - 1
    if abs(share) > APART:
        yield (
            f"weights of {human_bytes(found.values[0])} where {record.cell.model} at {record.cell.scheme} has "
            f"{human_bytes(wanted)}"
        )


def _speeds(record: Record) -> Iterator[str]:
    if record.cell.suite != "throughput" or record.outcome.ending is not Ending.OK:
        return
    found, roof = main_point(record), record.before.roof
    spent = sum(math.fsum(m.values) for m in record.measurements if m.name in {"prefill_s", "itl_s"})
    if spent > LONGER * record.seconds:
        yield f"its repeats take {spent:.1f} s, the whole cell {record.seconds:.1f} s"
    for name in SINGLE & found.keys():
        if len(found[name].values) < 2 and not record.cut:
            yield f"{name} has a single sample, which has no interval, and no budget cut it"
    if roof is None or not _complete(found):
        return
    for name, share in held_against(found, roof).items():
        if exceeds(share, roof):
            what = "decodes" if name.startswith("decode") else "reads its prompt"
            yield f"{what} at {share.value:.0%} of what its own device sustains at most"


def _complete(found: Mapping[str, Measurement]) -> bool:
    return {"itl_s", "prefill_s", "operations_per_token", "read_bytes_per_step"} <= found.keys()


def _random(record: Record) -> Iterator[str]:
    random = record.cell.weights is Weights.RANDOM or (record.provenance is not None and record.provenance.random)
    if random and record.cell.suite in QUALITY_SUITES and record.measurements and record.cell.backend != "fake":
        yield "figures of quality from random weights"
