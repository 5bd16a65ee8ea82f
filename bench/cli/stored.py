# SPDX-License-Identifier: Apache-2.0
"""What commands read from the results folder, and what they say of files there that cannot be read."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from fnmatch import fnmatch
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from bench.cli.console import warn
from bench.cli.options import Rows, split

if TYPE_CHECKING:
    from bench.judge.joined import Joiner
    from bench.judge.rows import Row
    from bench.records.head import Head, RunHead
    from bench.records.index import Index
    from bench.records.record import Record, Run
    from bench.records.shelved import Shelves
    from bench.records.store import Store

NAMED = 3
"""Records of a clock that was ahead that are named; the others are counted."""


class Stored:
    """The records of one folder as its index finds them: none is loaded before it is asked for.

    What is shown of them is what `opened` shows: the index knows the faults too.
    """

    def __init__(self, root: Path, *, lasting: bool = True) -> None:
        from bench.records.listing import Digests

        self.root, self._lasting, self._warned = root, lasting, False
        self._digests = Digests(root, "runs")

    @cached_property
    def index(self) -> Index:
        """Brought up to date when it is first used."""
        from bench.records.index import Index

        return Index(self.root, self._digests, lasting=self._lasting, fault=_fault)

    @cached_property
    def unreadable(self) -> list[str]:
        """One line for each file left out: ends of runs, then records."""
        from bench.records.examine import Kind
        from bench.records.store import faulty, read_record, read_run, unread

        def lines(kinds: Collection[Kind]) -> Iterator[str]:
            for path, kind, why in left_out:
                if kind is Kind.FAULTY and kind in kinds:
                    yield faulty(path, why)
                elif kind in kinds:
                    try:
                        read_run(path) if kind is Kind.NO_RUN else read_record(path)
                    except Exception as error:  # noqa: BLE001 - as Store's
                        yield unread(path, error)

        left_out = self.index.unread()
        return [*lines({Kind.NO_RUN}), *lines({Kind.NO_RECORD, Kind.FAULTY})]

    @cached_property
    def ahead(self) -> list[str]:
        """One line for each record that is dated in the future."""
        from bench.records.store import dated

        return [dated(self.root / head.path, head.started) for head in self.index.ahead()]

    def rows(self) -> list[Row]:
        """The rows that views show, and a line for each file left unread."""
        from bench.judge.rows import newest_of

        rows = newest_of(self.index, self.load)
        self._warn()
        return rows

    def records(self, models: Collection[str] | None = None) -> list[Record]:
        """Records of some models or all, in the order of their paths, and a line for each file left unread.

        Of those that ask and end alike the newest: no verdict on a claim needs the others.
        """
        heads = sorted(self.index.shown(), key=lambda head: head.path.split("/"))
        found = [self.load(head) for head in heads if models is None or head.row[1] in models]
        self._warn()
        return found

    def _warn(self) -> None:
        """Once, whatever is asked of it."""
        if not self._warned:
            self._warned = True
            warn_of_unreadable(self)

    def of_device(self, device: str) -> list[Record]:
        """What a plan asks of a device's records, as they were written.

        Of those that ask and end alike the newest, of each kind of cell as many as tell its seconds, and the newest
        look of each kind at the device's limits.
        """
        from bench.instruments.disturbance import OTHERS
        from bench.plan.looks import NEAREST, NEWEST

        heads = self.index.heads(device=device)
        wanted = {head.path for head in self.index.shown() if head.row[0] == device}
        timed: dict[str, int] = {}
        looks: set[tuple[str, bool, bool]] = set()
        for head in sorted(heads, key=lambda head: (not head.ahead, head.started), reverse=True):
            measured = head.ok and head.seconds > 0
            if measured and timed.setdefault(head.group, 0) < max(NEAREST, NEWEST):
                timed[head.group] += 1
                wanted.add(head.path)
            look = (head.roof, (head.others_cpu or 0.0) <= OTHERS, measured)
            if look not in looks:
                looks.add(look)
                wanted.add(head.path)
        return [self._shelves.load(head) for head in heads if head.path in wanted]

    def load(self, head: Head) -> Record:
        """One record with what only the ends of its device's runs can tell."""
        if head.path not in self._joined:
            self._joined[head.path] = self._joined_to(self._shelves.load(head), head)
        return self._joined[head.path]

    def _joined_to(self, record: Record, head: Head) -> Record:
        """The same while no run of its device is added: worked out once."""
        from bench.judge.joined import from_text, to_text

        runs = self.index.runs_digest(head.row[0])
        if not runs:
            return self._join(record)
        key = f"joined:{head.content}:{runs}"
        text = self.index.kept(key)
        if text is not None:
            return from_text(record, text)
        found = self._join(record)
        self.index.keep(key, to_text(found))
        return found

    def finish(self) -> None:
        """Keep what was computed, and end with 1 if something was left unread: what was shown is not all there is."""
        self.index.save()
        exit_for_unreadable(self)

    @cached_property
    def _joined(self) -> dict[str, Record]:
        return {}

    @cached_property
    def _shelves(self) -> Shelves:
        from bench.records.shelved import Shelves

        return Shelves(self.index)

    @cached_property
    def _join(self) -> Joiner:
        from bench.judge.joined import Joiner

        return Joiner(self.index.runs(), self._run)

    def _run(self, head: RunHead) -> Run:
        from bench.records.store import read_run

        return read_run(self.root / head.path)


def _fault(record: Record) -> str:
    """As `opened` has it; what it needs is imported only where a record is new."""
    from bench.views.soundness import fault

    return fault(record)


def opened(folder: Path) -> Store:
    """The records under a folder, without those that nothing can be shown of."""
    from bench.records.store import Store
    from bench.views.soundness import fault

    return Store(folder, fault)


def joined_records(store: Store) -> list[Record]:
    """Every record as views see it, and a line for each file that is left out."""
    from bench.judge.joined import joined

    records = list(joined(store.records(), store.runs()))
    warn_of_unreadable(store)
    return records


def newest_rows(store: Store) -> list[Row]:
    """The rows that views show, and a line for each file left unread."""
    from bench.judge.rows import newest

    return newest(joined_records(store))


def warn_of_unreadable(store: Store | Stored) -> None:
    """A line for each file that the last reading had to leave out, and for records of a clock that was ahead."""
    warn((f"left unread: {line}" for line in store.unreadable), "yellow")
    if store.ahead:
        more = f" and {len(store.ahead) - NAMED} more" if len(store.ahead) > NAMED else ""
        told = "dated in the future, so that all others count as newer; set the clock and measure again"
        warn([f"{told}: {'; '.join(store.ahead[:NAMED])}{more}"], "yellow")


def exit_for_unreadable(store: Store | Stored) -> None:
    """End with 1 if something was left unread: what was shown is not all there is."""
    if store.unreadable:
        raise typer.Exit(1)


def matching(rows: Sequence[Row], asked: Rows) -> list[Row]:
    """The rows that were asked for; an option that was left out asks for all."""

    def matches(value: str, patterns: list[str]) -> bool:
        return not patterns or any(fnmatch(value, pattern) for pattern in split(patterns))

    return [
        row
        for row in rows
        if matches(row.model, asked.model)
        and matches(row.precision, asked.precision)
        and matches(row.scheme, asked.scheme)
        and matches(row.backend, asked.backend)
        and matches(row.device, [asked.device])
    ]
