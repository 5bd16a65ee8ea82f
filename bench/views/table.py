# SPDX-License-Identifier: Apache-2.0
"""Records become rows, rows become Markdown, CSV or JSON. Pure: nothing is printed or written here."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import suites
from bench.judge.figures import answers, figures, no_energy, reference_figures, wrote_anchor
from bench.judge.stats import Estimate
from bench.plan.plan import ORDER
from bench.plan.selection import QUALITY, RANDOM_SAYS_NOTHING
from bench.records.cell import COMPARED, REFERENCE, Precision, Weights
from bench.records.record import Ending, Record
from bench.suite import PROFILES
from bench.units import human_bytes, human_seconds, significant
from bench.views import formats
from bench.views.columns import COLUMNS, ENERGY, GENERATED, PREDICTED, VIEWS, Column
from bench.views.formats import Table, markdown, to_json
from bench.views.roofs import no_share

IDENTITY = ("model", "backend", "scheme", "precision", "suite", "device", "weights", "outcome", "reason")
FIGURES = (
    "weights_bytes", "peak_bytes", "load_peak_bytes", "kv_bytes", "kv_bytes_per_token", "workspace_bytes",
    "metadata_bytes", "runtime_bytes", "peak_anonymous_bytes", "peak_file_bytes", "loaded_pss_bytes",
    "peak_allocated_bytes", "peak_reserved_bytes",
    "unexplained_bytes", "slack_bytes", "baseline_bytes", "load_s", "linear_bits", "linear_quantized",
    "prefill_tokens_per_s", "ttft_s", "decode_tokens_per_s", "itl_s", "itl_p99_s", "decode_bandwidth_share",
    "prefill_matrix_share", "prefill_j_per_token", "decode_j_per_token", "idle_w",
    "kld_mean", "kld_median", "kld_p99", "kld_p999", "kld_max", "same_top1", "kld_fp32_mean", "same_top1_fp32",
    "kld_floor", "true_token_mean", "true_token_rms", "ln_ppl_ratio", "ppl", "acc", "items", "input_tokens",
    "output_tokens", "cost_usd", "cost_usd_per_item", "max_context_tokens", "budget_bytes",
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
    row |= {name.replace(":", "_"): value.value for name, value in found.items() if ":" in name}
    row |= {f"{name.replace(':', '_')}_bound": m.labels["bound"] for name, m in answers(record).items()}
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


def people(rows: Sequence[Row], columns: Sequence[str], *, name_device: bool = False) -> Table:
    """The table people read: every figure with half its 95 % interval, every empty cell with its reason."""
    several = mixed(rows)
    titles = ["model", "precision", "scheme"] + ["engine"] * several + ["device"] * name_device
    table = Table(titles + [PREDICTED[c][1] if c in PREDICTED else COLUMNS[c].title for c in columns])
    for row in rows:
        found = row.figures()
        cells = identity(row, several=several) + [row.device] * name_device
        cells += [
            _predicted(row, found, c) if c in PREDICTED else _cell(table, row, found, COLUMNS[c]) for c in columns
        ]
        table.rows.append(cells)
    return table


def with_any(rows: Sequence[Row], names: Iterable[str] = suites.DEFAULT) -> list[Row]:
    """The rows that a record of any of these suites stands behind: the others have nothing to say in their table.

    What only the capacity suite has measured stands in a listing of its own.
    """
    return [row for row in rows if row.records.keys() & set(names)]


def mixed(rows: Sequence[Row]) -> bool:
    """Whether a table of these rows must name the engine of each."""
    return len({row.backend for row in rows}) > 1


def identity(row: Row, *, several: bool) -> list[str]:
    """The first cells of a row: model, precision, scheme, and the engine where there are several."""
    return [row.label, row.precision, row.scheme] + [row.backend] * several


def _cell(table: Table, row: Row, found: dict[str, Estimate], column: Column) -> str:
    reason = row.reason(column.suite)
    if reason:
        short = reason.split(":")[0]
        return short if short == reason else f"{short} {table.note(reason)}"
    if column.figure not in found:
        if column.figure in GENERATED and row.records[column.suite].cell.settings.get("objective") == "masked":
            return f"n/a {table.note('masked models fill blanks, they do not generate')}"
        if column.figure in ENERGY and (why := no_energy(row.records[column.suite])):
            return f"none {table.note(why)}"
        if why := no_share(row.records[column.suite], column.figure):
            return f"n/a {table.note(why)}"
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


def to_csv(rows: Sequence[dict[str, Any]]) -> str:
    """Flat rows as CSV, empty where null; the usual titles where there is no row."""
    return formats.to_csv(rows, (*IDENTITY, *FIGURES))


__all__ = [
    "COLUMNS", "ORDER", "VIEWS", "Row", "Table", "flat", "identity", "markdown", "mixed", "newest", "people", "to_csv",
    "to_json", "with_any", "written",
]  # fmt: skip
