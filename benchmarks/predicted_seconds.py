# SPDX-License-Identifier: Apache-2.0
"""Predicted against measured seconds of every cell of a results folder; writes `results/validation/seconds.md`.

    python -m benchmarks.predicted_seconds [RESULTS]

Each record is predicted as `bench plan` would have predicted it, from the records of earlier runs of its device alone;
what the first run of a device measured is predicted from its roof. A cell that a budget cut is predicted for what it
did. Loads are predicted in the same way; what one took is the pause before its first cell.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from bench.catalog.entries import read_catalog
from bench.catalog.model import Model
from bench.engines.registry import backend, backend_names
from bench.paths import RESULTS
from bench.plan.loading import Loading, loads
from bench.plan.seconds import Estimator
from bench.records.record import Ending, Prediction, Record
from bench.records.store import Store
from suites import suite

WITHIN = 1.5
KINDS = (
    "nothing: the device's first run", "its roof and other schemes", "its scheme, other models",
    "its scheme and model", "the very cell",
)  # fmt: skip
"""What a device's earlier records tell of a cell, the least first."""


@dataclass(frozen=True)
class Outcome:
    """One record, predicted."""

    record: Record
    known: str
    """What the device's earlier records told: one of KINDS."""
    predicted_s: float

    @property
    def factor(self) -> float:
        """By how much one exceeds the other, at least 1."""
        ratio = self.predicted_s / self.record.seconds
        return max(ratio, 1 / ratio)


def outcomes(records: Sequence[Record], models: Sequence[Model]) -> list[Outcome]:
    """Every record that can be predicted, in the order of the runs."""
    by_device: dict[str, dict[str, list[Record]]] = defaultdict(lambda: defaultdict(list))
    for record in sorted(records, key=lambda record: record.started):
        if record.outcome.ending is Ending.OK and record.seconds:
            by_device[record.cell.device][record.run].append(record)
    found = []
    for runs in by_device.values():
        earlier: list[Record] = []
        for run in runs.values():
            roof = run[0].before.roof
            estimator = Estimator(run[0].machine, earlier, models, roof)
            found += [outcome for record in run if (outcome := _outcome(record, estimator))]
            earlier += run
    return found


def _outcome(record: Record, estimator: Estimator) -> Outcome | None:
    cell = record.cell
    model = estimator.models.get(cell.model)
    scheme = backend(cell.backend).scheme(cell.scheme) if cell.backend in backend_names() else None
    if model is None or scheme is None or backend(cell.backend).remote:
        return None
    try:
        work = estimator.work(cell, record.predicted)
    except KeyError:  # the suite asked for other things then
        return None
    pace = estimator.pace(cell, model, scheme, record.predicted, work)
    if pace is None:
        return None
    if record.cut:
        work = suite(cell.suite).done(cell.settings, record.measurements)
    return Outcome(record, _known(record, estimator), pace.seconds(work))


def _known(record: Record, estimator: Estimator) -> str:
    cell = record.cell
    mine = (cell.backend, cell.scheme, cell.suite)
    scheme = [look for look in estimator.looks if (*look.scheme, look.record.cell.suite) == mine]
    if cell.key in estimator.own:
        return KINDS[4]
    if any(look.record.cell.model == cell.model for look in scheme):
        return KINDS[3]
    return KINDS[2] if scheme else KINDS[1] if estimator.looks else KINDS[0]


def loading(records: Sequence[Record]) -> list[tuple[float, float]]:
    """Of every load after a device's first run, predicted and measured seconds."""
    by_device: dict[str, dict[str, list[Record]]] = defaultdict(lambda: defaultdict(list))
    for record in sorted(records, key=lambda record: record.started):
        by_device[record.cell.device][record.run].append(record)
    found = []
    for runs in by_device.values():
        earlier: list[Record] = []
        for run in runs.values():
            known = Loading(earlier, run[0].machine.kind)
            found += [
                (known.seconds(load.cell, Prediction(weights_bytes=load.weights)), load.whole_s)
                for load in loads(run)
                if earlier and load.whole_s is not None
            ]
            earlier += run
    return found


def _loads(found: Sequence[tuple[float, float]]) -> str:
    """One line on loads."""
    factors = [max(predicted / took, took / predicted) for predicted, took in found]
    share = sum(factor <= WITHIN for factor in factors) / len(factors)
    return (
        f"Loads after the first run, from starting a process to its first cell: {len(factors)}, {share:.0%} within a"
        f" factor of {WITHIN:g}, median factor {median(factors):.2f}, worst {max(factors):.1f}."
    )


def report(found: Sequence[Outcome], loaded: Sequence[tuple[float, float]] = ()) -> str:
    """The page."""
    lines = [
        "# Predicted against measured seconds",
        "",
        "Made by `python -m benchmarks.predicted_seconds`. Every record is predicted as `bench plan` would have",
        "predicted it, from the records of earlier runs of its device alone: neither its own run nor a later one tells",
        "of it. What a budget cut is predicted for what was done. Of a capacity cell the whole search is predicted.",
        "",
        f"| known of the cell | cells | within a factor of {WITHIN:g} | median factor | worst |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    after = [outcome for outcome in found if outcome.known != KINDS[0]]
    groups = {kind: [outcome for outcome in found if outcome.known == kind] for kind in KINDS}
    for name, group in (groups | {"all after the first run": after}).items():
        if group:
            factors = [outcome.factor for outcome in group]
            share = sum(factor <= WITHIN for factor in factors) / len(factors)
            lines.append(f"| {name} | {len(group)} | {share:.0%} | {median(factors):.2f} | {max(factors):.1f} |")
    if loaded:
        lines += ["", _loads(loaded)]
    lines += ["", "The ten worst after the first run:", ""]
    lines += ["| cell | known | predicted | measured |", "| --- | --- | ---: | ---: |"]
    for outcome in sorted(after, key=lambda outcome: outcome.factor, reverse=True)[:10]:
        record = outcome.record
        lines.append(f"| {record.cell} | {outcome.known} | {outcome.predicted_s:.1f} s | {record.seconds:.1f} s |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Write the page."""
    root = Path(sys.argv[1]) if len(sys.argv) > 1 else RESULTS
    records = list(Store(root).records())
    page = report(outcomes(records, read_catalog()), loading(records))
    if root == RESULTS:
        (RESULTS / "validation" / "seconds.md").write_text(page, encoding="utf-8")
    sys.stdout.write(page)


if __name__ == "__main__":
    main()
