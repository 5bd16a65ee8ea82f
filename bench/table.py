# SPDX-License-Identifier: Apache-2.0
"""Records become rows, rows become Markdown, CSV or JSON. Pure: nothing is printed or written here."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from bench.cell import COMPARED, REFERENCE, Precision, Weights
from bench.figures import figures, reference_figures, wrote_anchor
from bench.plan import ORDER
from bench.record import Ending, Record
from bench.selection import QUALITY, RANDOM_SAYS_NOTHING
from bench.stats import Estimate
from bench.suite import PROFILES
from bench.units import human_bytes, human_seconds, significant

IDENTITY = ("model", "backend", "scheme", "precision", "suite", "device", "weights", "outcome", "reason")
FIGURES = (
    "weights_bytes", "peak_bytes", "load_peak_bytes", "kv_bytes", "kv_bytes_per_token", "workspace_bytes",
    "unexplained_bytes", "slack_bytes", "baseline_bytes", "load_s", "linear_bits", "linear_quantized",
    "prefill_tokens_per_s", "ttft_s", "decode_tokens_per_s", "itl_s", "itl_p99_s",
    "kld_mean", "kld_median", "kld_p99", "kld_p999", "kld_max", "same_top1", "kld_fp32_mean", "same_top1_fp32",
    "kld_floor", "true_token_mean", "true_token_rms", "ln_ppl_ratio", "ppl", "acc", "items", "input_tokens",
    "output_tokens", "cost_usd", "cost_usd_per_item",
)  # fmt: skip
"""Columns of every flat row, null where a record has no such figure."""


def flat(record: Record, more: Mapping[str, Estimate] = MappingProxyType({})) -> dict[str, Any]:
    """One record as a flat row: identity, outcome, every figure in base units, intervals beside what has one.

    `more` are figures of it that another record holds.
    """
    cell, found = record.cell, {**more, **figures(record)}
    row: dict[str, Any] = {
        "model": cell.model,
        "backend": cell.backend,
        "scheme": cell.scheme,
        "precision": str(cell.precision),
        "suite": cell.suite,
        "device": cell.device,
        "weights": str(cell.weights),
        "outcome": str(record.outcome.ending),
        "reason": record.outcome.reason or None,
    }
    for name in FIGURES:
        row[name] = found[name].value if name in found else None
    for name in ("prefill_tokens_per_s", "decode_tokens_per_s", "kld_mean", "kld_fp32_mean", "acc"):
        row[f"{name}_low"], row[f"{name}_high"] = (found[name].low, found[name].high) if name in found else (None, None)
    row |= {name.replace(":", "_"): value.value for name, value in found.items() if name.startswith("acc:")}
    row["predicted_weights_bytes"] = record.predicted.weights_bytes
    row["predicted_peak_bytes"] = record.predicted.peak_bytes
    row["memory_limit_bytes"] = cell.memory_limit_bytes
    row["profile"], row["run"], row["started"], row["id"] = cell.profile, record.run, record.started, record.id
    row["warnings"] = "; ".join(w.kind for w in record.warnings) or None
    return row


@dataclass
class Row:
    """One loaded model as a reader sees it: the newest comparable record of each suite."""

    model: str
    weights: Weights
    backend: str
    scheme: str
    precision: str
    device: str
    records: dict[str, Record] = field(default_factory=dict)
    history: dict[str, list[Record]] = field(default_factory=dict)
    """Every record of each suite, the one that views use first: a comparison looks here for a pair."""
    limit: int | None = None
    """Bytes of the hard limit it ran under: rows under different limits are different rows."""
    fp32: Record | None = None
    """For a 16-bit row: the divergence record of the same weights' fp32 row, which may hold this row's distance."""

    @property
    def name(self) -> str:
        """The model's, with the memory limit where it ran under one."""
        return self.model + (f" (limit {human_bytes(self.limit)})" if self.limit else "")

    @property
    def label(self) -> str:
        """The name, with a word about random weights."""
        return self.name + (" (random weights)" if self.weights is Weights.RANDOM else "")

    @property
    def load_as(self) -> tuple[str, str, Weights, str, int | None]:
        """What rows of one model in one engine on one device, under one limit, share."""
        return (self.device, self.model, self.weights, self.backend, self.limit)

    def figures(self) -> dict[str, Estimate]:
        """Figures of all suites together."""
        own = {name: value for record in self.records.values() for name, value in figures(record).items()}
        return {**self.lent("divergence"), **own}

    def lent(self, suite: str) -> dict[str, Estimate]:
        """Figures of a suite that belong to this row and stand in its fp32 row's record."""
        record = self.records.get(suite)
        if suite != "divergence" or self.fp32 is None or record is None:
            return {}
        return reference_figures(self.fp32, record)

    def reason(self, suite: str) -> str:
        """Why this suite has no figures here, empty if it has."""
        record = self.records.get(suite)
        if record is None:
            built = suite in QUALITY and any(other.cell.source == "random" for other in self.records.values())
            return f"n/a: {RANDOM_SAYS_NOTHING}" if built else "not measured"
        ending = record.outcome.ending
        return "" if ending is Ending.OK else f"{ending.replace('_', ' ')}: {record.outcome.reason}"


