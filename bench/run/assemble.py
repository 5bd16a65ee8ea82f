# SPDX-License-Identifier: Apache-2.0
"""Make a Record from the way a cell ended, for the worker, and for the runner when the worker died."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from bench.engines.contract import Backend, DoesNotFit, Engine, TextEngine
from bench.escape import masked, visible
from bench.instruments import machine
from bench.instruments.disturbance import busy, caveats
from bench.instruments.neighbours import Snapshot
from bench.paths import without_paths
from bench.records.cell import Cell
from bench.records.record import Caveat, Ending, Measurement, MemoryLimit, Outcome, Prediction, Record, Text
from bench.records.store import new_id
from bench.records.surroundings import Condition, Machine
from bench.units import human_bytes
from suites import suite_sha256

REASON = 1000
"""Letters of a reason or a warning that a record keeps."""


@dataclass(kw_only=True)
class Assembler:
    """What all records of one run share."""

    run: str
    machine: Machine
    backend: Backend
    before: Condition
    memory_limit: Callable[[], MemoryLimit | None] = lambda: None
    """The limit these records' process ran under, as its counters stand now."""
    budget_s: float | None = None
    """Seconds of measuring that the call allowed, None without an end."""
    since: Snapshot | None = None
    """All processes at the start of the current cell, None if no snapshot was taken."""

    def record(
        self,
        cell: Cell,
        outcome: Outcome,
        *,
        started: datetime,
        seconds: float,
        predicted: Prediction,
        measurements: Sequence[Measurement] = (),
        texts: Sequence[Text] = (),
        warnings: Sequence[Caveat] = (),
        engine: Engine | TextEngine | None = None,
    ) -> Record:
        """The answer to `cell`, from `engine` if one was loaded; the state of the machine is read now for `after`."""
        after = machine.condition(self.machine.kind, self.since)
        return Record(
            id=new_id(),
            run=self.run,
            cell=cell,
            outcome=outcome.model_copy(
                update={"reason": _told(outcome.reason), "detail": masked(without_paths(outcome.detail))}
            ),
            started=started.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            seconds=round(seconds, 3),
            measurements=tuple(map(_reasoned, measurements)),
            texts=tuple(texts),
            warnings=(
                *busy(self.before, self.machine),
                *caveats(self.before, after, self.machine),
                *map(_said, warnings),
            ),
            predicted=predicted,
            memory_limit=self.memory_limit(),
            provenance=engine.provenance if engine else None,
            threads=engine.threads if engine else None,
            budget_s=self.budget_s,
            machine=self.machine,
            before=self.before,
            after=after,
            versions=machine.versions(
                suite_sha256(cell.suite, served=self.backend.text_only),
                [*self.backend.requires, *self.backend.versions],
            ),
        )


def _told(reason: str) -> str:
    """A reason as it may leave this machine: one line, without controls, secrets, and where things lie here."""
    return visible(masked(without_paths(reason)), REASON)


def _said(caveat: Caveat) -> Caveat:
    return caveat.model_copy(update={"text": _told(caveat.text), "advice": _told(caveat.advice)})


def _reasoned(measurement: Measurement) -> Measurement:
    """Why there are no samples is said in a label."""
    reason = measurement.labels.get("reason")
    if not isinstance(reason, str):
        return measurement
    return measurement.model_copy(update={"labels": {**measurement.labels, "reason": _told(reason)}})


def out_of_memory(error: DoesNotFit) -> Outcome:
    """`does_not_fit`, with what was wanted, what there was, and in which phase."""
    wanted = f", wanted {human_bytes(error.wanted_bytes)} more" if error.wanted_bytes else ""
    had = f" with {human_bytes(error.had_bytes)} there" if error.had_bytes else ""
    return Outcome(ending=Ending.DOES_NOT_FIT, reason=f"out of memory in {error.phase}{wanted}{had}")


def now() -> datetime:
    """UTC."""
    return datetime.now(UTC)
