# SPDX-License-Identifier: Apache-2.0
"""The device's roofs on reading: a table of every run's, at its start and at its end; why a rate has no share. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from bench.instruments.disturbance import DRIFT, most_changed
from bench.records.record import Run
from bench.records.surroundings import ROOF_METHOD, Roof
from bench.units import human_seconds, significant
from bench.views.formats import Table, View

TYPES = ("fp32", "bf16", "fp16", "int8")
NOTES = (
    "copy: bytes read and written; read: weights that a product of one row reads, in the type that reads most.",
    "fp32 to int8: 10^12 operations / s of the fastest matrix product, of the layouts and shapes that engines use.",
    "Best samples of a short process before and after the run's cells; took: what that cost.",
    f"change: of what changed most; above {DRIFT:.0%} the rows that depend on it carry the warning `drifted`.",
)
OLDER = "by an older method: medians, of square products in one layout; a row may exceed them and then has no share"


def views(runs: Sequence[Run]) -> list[View]:
    """A table for each device that a run measured."""
    tables = {name: roofs(run for run in runs if run.device == name) for name in sorted({run.device for run in runs})}
    return [View(title=name, table=table, notes=NOTES) for name, table in tables.items() if table.rows]


def roofs(runs: Iterable[Run]) -> Table:
    """Two lines for each run that measured its device, the newest run last."""
    table = Table(["run's end", "at", "library", "copy GB/s", "read GB/s", *TYPES, "took", "change"])
    for run in sorted(runs, key=lambda run: run.ended):
        before, after = run.before.roof, run.after.roof
        if before and after:
            name, change = most_changed(before, after)
            said = f"{name} {change:+.0%}{' drifted' if abs(change) > DRIFT else ''}" if name else ""
            if not before.comparable(after):
                said = f"not comparable {table.note('another library, other threads or another method at its end')}"
            date, _, time = run.ended.removesuffix("Z").partition("T")
            threads = f"{before.threads} thread{'s' if before.threads > 1 else ''}" if before.threads else ""
            table.rows.append([date, "start", _library(table, before), *_rates(table, before), ""])
            table.rows.append([time, "end", threads, *_rates(table, after), said])
    return table


def _library(table: Table, roof: Roof) -> str:
    name = roof.engine.split("+")[0]
    return name if roof.method == ROOF_METHOD else f"{name} {table.note(OLDER)}"


def _rates(table: Table, roof: Roof) -> list[str]:
    units = {"copy": 1e9, "read": 1e9} | dict.fromkeys(TYPES, 1e12)
    rates = roof.rates() | ({"read": max(reads.values())} if (reads := roof.reads()) else {})
    cells = [
        significant(rates[name] / unit)
        if name in rates
        else f"n/a {table.note(roof.lacking.get(name, 'not measured'))}"
        for name, unit in units.items()
    ]
    return [*cells, human_seconds(roof.seconds)]
