# SPDX-License-Identifier: Apache-2.0
"""Records as readers see them: each with what only the ends of its device's runs can tell. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from bench.instruments.disturbance import drift
from bench.judge.variability import looked, looks, variability
from bench.records.record import Record, Run


def joined(records: Iterable[Record], runs: Iterable[Run]) -> Iterator[Record]:
    """Every record with its run's caveat if the device changed its speed, and with how far that speed moves.

    The caveat needs the end of the record's own run. How far the device's speed moves between moments needs all runs.
    """
    ended = list(runs)
    drifted = [(run, caveat) for run in ended if (caveat := drift(run.before, run.after))]
    seen = looks(ended)
    for record in records:
        roof = record.before.roof
        found = [caveat for run, caveat in drifted if run.run == record.run and run.before.roof == roof]
        moves = variability(roof, seen.get(looked(record.cell.device, roof), [])) if roof else None
        yield record.model_copy(update={"warnings": (*record.warnings, *found), "variability": moves})
