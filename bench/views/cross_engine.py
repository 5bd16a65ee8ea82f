# SPDX-License-Identifier: Apache-2.0
"""Engines side by side, as `bench compare --across backend` writes them. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from bench.judge.cross_engine import (
    DISTANCES,
    SPEEDS,
    Group,
    OneEngine,
    fp32_reference,
    front,
    tied,
    why_missing,
)
from bench.judge.reasons import NOT_MEASURED
from bench.judge.rows import Row
from bench.judge.stats import Estimate
from bench.records.cell import Weights
from bench.views.cells import keys, marked, written
from bench.views.fields import BY_FIGURE
from bench.views.footnotes import checkpoint_notes
from bench.views.formats import Flat, Table, View
from bench.views.outputs import ACROSS

SHOWN = (*SPEEDS, "peak_bytes", *DISTANCES)
LONGEST = 14
"""Characters of a reason that stands in a cell; longer ones stand beneath the table alone."""
NOTES = (
    "prefill and decode: tokens / s at batch 1; peak: memory while generating, above the process before loading.",
    "KL to fp32: mean KL(fp32 || this) per token, in nats, from the one fp32 row that all engines share.",
    "± is half of the 95 % interval.",
)
FRONT, TIED = "*", "="
MARKS = {
    FRONT: "*: no row here is as small, as fast in decode and as near to fp32, and better in one of these.",
    TIED: "=: cannot be told from the fastest of its precision, their intervals overlap.",
    "-": "-: not measured.",
}
"""What a mark in the table means; a line stands beneath where the mark stands in it."""


def views(groups: Sequence[Group]) -> list[View]:
    """A table for each model, with what the columns mean and what a reader must beware of."""
    made = [(group, table(group)) for group in groups]
    return [
        View(
            title=title(group),
            table=found,
            notes=(*checkpoint_notes(group.rows), *NOTES, *_marks(found), *_shared_ways(group),
                   *(f"caution: {caution}" for caution in group.cautions)),
        )
        for group, found in made
    ]  # fmt: skip


def _marks(made: Table) -> list[str]:
    """What the marks that stand in a table mean."""
    cells = [cell for row in made.rows for cell in row]
    here = {FRONT: any(row[0].endswith(FRONT) for row in made.rows), TIED: any(c.startswith(TIED) for c in cells),
            "-": "-" in cells}  # fmt: skip
    return [line for mark, line in MARKS.items() if here[mark]]


def _shared_ways(group: Group) -> list[str]:
    """How each engine computes beyond its schemes, where all its rows do so alike."""
    found = []
    for backend in dict.fromkeys(row.backend for row in group.rows):
        ways = {row.way for row in group.rows if row.backend == backend}
        if len(ways) == 1 and (way := ways.pop()):
            found.append(f"{backend}: {way} in all its rows.")
    return found


def lines(alone: Sequence[OneEngine]) -> list[str]:
    """One line for each model that a single engine measured."""
    return [
        f"{item.model} ({item.weights} weights, {item.device}): measured with {item.backend} alone; "
        "measure another engine with --backend"
        for item in alone
    ]


def title(group: Group) -> str:
    """One line above the table."""
    random = " (random weights)" if group.weights is Weights.RANDOM else ""
    return f"{group.model}{random} on {group.device}, engines side by side"


def table(group: Group) -> Table:
    """Speed, memory and distance of every engine's row, within 100 columns; every empty cell has its reason."""
    made = Table(["precision", "engine", "prefill", "decode", "peak", "KL to fp32", "same top-1"])
    ties, best = {name: tied(group.rows, name) for name in SPEEDS}, front(group.rows)
    for row in group.rows:
        found = row.figures()
        cells = [(TIED if id(row) in ties.get(name, ()) else "") + _cell(made, row, found, name) for name in SHOWN]
        first = f"{row.precision} {FRONT}" if id(row) in best else str(row.precision)
        made.rows.append([first, _engine(group, row), *cells])
    return made


def _engine(group: Group, row: Row) -> str:
    """Engine and scheme, with the mark of its weights and its way where other rows of the engine have others."""
    ways = {other.way for other in group.rows if other.backend == row.backend}
    way = f"({row.way or 'way not told'})" if len(ways) > 1 else ""
    return " ".join(filter(None, [row.backend, row.scheme, marked(row.told_apart), way]))


def _cell(made: Table, row: Row, found: Mapping[str, Estimate], name: str) -> str:
    if name in found:
        return written(found[name], BY_FIGURE[name].unit)
    missing = why_missing(row, name, BY_FIGURE[name].suite)
    short = missing.short if missing.short and missing != NOT_MEASURED and len(missing.short) <= LONGEST else "-"
    return f"{short} {made.note(str(missing))}" if missing.why else short


def flats(groups: Sequence[Group]) -> list[Flat]:
    """One row for each engine's row, figures in base units, null where there is none."""
    return [ACROSS.flat(_flat(group, row)) for group in groups for row in group.rows]


def _flat(group: Group, row: Row) -> Flat:
    found = row.figures()
    flat = keys(row)
    for name in ACROSS.intervals:
        flat[name] = found[name].value if name in found else None
        flat[f"{name}_low"] = found[name].low if name in found else None
        flat[f"{name}_high"] = found[name].high if name in found else None
    flat["peak_bytes"] = found["peak_bytes"].value if "peak_bytes" in found else None
    flat["on_front"] = id(row) in front(group.rows)
    flat |= {f"{name}_tied": id(row) in tied(group.rows, name) for name in SPEEDS}
    flat["fp32_reference"] = fp32_reference(row)
    lacking = [BY_FIGURE[name] for name in (SPEEDS[0], "peak_bytes", DISTANCES[0]) if name not in found]
    reasons = [f"{field.suite}: {why_missing(row, field.name, field.suite)}" for field in lacking]
    flat["reason"] = "; ".join(reasons) or None
    flat["caution"] = "; ".join(group.cautions) or None
    return flat
