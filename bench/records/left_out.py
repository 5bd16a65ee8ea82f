# SPDX-License-Identifier: Apache-2.0
"""The files of an index that no view shows, each with the line that says why."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from bench.records.examine import Kind
from bench.records.index import Index
from bench.records.store import read_record, read_run, unread


def unreadable(index: Index) -> list[str]:
    """One line for each file left out: ends of runs, then records. Why one is none is read from it again."""
    found = index.unread()

    def lines(kinds: Collection[Kind]) -> Iterator[str]:
        for path, kind, why in found:
            if kind is Kind.FAULTY and kind in kinds:
                yield f"{path}: nothing can be shown of it: {why}; measure it again or delete the file"
            elif kind in kinds:
                try:
                    read_run(path) if kind is Kind.NO_RUN else read_record(path)
                except Exception as error:  # noqa: BLE001 - as Store's
                    yield unread(path, error)

    return [*lines({Kind.NO_RUN}), *lines({Kind.NO_RECORD, Kind.FAULTY})]


def ahead(index: Index) -> list[str]:
    """One line for each record that is dated in the future."""
    return [f"{index.root / head.path}: dated {head.started}" for head in index.ahead()]