def newest(records: Iterable[Record]) -> list[Row]:
    """Rows in reading order; for each suite the record that views use.

    Newer suite versions come before older, larger profiles before smaller, measured before not, then the newest.
    """
    rows: dict[tuple[str | int | None, ...], Row] = {}
    for record in records:
        cell = record.cell
        limit = cell.memory_limit_bytes
        key = (cell.device, cell.model, cell.weights, cell.backend, cell.scheme, limit)
        if key not in rows:
            rows[key] = Row(
                cell.model, cell.weights, cell.backend, cell.scheme, cell.precision, cell.device, limit=limit
            )
        row = rows[key]
        row.history.setdefault(cell.suite, []).append(record)
    for row in rows.values():
        for suite, found in row.history.items():
            found.sort(key=_rank, reverse=True)
            row.records[suite] = found[0]
    for row in rows.values():
        if row.precision == Precision.FP32 and "divergence" in row.records:
            for other in rows.values():
                if other.load_as == row.load_as and other.precision == REFERENCE:
                    other.fp32 = row.records["divergence"]
    return sorted(rows.values(), key=_reading_order)


def _rank(record: Record) -> tuple[int, bool, int, str]:
    profile = PROFILES.index(record.cell.profile) if record.cell.profile in PROFILES else -1
    return (record.cell.suite_version, record.outcome.ending is Ending.OK, profile, record.started)


def _reading_order(row: Row) -> tuple[str, str, int, str, str, int, str]:
    precision = (*COMPARED, Precision.SERVED).index(Precision(row.precision))
    return (row.device, row.model, row.limit or 0, row.weights, row.backend, precision, row.scheme)


@dataclass(frozen=True, kw_only=True)
class Column:
    """One column of a table for people."""

    title: str
    figure: str
    suite: str
    kind: str
    """bytes, seconds, rate, share, number or percent: how the value is written."""


COLUMNS = {
    "weights": Column(title="weights", figure="weights_bytes", suite="memory", kind="bytes"),
    "peak": Column(title="peak memory", figure="peak_bytes", suite="memory", kind="bytes"),
    "load": Column(title="load", figure="load_s", suite="memory", kind="seconds"),
    "load_peak": Column(title="peak in load", figure="load_peak_bytes", suite="memory", kind="bytes"),
    "kv": Column(title="KV/token", figure="kv_bytes_per_token", suite="memory", kind="bytes"),
    "workspace": Column(title="workspace", figure="workspace_bytes", suite="memory", kind="bytes"),
    "unexplained": Column(title="unexplained", figure="unexplained_bytes", suite="memory", kind="bytes"),
    "slack": Column(title="loader slack", figure="slack_bytes", suite="memory", kind="bytes"),
    "bits": Column(title="bits/weight", figure="linear_bits", suite="memory", kind="number"),
    "prefill": Column(title="prefill tok/s", figure="prefill_tokens_per_s", suite="throughput", kind="rate"),
    "ttft": Column(title="TTFT", figure="ttft_s", suite="throughput", kind="seconds"),
    "decode": Column(title="decode tok/s", figure="decode_tokens_per_s", suite="throughput", kind="rate"),
    "itl_p99": Column(title="gap p99", figure="itl_p99_s", suite="throughput", kind="seconds"),
    "kld": Column(title="KL, nats", figure="kld_mean", suite="divergence", kind="number"),
    "kld_p99": Column(title="KL p99", figure="kld_p99", suite="divergence", kind="number"),
    "top1": Column(title="same top-1", figure="same_top1", suite="divergence", kind="percent"),
    "kld_fp32": Column(title="KL to fp32", figure="kld_fp32_mean", suite="divergence", kind="number"),
    "true_token": Column(title="p(true) RMS", figure="true_token_rms", suite="divergence", kind="percent"),
    "ppl_ratio": Column(title="ln PPL ratio", figure="ln_ppl_ratio", suite="divergence", kind="number"),
    "ppl": Column(title="perplexity", figure="ppl", suite="divergence", kind="number"),
    "acc": Column(title="accuracy", figure="acc", suite="quality", kind="percent"),
    "items": Column(title="items", figure="items", suite="quality", kind="number"),
    "item_cost": Column(title="cost/item", figure="cost_usd_per_item", suite="quality", kind="usd"),
}
GENERATED = {"ttft_s", "decode_tokens_per_s", "itl_p99_s"}
"""Figures of models that generate."""
VIEWS = {
    "default": ("weights", "peak", "prefill", "decode", "kld", "acc"),
    "memory": ("weights", "bits", "kv", "workspace", "unexplained", "peak", "slack", "load_peak", "load"),
    "speed": ("prefill", "ttft", "decode", "itl_p99", "load"),
    "quality": ("kld", "kld_p99", "top1", "true_token", "ppl_ratio", "kld_fp32", "ppl", "acc", "items"),
    "served": ("ttft", "decode", "acc", "items", "item_cost"),
    "predicted": ("weights", "predicted_weights", "peak", "predicted_peak"),
}
PREDICTED = {
    "predicted_weights": ("weights_bytes", "predicted weights"),
    "predicted_peak": ("peak_bytes", "predicted peak"),
}
TEXT = ("model", "precision", "scheme", "engine", "device", "task", "verdict")
"""Titles of columns that hold words, not numbers."""


