# SPDX-License-Identifier: Apache-2.0
"""One model's rows from different engines side by side on one device, their distances from the same fp32 row. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from bench.judge.figures import anchor_of, wrote_anchor
from bench.judge.stats import Estimate
from bench.records.cell import Weights
from bench.records.record import Record
from bench.views.table import Row, Table, written

SHOWN = ("fp32", "fp16", "int8", "int4")
"""Rows stand in this order, so that the engines' rows of one precision are neighbours."""
SPEEDS = ("prefill_tokens_per_s", "decode_tokens_per_s")
DISTANCES = ("kld_fp32_mean", "same_top1_fp32")
NO_ANCHOR = (
    "no fp32 row to measure from: `bench run --model {model} --backend transformers --precision fp32"
    " --suite divergence`, then the same with this row's engine and precision"
)


@dataclass(frozen=True, kw_only=True)
class Group:
    """What may stand side by side: one model's weights on one device, from at least two engines."""

    device: str
    model: str
    weights: Weights
    rows: tuple[Row, ...]
    cautions: tuple[str, ...] = field(default=())
    """What is not the same in all rows although it should be."""

    @property
    def title(self) -> str:
        """One line above the table."""
        random = " (random weights)" if self.weights is Weights.RANDOM else ""
        return f"{self.model}{random} on {self.device}, engines side by side"


def across(rows: Sequence[Row]) -> tuple[list[Group], list[str]]:
    """Every model that several engines measured on one device, and one line for each that only one did."""
    together: dict[tuple[str, str, Weights], list[Row]] = defaultdict(list)
    for row in rows:
        together[row.device, row.model, row.weights].append(row)
    groups, alone = [], []
    for (device, model, weights), found in together.items():
        backends = sorted({row.backend for row in found})
        if len(backends) == 1:
            where = f"{model} ({weights} weights, {device})"
            alone.append(f"{where}: measured with {backends[0]} alone; measure another engine with --backend")
            continue
        ordered = tuple(sorted(found, key=lambda row: (SHOWN.index(row.precision), row.backend, row.scheme)))
        cautions = tuple(_cautions(ordered))
        groups.append(Group(device=device, model=model, weights=weights, rows=ordered, cautions=cautions))
    return groups, alone


def _cautions(rows: Sequence[Row]) -> Iterator[str]:
    """What forbids reading one row against another."""
    for suite, figures in (("throughput", "speeds"), ("memory", "peaks"), ("divergence", "distances")):
        records = [row.records[suite] for row in rows if not row.reason(suite)]
        profiles = {(r.cell.profile, r.cell.suite_version, str(sorted(r.cell.settings.items()))) for r in records}
        if len(profiles) > 1:
            names = ", ".join(sorted({profile for profile, _, _ in profiles}))
            yield f"{figures} were measured with different settings (profiles {names}): measure all with one profile"
    threads: dict[str, set[int]] = defaultdict(set)
    for row in rows:
        for record in row.records.values():
            if record.threads is not None:
                threads[row.backend].add(record.threads)
    if len(set().union(*threads.values())) > 1:
        named = "; ".join(f"{name} {'/'.join(map(str, sorted(counts)))}" for name, counts in sorted(threads.items()))
        yield f"threads differ: {named}: give all the same --threads"
    anchors = {anchor_of(row.records["divergence"]) for row in rows if "divergence" in row.records} - {None}
    if len(anchors) > 1:
        yield f"distances are from different fp32 rows ({', '.join(sorted(map(str, anchors)))}): measure them again"


def across_table(group: Group) -> Table:
    """Speed, memory and distance of every engine's row, within 100 columns; every empty cell has its reason."""
    table = Table(["precision", "engine", "prefill", "decode", "peak", "KL to fp32", "same top-1"])
    for row in group.rows:
        found = row.figures()
        cells = [row.precision, f"{row.backend} {row.scheme}"]
        cells += [_cell(table, row, found, name, "throughput", "rate") for name in SPEEDS]
        cells.append(_cell(table, row, found, "peak_bytes", "memory", "bytes"))
        cells.append(_cell(table, row, found, DISTANCES[0], "divergence", "number"))
        cells.append(_cell(table, row, found, DISTANCES[1], "divergence", "percent"))
        table.rows.append(cells)
    return table


def footnotes(group: Group) -> list[str]:
    """What the columns mean, and what a reader must beware of."""
    return [
        "prefill and decode: tokens / s at batch 1; peak: memory while generating, above the process before loading.",
        "KL to fp32: mean KL(fp32 || this) per token, in nats, from the one fp32 row that all engines share.",
        "± is half of the 95 % interval.",
        *(f"caution: {caution}" for caution in group.cautions),
    ]


def _cell(table: Table, row: Row, found: dict[str, Estimate], name: str, suite: str, kind: str) -> str:
    if name in found:
        return written(found[name], kind)
    reason = _why_not(row, name, suite)
    short = reason.split(":")[0]
    return short if short == reason else f"{'-' if len(short) > 14 else short} {table.note(reason)}"


def _why_not(row: Row, name: str, suite: str) -> str:
    """Why a row has no such figure; `reference` for the row that others are measured from."""
    reason = row.reason(suite)
    if reason:
        return "-" if reason == "not measured" else reason
    record = row.records[suite]
    if name not in DISTANCES:
        return "n/a"
    if wrote_anchor(record):
        return "reference"
    return _not_paired(record) or NO_ANCHOR.format(model=row.model)


def _not_paired(record: Record) -> str:
    return next((warning.text for warning in record.warnings if warning.kind == "anchor_not_paired"), "")


def flat_across(groups: Sequence[Group]) -> list[dict[str, Any]]:
    """Flat rows for CSV and JSON: one for each engine's row, figures in base units, null where there is none."""
    rows: list[dict[str, Any]] = []
    for group in groups:
        for row in group.rows:
            found = row.figures()
            flat: dict[str, Any] = {
                "model": row.model, "backend": row.backend, "scheme": row.scheme, "precision": row.precision,
                "device": row.device, "weights": str(row.weights),
            }  # fmt: skip
            for name in (*SPEEDS, *DISTANCES):
                flat[name] = found[name].value if name in found else None
                flat[f"{name}_low"] = found[name].low if name in found else None
                flat[f"{name}_high"] = found[name].high if name in found else None
            flat["peak_bytes"] = found["peak_bytes"].value if "peak_bytes" in found else None
            record = row.records.get("divergence")
            flat["fp32_reference"] = _reference_of(row, record) if record else None
            lacking = (("throughput", SPEEDS[0]), ("memory", "peak_bytes"), ("divergence", DISTANCES[0]))
            reasons = [f"{suite}: {_why_not(row, name, suite)}" for suite, name in lacking if name not in found]
            flat["reason"] = "; ".join(reasons).replace(": -", ": not measured") or None
            flat["caution"] = "; ".join(group.cautions) or None
            rows.append(flat)
    return rows


def _reference_of(row: Row, record: Record) -> str | None:
    lent = anchor_of(row.fp32) if row.fp32 is not None and row.lent("divergence") else None
    return anchor_of(record) or lent
