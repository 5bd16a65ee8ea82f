# SPDX-License-Identifier: Apache-2.0
"""`python benchmarks/prediction_peaks.py [RESULTS]`: every measured peak beside what is predicted for it now.

Memory records, as predicted when they were measured and now, and each trial of the capacity records; nothing is run.
Exits 1 if one is now off by more than 5 % and 150 MiB.

A trial is a peak like any other, of many lengths and batches, and it is absolute: the bytes of the process before it
loads anything are those of the newest memory record of the same model, backend, scheme and device, else of another
model's, else what `bench.plan.baseline` takes for them. Trials that failed are left out: what they needed is not known.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.catalog.entries import read_catalog
from bench.catalog.model import Model
from bench.engines.contract import backend
from bench.judge.figures import figures
from bench.paths import RESULTS
from bench.plan.baseline import baseline_bytes as usual_bytes
from bench.plan.predict import predict
from bench.records.cell import Weights
from bench.records.record import Ending, Measurement, Record
from bench.records.store import Store
from bench.suite import Work

TARGET, FLOOR = 0.05, 150 << 20
"""A peak within either is predicted well enough (issue 5)."""
MIB = 1 << 20
HEADER = f"{'model':24} {'scheme':12} {'tokens':>9} {'batch':>5} {'peak MiB':>9} {'then':>7} {'now':>7} {'off':>7}"


@dataclass(frozen=True, kw_only=True)
class Peak:
    """One peak above the empty process, of a prompt read and a generation at some batch."""

    record: Record
    prompt: int
    decode: int
    batch: int
    measured: float
    then: int | None
    """As predicted when it was measured, None where that was not kept."""
    now: int

    @property
    def suite(self) -> str:
        """Memory or capacity."""
        return self.record.cell.suite

    @property
    def is_off(self) -> bool:
        """Whether the present prediction misses the target."""
        return abs(self.now - self.measured) > max(TARGET * self.measured, FLOOR)

    def line(self) -> str:
        """Under `HEADER`."""
        tokens, before = f"{self.prompt}+{self.decode}", f"{self.then / self.measured - 1:+.1%}" if self.then else "-"
        cell, off = self.record.cell, "  OFF" if self.is_off else ""
        return (
            f"{cell.model:24} {cell.scheme:12} {tokens:>9} {self.batch:5} {self.measured / MIB:9.0f} {before:>7} "
            f"{self.now / self.measured - 1:+7.1%} {(self.now - self.measured) / MIB:+7.0f}{off}"
        )


def peaks(records: Sequence[Record], models: Mapping[str, Model]) -> Iterator[Peak]:
    """Of every record of a known model that ended well, by model and scheme, the oldest first."""
    for record in sorted(records, key=lambda r: (r.cell.model, r.cell.scheme, r.cell.suite, r.started)):
        model, of = models.get(record.cell.model), {"memory": _memory, "capacity": _trials}.get(record.cell.suite)
        if model is None or of is None or record.outcome.ending is not Ending.OK:
            continue
        for prompt, decode, batch, measured, then in of(record, records):
            now = _predicted(record, model, prompt, decode, batch)
            if now is not None:
                yield Peak(
                    record=record, prompt=prompt, decode=decode, batch=batch, measured=measured, then=then, now=now
                )


def report(found: Sequence[Peak]) -> str:
    """The table and how many are within the target."""
    within = []
    for suite, name in (("memory", "memory records"), ("capacity", "capacity trials")):
        own = [peak for peak in found if peak.suite == suite]
        within += [f"{sum(not peak.is_off for peak in own)} of {len(own)} {name}"] if own else []
    last = f"{' and '.join(within) or 'nothing'} within {TARGET:.0%} or {FLOOR // MIB} MiB"
    return "\n".join([HEADER, *(peak.line() for peak in found), last])


Sizes = tuple[int, int, int, float, int | None]
"""Prompt, generated tokens and batch of a peak; measured, and predicted then."""


def _memory(record: Record, _: Sequence[Record]) -> Iterator[Sizes]:
    settings, measured = record.cell.settings, figures(record)["peak_bytes"].value
    yield int(settings["prompt_tokens"]), _decoded(record), 1, measured, record.predicted.peak_bytes


def _trials(record: Record, records: Sequence[Record]) -> Iterator[Sizes]:
    decode, baseline = _decoded(record), baseline_bytes(record, records)
    for trials in (m for m in record.measurements if m.name == "trial_bytes"):
        for size, failure, peak in zip(_list(trials, "sizes"), _list(trials, "failures"), trials.values, strict=True):
            if failure:
                continue
            of_batch = "prompt_tokens" in trials.labels
            prompt, batch = (int(str(trials.labels["prompt_tokens"])), size) if of_batch else (size - decode, 1)
            yield prompt, decode, batch, peak - baseline, None


def baseline_bytes(record: Record, records: Sequence[Record]) -> float:
    """A process of that record's kind with its libraries, before it loads anything."""
    cell = record.cell

    def likeness(other: Record) -> tuple[bool, str]:
        return (other.cell.model, other.cell.weights) == (cell.model, cell.weights), other.started

    alike = [
        other
        for other in records
        if other.cell.suite == "memory"
        and (other.cell.backend, other.cell.scheme, other.cell.device) == (cell.backend, cell.scheme, cell.device)
        and other.measurement("baseline_bytes")
    ]
    found = max(alike, key=likeness).measurement("baseline_bytes") if alike else None
    scheme = backend(cell.backend).scheme(cell.scheme)
    assert scheme is not None
    return found.values[0] if found else float(usual_bytes(record.machine.kind, cell.backend, scheme))


def _predicted(record: Record, model: Model, prompt: int, decode: int, batch: int) -> int | None:
    """The present prediction for the machine that measured it, None where there is none."""
    engine = backend(record.cell.backend)
    scheme = engine.scheme(record.cell.scheme)
    assert scheme is not None
    settings = {**record.cell.settings, "prompt_tokens": prompt, "decode_tokens": decode, "batch": batch}
    return predict(
        model, engine.adapt(scheme, record.machine), record.machine.kind, settings,
        Work(prefill_tokens=0, decode_tokens=0), engine.footprint, trained=record.cell.weights is not Weights.RANDOM,
    ).peak_bytes  # fmt: skip


def _decoded(record: Record) -> int:
    """Tokens generated; none by a masked model."""
    settings = record.cell.settings
    return 0 if settings.get("objective") == "masked" else int(settings["decode_tokens"])


def _list(measurement: Measurement, label: str) -> list[int]:
    value = measurement.labels[label]
    assert isinstance(value, list)
    return value  # type: ignore[return-value]


def of_results(folder: Path | None) -> list[Peak]:
    """Of one folder of results, the committed ones by default."""
    records = list(Store(folder or RESULTS).records())
    return list(peaks(records, {model.name: model for model in read_catalog()}))


def main() -> int:
    """Print the report."""
    found = of_results(Path(sys.argv[1]) if len(sys.argv) > 1 else None)
    print(report(found))
    return int(any(peak.is_off for peak in found))


if __name__ == "__main__":
    sys.exit(main())
