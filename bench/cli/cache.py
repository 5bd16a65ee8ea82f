# SPDX-License-Identifier: Apache-2.0
"""`bench cache`: what this machine keeps to save time."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from bench.cli.console import Format, out, print_table
from bench.cli.options import ResultsFolder, named, split
from bench.cli.stored import Stored
from bench.paths import RESULTS


def _kinds() -> list[str]:
    from bench.run import cache

    return [*(item.kind for item in cache.held()), cache.STALE, "all"]


@dataclass(frozen=True, kw_only=True)
class Clearing:
    """Options."""

    clear: Annotated[
        list[str],
        named("--clear", "references, weights, texts, datasets, index, entries, journals, stale or all.", _kinds),
    ] = field(default_factory=list)
    results: ResultsFolder = RESULTS


def cache(options: Clearing) -> None:
    """List what this machine's cache holds, or clear it: that costs time to make again, never a result.

    Example: bench cache --clear stale
    """
    from bench.paths import cache_folder
    from bench.run.cache import STALE, clear, held
    from bench.scoring.reference import CACHE_LIMIT_BYTES
    from bench.units import human_bytes
    from bench.views.formats import Table

    settled = _settled(options.results)
    if options.clear:
        out.print(f"{human_bytes(clear(split(options.clear), settled))} freed")
        return
    table = Table(["name", "entries", "size", "kind"])
    for item in held(settled):
        stale = f"; {item.stale} stale: --clear {STALE}" if item.stale else ""
        table.rows.append([item.kind, str(item.entries), human_bytes(item.bytes), item.what + stale])
    print_table(table, Format.TABLE)
    kept = f"references are kept below {human_bytes(CACHE_LIMIT_BYTES)}, the oldest go first"
    out.print(f"{cache_folder()}; {kept}", markup=False)


def _settled(results: Path) -> dict[str, float]:
    """When each cell that has a journal was settled last, seconds since 1970."""
    from bench.records.record import moment
    from bench.scoring.journal import unfinished_cells

    found: dict[str, float] = {}
    cells = unfinished_cells()
    if not cells:
        return found
    stored = Stored(results)
    for record in map(stored.load, stored.index.shown()):  # of those that ask and end alike the newest
        if record.cell.key in cells and record.outcome.ending.settled and not record.ahead:
            ended = moment(record.started).timestamp() + record.seconds
            found[record.cell.key] = max(ended, found.get(record.cell.key, 0.0))
    stored.index.save()
    return found
