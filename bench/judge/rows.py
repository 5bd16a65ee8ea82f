# SPDX-License-Identifier: Apache-2.0
"""Records become rows: one loaded model, the newest comparable record of each suite, and why one is missing. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

from bench.judge.checkpoints import UNKNOWN, Checkpoint, checkpoints
from bench.judge.figures import figures, reference_figures
from bench.judge.reasons import NOT_APPLICABLE, NOT_MEASURED, Missing
from bench.judge.stats import Estimate
from bench.records.cell import (
    COMPARED,
    PROFILES,
    QUALITY_SUITES,
    RANDOM_SAYS_NOTHING,
    REFERENCE,
    Cell,
    Precision,
    Weights,
)
from bench.records.record import Ending, Record

LoadedAs = tuple[str, str, Weights, str, int | None, str]
"""Device, model, weights, backend, memory limit and the mark of the very files."""
Key = tuple[LoadedAs, str]
"""What one row is: with its scheme."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Row:
    """One loaded model as a reader sees it: the newest comparable record of each suite."""

    model: str
    weights: Weights
    backend: str
    scheme: str
    precision: Precision
    device: str
    records: dict[str, Record]
    """By suite, the record that views use."""
    history: dict[str, list[Record]]
    """Every record of each suite, the one that views use first: a comparison looks here for a pair."""
    limit: int | None = None
    """Bytes of the hard limit it ran under: rows under different limits are different rows."""
    checkpoint: Checkpoint = UNKNOWN
    """The very weights: rows of different weights are different rows, whatever their name."""
    fp32: Record | None = None
    """For a 16-bit row: the divergence record of the same weights' fp32 row, which may hold this row's distance."""

    @property
    def loaded_as(self) -> LoadedAs:
        """What rows of one model in one engine on one device, under one limit, share."""
        return (self.device, self.model, self.weights, self.backend, self.limit, self.checkpoint.mark)

    @property
    def name(self) -> tuple[str, str]:
        """The model with the mark of its weights where others share its name: one thing to choose, in any engine."""
        return self.model, self.told_apart

    @property
    def record_ids(self) -> set[str]:
        """Ids of all its records."""
        return {record.id for history in self.history.values() for record in history}

    @property
    def told_apart(self) -> str:
        """The mark of its weights where others share its name, else nothing: engines need files of their own."""
        return "" if self.checkpoint.alone else self.checkpoint.mark

    @property
    def means_nothing(self) -> bool:
        """Whether its values were drawn at random, so that no answer of it means anything; the fake's are known."""
        return self.weights is Weights.RANDOM and self.backend != "fake"

    def figures(self) -> dict[str, Estimate]:
        """Figures of all suites together."""
        return dict(self._figures)

    @cached_property
    def _figures(self) -> dict[str, Estimate]:
        """Made once: a table, its warnings and its footnotes all ask for them."""
        own = {name: value for record in self.records.values() for name, value in figures(record).items()}
        return {**self.held_by_fp32_row("divergence"), **own}

    def held_by_fp32_row(self, suite: str) -> dict[str, Estimate]:
        """Figures of a suite that belong to this row and stand in its fp32 row's record."""
        record = self.records.get(suite)
        if suite != "divergence" or self.fp32 is None or record is None:
            return {}
        return reference_figures(self.fp32, record)

    def missing(self, suite: str) -> Missing | None:
        """Why this suite has no figures here, None if it has."""
        record = self.records.get(suite)
        if record is None:
            built = any(other.cell.source == "random" for other in self.records.values())
            silent = suite in QUALITY_SUITES and built
            return Missing(NOT_APPLICABLE, RANDOM_SAYS_NOTHING) if silent else NOT_MEASURED
        ending = record.outcome.ending
        return None if ending is Ending.OK else Missing(ending.replace("_", " "), record.outcome.reason)


def newest(records: Iterable[Record]) -> list[Row]:
    """Rows in reading order, one for each scheme of the very same weights; for each suite the record that views use.

    Newer suite versions come before older, larger profiles before smaller, measured before not, then the newest.
    """
    known = list(records)
    cells: dict[Key, tuple[Cell, Checkpoint]] = {}
    found: dict[Key, dict[str, list[Record]]] = defaultdict(dict)
    for record, checkpoint in zip(known, checkpoints(known), strict=True):
        key = (_loaded_as(record.cell, checkpoint), record.cell.scheme)
        cells.setdefault(key, (record.cell, checkpoint))
        found[key].setdefault(record.cell.suite, []).append(record)
    for history in found.values():
        for of_suite in history.values():
            of_suite.sort(key=_rank, reverse=True)
    fp32 = {
        key[0]: history["divergence"][0]
        for key, history in found.items()
        if cells[key][0].precision == Precision.FP32 and "divergence" in history
    }
    rows = [_row(*cells[key], history, fp32) for key, history in found.items()]
    return sorted(rows, key=_reading_order)


def _loaded_as(cell: Cell, checkpoint: Checkpoint) -> LoadedAs:
    return (cell.device, cell.model, cell.weights, cell.backend, cell.memory_limit_bytes, checkpoint.mark)


def _row(cell: Cell, checkpoint: Checkpoint, history: dict[str, list[Record]], fp32: dict[LoadedAs, Record]) -> Row:
    return Row(
        model=cell.model,
        weights=cell.weights,
        backend=cell.backend,
        scheme=cell.scheme,
        precision=cell.precision,
        device=cell.device,
        records={suite: found[0] for suite, found in history.items()},
        history=history,
        limit=cell.memory_limit_bytes,
        checkpoint=checkpoint,
        fp32=fp32.get(_loaded_as(cell, checkpoint)) if cell.precision == REFERENCE else None,
    )


def _rank(record: Record) -> tuple[int, bool, int, bool, str]:
    profile = PROFILES.index(record.cell.profile) if record.cell.profile in PROFILES else -1
    return (record.cell.suite_version, record.outcome.ending is Ending.OK, profile, *record.when)


def _reading_order(row: Row) -> tuple[str, str, str, str, int, str, str, int, str]:
    precision = (*COMPARED, Precision.SERVED).index(row.precision)
    apart = ("", "") if row.checkpoint.alone else (row.checkpoint.since, row.checkpoint.mark)
    return (row.device, row.model, *apart, row.limit or 0, row.weights, row.backend, precision, row.scheme)


def with_any(rows: Sequence[Row], suites: Collection[str]) -> list[Row]:
    """The rows that a record of any of these suites stands behind: the others have nothing to say in their table.

    What only the capacity suite has measured stands in a listing of its own.
    """
    return [row for row in rows if row.records.keys() & set(suites)]


def with_figures(rows: Iterable[Row]) -> list[Row]:
    """The rows that any suite has measured."""
    return [row for row in rows if any(r.outcome.ending is Ending.OK for r in row.records.values())]