@dataclass
class Table:
    """Text cells with their titles, and the footnotes they point to."""

    titles: list[str]
    rows: list[list[str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def note(self, text: str) -> str:
        """The mark of a footnote, made on first use."""
        if text not in self.notes:
            self.notes.append(text)
        return f"[{self.notes.index(text) + 1}]"


def people(rows: Sequence[Row], columns: Sequence[str], *, name_device: bool = False) -> Table:
    """The table people read: every figure with half its 95 % interval, every empty cell with its reason."""
    titles = ["model", "precision", "scheme"] + (["device"] if name_device else [])
    table = Table(titles + [PREDICTED[c][1] if c in PREDICTED else COLUMNS[c].title for c in columns])
    for row in rows:
        found = row.figures()
        cells = [row.label, row.precision, row.scheme] + ([row.device] if name_device else [])
        cells += [
            _predicted(row, found, c) if c in PREDICTED else _cell(table, row, found, COLUMNS[c]) for c in columns
        ]
        table.rows.append(cells)
    return table


def _cell(table: Table, row: Row, found: dict[str, Estimate], column: Column) -> str:
    reason = row.reason(column.suite)
    if reason:
        short = reason.split(":")[0]
        return short if short == reason else f"{short} {table.note(reason)}"
    if column.figure not in found:
        if column.figure in GENERATED and row.records[column.suite].cell.settings.get("objective") == "masked":
            return f"n/a {table.note('masked models fill blanks, they do not generate')}"
        from_fp32 = column.figure == "kld_fp32_mean"
        is_reference = wrote_anchor(row.records["divergence"]) if from_fp32 else row.precision == REFERENCE
        return "reference" if column.suite == "divergence" and is_reference else "-" if from_fp32 else "n/a"
    return written(found[column.figure], column.kind)


def _predicted(row: Row, found: dict[str, Estimate], name: str) -> str:
    figure = PREDICTED[name][0]
    record = row.records.get("memory")
    predicted = getattr(record.predicted, figure) if record else None
    if predicted is None:
        return "unknown"
    text = human_bytes(predicted)
    if figure in found and found[figure].value:
        text += f" ({predicted / found[figure].value - 1:+.1%})"
    return text


def written(estimate: Estimate, kind: str) -> str:
    """A value and half its interval, as people write them."""
    value, half = estimate.value, estimate.half_width
    if kind in {"bytes", "usd"}:
        return human_bytes(value) if kind == "bytes" else f"${value:.3g}"
    if kind == "seconds":
        return human_seconds(value) if value >= 1 else f"{value * 1000:.3g} ms"
    if kind == "percent":
        return f"{value:.1%}" + (f" ±{half * 100:.1f}" if half is not None else "")
    if half is None:
        return significant(value)
    if kind == "rate":
        digits = 0 if value >= 100 else 1 if value >= 10 else 2
        return f"{value:.{digits}f} ±{half:.{digits}f}"
    return f"{significant(value)} ±{significant(half, 1)}"


def markdown(table: Table) -> str:
    """A GitHub table, numbers right-aligned, with its footnotes."""
    text = sum(title in TEXT for title in table.titles)
    rule = ["---" if i < text else "---:" for i in range(len(table.titles))]
    lines = ["| " + " | ".join(cells) + " |" for cells in [table.titles, rule, *table.rows]]
    lines += ["", *(f"[{i}] {note}  " for i, note in enumerate(table.notes, 1))] if table.notes else []
    return "\n".join(line.replace("\n", " ") for line in lines).rstrip() + "\n"


def to_csv(rows: Sequence[dict[str, Any]]) -> str:
    """Flat rows as CSV, empty where null."""
    names = list(dict.fromkeys(name for row in rows for name in row)) or [*IDENTITY, *FIGURES]
    out = io.StringIO()
    writer = csv.DictWriter(out, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()


def to_json(rows: Sequence[dict[str, Any]]) -> str:
    """Flat rows as a JSON list, null where there is none; every row has every key."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    return json.dumps([{name: row.get(name) for name in names} for row in rows], indent=1, ensure_ascii=False) + "\n"


__all__ = [
    "COLUMNS", "ORDER", "VIEWS", "Row", "Table", "flat", "markdown", "newest", "people", "to_csv",
    "to_json", "written",
]  # fmt: skip
