# SPDX-License-Identifier: Apache-2.0
"""Records as readers see them: each with what only the ends of its device's runs can tell. Pure."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from functools import cached_property

from bench.escape import visible
from bench.instruments.disturbance import DRIFT, drift
from bench.judge.speeds import quantities_used
from bench.judge.variability import looked, looks
from bench.paths import without_paths
from bench.records.head import Head, RunHead, run_head
from bench.records.index import Index
from bench.records.record import Caveat, Record, Run
from bench.records.shelved import Shelves
from bench.records.surroundings import Variability

LONGEST = 300
"""Letters of a reason or a warning that views show: the longest of ours has 208, a server may answer with a page."""


class Joiner:
    """Gives a record its caveat if what its speed depends on changed, and how far that speed moves.

    The caveat needs the end of the record's own run. How far the device's speed moves between moments needs all runs.
    """

    def __init__(self, runs: Iterable[RunHead], read: Callable[[RunHead], Run]) -> None:
        self._read = read
        self._runs: dict[str, list[RunHead]] = {}
        known = list(runs)
        for run in known:
            if _may_have_drifted(run):
                self._runs.setdefault(run.run, []).append(run)
        self._seen = looks(known)
        self._ended: dict[str, list[Run]] = {}

    def __call__(self, record: Record) -> Record:
        """The record with what was joined to it, and its words as others may read them."""
        roof = record.before.roof
        found = [caveat for run in self._of(record.run) if (caveat := drifted(record, run))]
        seen = self._seen.get(looked(record.cell.device, roof)) if roof else None
        moves = seen.around(roof) if seen and roof else None
        return _with(record, told_of(record.outcome.reason), (*map(_bounded, record.warnings), *found), moves)

    def _of(self, run: str) -> list[Run]:
        """Ends of the runs of that name in which something changed, read once."""
        if run not in self._ended:
            self._ended[run] = [self._read(head) for head in self._runs.get(run, ())]
        return self._ended[run]


class JoinedShelves:
    """The records of an index as readers see them, each loaded when it is asked for."""

    def __init__(self, index: Index, read: Callable[[RunHead], Run]) -> None:
        self.shelves = Shelves(index)
        """The same as they were written."""
        self._index, self._read = index, read
        self._loaded: dict[str, Record] = {}

    def load(self, head: Head) -> Record:
        """One record with what only the ends of its device's runs can tell."""
        if head.path not in self._loaded:
            self._loaded[head.path] = self._joined(self.shelves.load(head), head)
        return self._loaded[head.path]

    def _joined(self, record: Record, head: Head) -> Record:
        """It stays the same while no run of its device is added: worked out once."""
        runs = self._index.runs_digest(head.row[0])
        if not runs:
            return self._joiner(record)
        key = f"joined:{head.content}:{runs}"
        text = self._index.kept(key)
        if text is not None:
            return from_text(record, text)
        found = self._joiner(record)
        self._index.keep(key, to_text(found))
        return found

    @cached_property
    def _joiner(self) -> Joiner:
        return Joiner(self._index.runs(), self._read)


def to_text(joined: Record) -> str:
    """What was joined to a record, and its words as others may read them, as the index keeps it."""
    caveats = [[caveat.kind, caveat.text, caveat.advice] for caveat in joined.warnings]
    moves = None if joined.variability is None else joined.variability.model_dump()
    return json.dumps([joined.outcome.reason, caveats, moves])


def from_text(record: Record, text: str) -> Record:
    """The record with what was joined to it before."""
    reason, caveats, moves = json.loads(text)
    told = tuple(Caveat(kind=kind, text=said, advice=advice) for kind, said, advice in caveats)
    return _with(record, reason, told, None if moves is None else Variability.model_validate(moves))


def _with(record: Record, reason: str, told: tuple[Caveat, ...], moves: Variability | None) -> Record:
    outcome = record.outcome.model_copy(update={"reason": reason})
    return record.model_copy(update={"outcome": outcome, "warnings": told, "variability": moves})


def joined(records: Iterable[Record], runs: Iterable[Run]) -> Iterator[Record]:
    """Every record with its caveat and with how far its machine moves."""
    ended = {str(place): run for place, run in enumerate(runs)}
    heads = [run_head(run, place) for place, run in ended.items()]
    yield from map(Joiner(heads, lambda head: ended[head.path]), records)


def told_of(text: str) -> str:
    """What a record says in words, as others may read it: one line of bounded length, no path of its machine."""
    return visible(without_paths(text), LONGEST)


def _bounded(caveat: Caveat) -> Caveat:
    return caveat.model_copy(update={"text": told_of(caveat.text), "advice": told_of(caveat.advice)})


def _may_have_drifted(run: RunHead) -> bool:
    """Whether anything changed by more than is said: of most runs nothing did, and their ends need not be read."""
    if len(run.looks) < 2:
        return False
    before, after = (look.movable for look in run.looks)
    return any(then and abs(after.get(name, then) / then - 1) > DRIFT for name, then in before.items())


def drifted(record: Record, run: Run) -> Caveat | None:
    """The caveat of a record whose device changed, during that run of its own, in what the record's speeds depend on.

    A run of the same id that began at another moment was interrupted: nobody saw its end.
    """
    if run.run != record.run or run.before.roof != record.before.roof:
        return None
    return drift(run.before, run.after, quantities_used(record))
