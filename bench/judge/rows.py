# SPDX-License-Identifier: Apache-2.0
"""Records become rows: one loaded model, the newest comparable record of each suite, and why one is missing. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from bench.judge.checkpoints import UNKNOWN, Checkpoint, checkpoints, checkpoints_of, same_for_all
from bench.judge.figures import figures, reference_figures
from bench.judge.reasons import NOT_APPLICABLE, NOT_MEASURED, Missing
from bench.judge.stats import Estimate
from bench.records.cell import COMPARED, QUALITY_SUITES, RANDOM_SAYS_NOTHING, REFERENCE, Precision, Weights
from bench.records.head import Head, RowKey, place, rank, row_key
from bench.records.index import Index
from bench.records.record import Ending, Record
from bench.records.shelved import Shelf

LoadedAs = tuple[str, str, Weights, str, int | None, str, str]
"""Device, model, weights, backend, memory limit, way and the mark of the very files."""
Key = tuple[RowKey, str]
"""What one row is: with the mark of the very files."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Row:
    """One loaded model as a reader sees it: the newest comparable record of each suite."""

    model: str
    weights: Weights
    backend: str
    scheme: str
    precision: Precision
    device: str
    records: Mapping[str, Record]
    """By suite, the record that views use."""
    history: Mapping[str, Sequence[Record]]
    """Every record of each suite, the one that views use first: a comparison looks here for a pair. Of records that
    differ in nothing but their samples, the index gives the first alone."""
    limit: int | None = None
    """Bytes of the hard limit it ran under: rows under different limits are different rows."""
    way: str = ""
    """How it computes beyond its scheme (`Cell.way`): rows of different ways are different rows."""
    checkpoint: Checkpoint = UNKNOWN
    """The very weights: rows of different weights are different rows, whatever their name."""
    fp32: Record | None = None
    """For a 16-bit row: the divergence record of the same weights' fp32 row, which may hold this row's distance."""

    @property
    def loaded_as(self) -> LoadedAs:
        """What rows of one model in one engine on one device, under one limit, share."""
        return (self.device, self.model, self.weights, self.backend, self.limit, self.way, self.checkpoint.mark)

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


class First(Mapping[str, Record]):
    """By suite the first record of a history, which need not be loaded to be counted."""

    def __init__(self, history: Mapping[str, Sequence[Record]]) -> None:
        self._history = history

    def __getitem__(self, suite: str) -> Record:
        return self._history[suite][0]

    def __contains__(self, suite: object) -> bool:
        return suite in self._history

    def __iter__(self) -> Iterator[str]:
        return iter(self._history)

    def __len__(self) -> int:
        return len(self._history)


@dataclass(frozen=True, kw_only=True)
class _Named:
    """What a row is called, by the first of its records."""

    key: RowKey
    precision: Precision
    checkpoint: Checkpoint

    @property
    def loaded_as(self) -> LoadedAs:
        device, model, weights, backend, _, limit, way = self.key
        return (device, model, Weights(weights), backend, limit, way, self.checkpoint.mark)


def newest(records: Iterable[Record]) -> list[Row]:
    """Rows in reading order, one for each scheme of the very same weights; for each suite the record that views use.

    Newer suite versions come before older, larger profiles before smaller, measured before not, then the newest.
    """
    known = list(records)
    names: dict[Key, _Named] = {}
    found: dict[Key, dict[str, list[Record]]] = defaultdict(dict)
    for record, checkpoint in zip(known, checkpoints(known), strict=True):
        key = row_key(record.cell)
        names.setdefault(
            (key, checkpoint.mark), _Named(key=key, precision=record.cell.precision, checkpoint=checkpoint)
        )
        found[key, checkpoint.mark].setdefault(record.cell.suite, []).append(record)
    for history in found.values():
        for of_suite in history.values():
            of_suite.sort(key=rank, reverse=True)
    return _rows(names, found)


