# SPDX-License-Identifier: Apache-2.0
"""What commands read from the results folder, and what they say of files there that cannot be read."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from fnmatch import fnmatch
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from bench.cli.console import warn
from bench.cli.options import Rows, split

if TYPE_CHECKING:
    from bench.judge.joined import JoinedShelves
    from bench.judge.rows import Row
    from bench.records.head import Head
    from bench.records.index import Index
    from bench.records.record import Record

NAMED = 3
"""Records of a clock that was ahead that are named; the others are counted."""


class Stored:
    """The records of one folder as its index finds them: none is loaded before it is asked for.

    What nothing can be made of is left out and named, as far as it would be shown: the index tries that.
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
        from bench.records.left_out import unreadable

        return unreadable(self.index)

    @cached_property
    def ahead(self) -> list[str]:
        """One line for each record that is dated in the future."""
        from bench.records.left_out import ahead

        return ahead(self.index)

    def rows(self) -> list[Row]:
        """The rows that views show, and a line for each file left unread."""
        self.warn()
        return self._rows

    def records(self, models: Collection[str] | None = None) -> list[Record]:
        """Records of some models or all, in the order of their paths, and a line for each file left unread.

        Of those that ask and end alike the newest: no verdict on a claim needs the others.
        """
        from bench.records.head import place

        while True:
            heads = [head for head in self.index.shown() if models is None or head.row[1] in models]
            if len(self.index.sound_of(heads)) == len(heads):
                break
        self.warn()
        return [self.load(head) for head in sorted(heads, key=place)]

    def warn(self) -> None:
        """A line for each file that is left out, and for records of a clock that was ahead: once, whatever is asked."""
        if not self._warned:
            self._warned = True
            warn((f"left unread: {line}" for line in self.unreadable), "yellow")
            if self.ahead:
                more = f" and {len(self.ahead) - NAMED} more" if len(self.ahead) > NAMED else ""
                told = "dated in the future, so that all others count as newer; set the clock and measure again"
                warn([f"{told}: {'; '.join(self.ahead[:NAMED])}{more}"], "yellow")

    def of_device(self, device: str) -> list[Record]:
        """What a plan asks of a device's records, as they were written.

        Of those that ask and end alike the newest, of each kind of cell as many as tell its seconds, and the newest
        look of each kind at the device's limits.
        """
        while True:
            heads = self.index.heads(device=device)
            wanted = {head.path for head in self.index.shown() if head.row[0] == device} | _telling(heads)
            chosen = [head for head in heads if head.path in wanted]
            if len(self.index.sound_of(chosen)) == len(chosen):  # else another of its kind tells as much
                return [self._joined.shelves.load(head) for head in chosen]

    def of_run(self, run: str, device: str) -> list[Record]:
        """What one call has measured on a device so far, as it was written."""
        heads = [head for head in self.index.heads(device=device) if head.loaded.run == run]
        return [self._joined.shelves.load(head) for head in self.index.sound_of(heads)]

    def load(self, head: Head) -> Record:
        """One record with what only the ends of its device's runs can tell."""
        return self._joined.load(head)

    def settle(self) -> None:
        """Keep what was computed, and name what turned out odd since the first lines were written."""
        from bench.records.left_out import unreadable

        self.index.save()
        told, self.unreadable = self.unreadable, unreadable(self.index)
        warn((f"left unread: {line}" for line in self.unreadable if line not in told), "yellow")

    def finish(self) -> None:
        """The same, and end with 1 if something was left unread: what was shown is not all there is."""
        self.settle()
        if self.unreadable:
            raise typer.Exit(1)

    @cached_property
    def _rows(self) -> list[Row]:
        from bench.judge.rows import newest_of

        return newest_of(self.index, self.load)

    @cached_property
    def _joined(self) -> JoinedShelves:
        from bench.judge.joined import JoinedShelves
        from bench.records.store import read_run

        return JoinedShelves(self.index, lambda head: read_run(self.root / head.path))


def _telling(heads: Sequence[Head]) -> set[str]:
    """The paths of the newest records that tell how long cells take, and what the device's limits are."""
    from bench.instruments.disturbance import OTHERS
    from bench.plan.looks import NEAREST, NEWEST

    wanted: set[str] = set()
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
    return wanted


def _fault(record: Record) -> str:
    """As `opened` has it; what it needs is imported only where a record is new."""
    from bench.views.soundness import fault

    return fault(record)


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
