# SPDX-License-Identifier: Apache-2.0
"""Records as readers see them: each with what only the ends of its device's runs can tell. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from bench.escape import visible
from bench.instruments.disturbance import drift
from bench.judge.speeds import quantities_used
from bench.judge.variability import looked, looks, variability
from bench.paths import without_paths
from bench.records.record import Caveat, Record, Run

LONGEST = 300
"""Letters of a reason or a warning that views show: the longest of ours has 208, a server may answer with a page."""


def joined(records: Iterable[Record], runs: Iterable[Run]) -> Iterator[Record]:
    """Every record with its caveat if what its speed depends on changed, and with how far that speed moves.

    The caveat needs the end of the record's own run. How far the device's speed moves between moments needs all runs.
    """
    ended = list(runs)
    seen = looks(ended)
    for record in records:
        roof = record.before.roof
        found = [caveat for run in ended if (caveat := drifted(record, run))]
        moves = variability(roof, seen.get(looked(record.cell.device, roof), [])) if roof else None
        told = (*map(_bounded, record.warnings), *found)
        outcome = record.outcome.model_copy(update={"reason": told_of(record.outcome.reason)})
        yield record.model_copy(update={"outcome": outcome, "warnings": told, "variability": moves})


def told_of(text: str) -> str:
    """What a record says in words, as others may read it: one line of bounded length, no path of its machine."""
    return visible(without_paths(text), LONGEST)


def _bounded(caveat: Caveat) -> Caveat:
    return caveat.model_copy(update={"text": told_of(caveat.text), "advice": told_of(caveat.advice)})


def drifted(record: Record, run: Run) -> Caveat | None:
    """The caveat of a record whose device changed, during that run of its own, in what the record's speeds depend on.

    A run of the same id that began at another moment was interrupted: nobody saw its end.
    """
    if run.run != record.run or run.before.roof != record.before.roof:
        return None
    return drift(run.before, run.after, quantities_used(record))
