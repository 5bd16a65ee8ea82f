# SPDX-License-Identifier: Apache-2.0
"""What commands read from the results folder, and what they say of files there that cannot be read."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from bench.cli.console import warn
from bench.cli.options import Rows, split

if TYPE_CHECKING:
    from bench.judge.rows import Row
    from bench.records.record import Record
    from bench.records.store import Store

NAMED = 3
"""Records of a clock that was ahead that are named; the others are counted."""


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


def warn_of_unreadable(store: Store) -> None:
    """A line for each file that the last reading had to leave out, and for records of a clock that was ahead."""
    warn((f"left unread: {line}" for line in store.unreadable), "yellow")
    if store.ahead:
        more = f" and {len(store.ahead) - NAMED} more" if len(store.ahead) > NAMED else ""
        told = "dated in the future, so that all others count as newer; set the clock and measure again"
        warn([f"{told}: {'; '.join(store.ahead[:NAMED])}{more}"], "yellow")


def exit_for_unreadable(store: Store) -> None:
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