def newest_of(index: Index, load: Callable[[Head], Record]) -> list[Row]:
    """The same by an index; records are loaded as they are read."""
    names: dict[Key, _Named] = {}
    found: dict[Key, dict[str, list[Head]]] = defaultdict(dict)
    for head, checkpoint in _told_apart(index):
        key = (head.row, checkpoint.mark)
        named = _Named(key=head.row, precision=Precision(head.precision), checkpoint=checkpoint)
        names.setdefault(key, named)
        found[key].setdefault(head.suite, []).append(head)
    shelves = {
        key: {suite: Shelf(_first_alike(heads), load, index) for suite, heads in history.items()}
        for key, history in found.items()
    }
    return _rows(names, shelves)


def _told_apart(index: Index) -> list[tuple[Head, Checkpoint]]:
    """Heads with the weights they are of, in the order of their paths.

    Of a name that stands for several weights every record counts: the newest decides where one without files belongs.
    """
    by_name: dict[tuple[str, str, str, str], list[Head]] = defaultdict(list)
    for head in sorted(index.shown(), key=place):
        by_name[head.loaded.name].append(head)
    found: list[tuple[Head, Checkpoint]] = []
    for name, own in by_name.items():
        heads, told = own, [head.loaded for head in own]
        marks = checkpoints_of(told)
        if not same_for_all(told, marks):
            device, model = name[:2]
            heads = [head for head in index.heads(device=device, model=model) if head.loaded.name == name]
            heads = index.sound_of(heads)
            marks = checkpoints_of([head.loaded for head in heads])
        found += zip(heads, marks, strict=True)
    return sorted(found, key=lambda item: place(item[0]))


def _first_alike(heads: Iterable[Head]) -> list[Head]:
    """In the order of their rank, of those that a comparison cannot tell apart the first."""
    first: dict[str, Head] = {}
    for head in sorted(heads, key=lambda head: head.rank, reverse=True):
        first.setdefault(head.likeness, head)
    return list(first.values())


def _rows(names: Mapping[Key, _Named], found: Mapping[Key, Mapping[str, Sequence[Record]]]) -> list[Row]:
    fp32 = {
        names[key].loaded_as: history["divergence"][0]
        for key, history in found.items()
        if names[key].precision == Precision.FP32 and "divergence" in history
    }
    rows = [_row(names[key], dict(sorted(history.items())), fp32) for key, history in found.items()]
    return sorted(rows, key=_reading_order)


def _row(named: _Named, history: Mapping[str, Sequence[Record]], fp32: Mapping[LoadedAs, Record]) -> Row:
    device, model, weights, backend, scheme, limit, way = named.key
    return Row(
        model=model,
        weights=Weights(weights),
        backend=backend,
        scheme=scheme,
        precision=named.precision,
        device=device,
        records=First(history),
        history=history,
        limit=limit,
        way=way,
        checkpoint=named.checkpoint,
        fp32=fp32.get(named.loaded_as) if named.precision == REFERENCE else None,
    )


def _reading_order(row: Row) -> tuple[str, str, str, str, int, str, str, int, str, str]:
    precision = (*COMPARED, Precision.SERVED).index(row.precision)
    apart = ("", "") if row.checkpoint.alone else (row.checkpoint.since, row.checkpoint.mark)
    return (row.device, row.model, *apart, row.limit or 0, row.weights, row.backend, precision, row.scheme, row.way)


def try_answers(rows: Iterable[Row]) -> None:
    """Try all that rows have answered together: what is compared needs them, and one by one nobody shares the work."""
    for_index: dict[int, tuple[Index, list[Head]]] = {}
    for history in (row.history.get("quality") for row in rows):
        if isinstance(history, Shelf):
            for_index.setdefault(id(history.keeper), (history.keeper, []))[1].extend(history.known[1:])
    for index, heads in for_index.values():
        index.sound_of(heads)


def with_any(rows: Sequence[Row], suites: Collection[str]) -> list[Row]:
    """The rows that a record of any of these suites stands behind: the others have nothing to say in their table.

    What only the capacity suite has measured stands in a listing of its own.
    """
    return [row for row in rows if row.records.keys() & set(suites)]


def with_figures(rows: Iterable[Row]) -> list[Row]:
    """The rows that any suite has measured."""
    return [row for row in rows if any(r.outcome.ending is Ending.OK for r in row.records.values())]
