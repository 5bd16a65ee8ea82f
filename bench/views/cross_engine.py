# SPDX-License-Identifier: Apache-2.0
"""Engines side by side, as `bench compare --across backend` writes them. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from bench.judge.cross_engine import DISTANCES, Group, OneEngine, fp32_reference, why_missing
from bench.judge.reasons import NOT_MEASURED
from bench.judge.rows import Row
from bench.judge.stats import Estimate
from bench.records.cell import Weights
from bench.views.cells import keys, marked, written
from bench.views.fields import BY_FIGURE
from bench.views.footnotes import checkpoint_notes
from bench.views.formats import Flat, Table, View
from bench.views.outputs import ACROSS

SPEEDS = ("prefill_tokens_per_s", "decode_tokens_per_s")
SHOWN = (*SPEEDS, "peak_bytes", *DISTANCES)
LONGEST = 14
"""Characters of a reason that stands in a cell; longer ones stand beneath the table alone."""
NOTES = (
    "prefill and decode: tokens / s at batch 1; peak: memory while generating, above the process before loading.",
    "KL to fp32: mean KL(fp32 || this) per token, in nats, from the one fp32 row that all engines share.",
    "± is half of the 95 % interval.",
)


def views(groups: Sequence[Group]) -> list[View]:
    """A table for each model, with what the columns mean and what a reader must beware of."""
    return [
        View(
            title=title(group),
            table=table(group),
            notes=(*checkpoint_notes(group.rows), *NOTES, *(f"caution: {caution}" for caution in group.cautions)),
        )
        for group in groups
    ]


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
    for row in group.rows:
        found = row.figures()
        cells = [_cell(made, row, found, name) for name in SHOWN]
        made.rows.append([row.precision, " ".join([row.backend, row.scheme, marked(row.told_apart)]).strip(), *cells])
    return made


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
    flat["fp32_reference"] = fp32_reference(row)
    lacking = [BY_FIGURE[name] for name in (SPEEDS[0], "peak_bytes", DISTANCES[0]) if name not in found]
    reasons = [f"{field.suite}: {why_missing(row, field.name, field.suite)}" for field in lacking]
    flat["reason"] = "; ".join(reasons) or None
    flat["caution"] = "; ".join(group.cautions) or None
    return flat
