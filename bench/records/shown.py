# SPDX-License-Identifier: Apache-2.0
"""Which records of the index views show: of each row's suite the first, and whatever is like no other before it."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable

from bench.records.head import Head, place
from bench.records.tables import path_of


def choose(db: sqlite3.Connection, groups: Iterable[str], beyond: int | None = None) -> None:
    """Mark of each group the first of its records with 2, with 1 each other that is like no other before it.

    Of a group that has only grown, what was marked and the rows `beyond` are looked at: a history is not read anew
    for each record that is added.
    """
    among = "" if beyond is None else f" AND (shown > 0 OR rowid > {beyond})"
    for group in filter(None, groups):
        rows = db.execute(
            f"SELECT rowid, folder, name, shown, ahead, head FROM files WHERE grp = ?{among}",  # noqa: S608 - a number
            (group,),
        )
        heads = [
            (Head.from_text(path_of(*at), text, ahead=bool(ahead)), row, shown) for row, *at, shown, ahead, text in rows
        ]
        heads.sort(key=lambda item: place(item[0]))
        heads.sort(key=lambda item: item[0].rank, reverse=True)
        first: dict[str, int] = {}
        for head, row, _ in heads:
            first.setdefault(head.likeness, row)
        marks = dict.fromkeys(first.values(), 1) | {row: 2 for _, row, _ in heads[:1]}
        moved = [(marks.get(row, 0), row) for _, row, shown in heads if shown != marks.get(row, 0)]
        db.executemany("UPDATE files SET shown = ? WHERE rowid = ?", moved)
