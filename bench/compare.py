# SPDX-License-Identifier: Apache-2.0
"""Each precision against the same model's own 16-bit row on the same device: ratios, distance, flips, verdicts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from bench.cell import REFERENCE
from bench.engine import backend, backend_names
from bench.figures import accuracies, decode_rates, prefill_rates
from bench.record import Ending, Record
from bench.stats import Estimate, Paired, paired, ratio_of_medians
from bench.table import Row, Table, written


@dataclass(frozen=True, kw_only=True)
class TaskComparison:
    """One task: paired, or the reason why it cannot be."""

    task: str
    result: Paired | None
    reason: str = ""


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """One row against its reference row."""

    row: Row
    reference: Row
    ratios: dict[str, Estimate]
    """weights, peak, prefill and decode: this divided by the reference."""
    tasks: tuple[TaskComparison, ...]


def compare(rows: Sequence[Row]) -> tuple[list[Comparison], list[str]]:
    """Every row that has a 16-bit row beside it, and one line for each that has none."""
    references: dict[tuple[str | int | None, ...], Row] = {}
    for row in rows:
        key = (row.device, row.model, row.weights, row.backend, row.limit)
        if row.precision == REFERENCE and (key not in references or row.scheme == _reference_scheme(row)):
            references[key] = row
    found, alone = [], []
    for row in rows:
        reference = references.get((row.device, row.model, row.weights, row.backend, row.limit))
        if reference is None:
            alone.append(
                f"{row.name} {row.precision} ({row.backend}, {row.device}): no {REFERENCE} row to compare with"
            )
        elif reference is not row:
            found.append(
                Comparison(row=row, reference=reference, ratios=_ratios(row, reference), tasks=_tasks(row, reference))
            )
    return found, alone


def _reference_scheme(row: Row) -> str | None:
    """The scheme that distances on this row's device are measured from, as the plan chooses it."""
    kind = next(record.machine.kind for record in row.records.values())
    scheme = backend(row.backend).default_scheme(REFERENCE, kind) if row.backend in backend_names() else None
    return scheme.name if scheme else None


def _same_weights(this: Record, base: Record) -> bool:
    """Whether both loaded the very same files; unknown counts as same."""
    if this.provenance is None or base.provenance is None:
        return True
    return this.provenance.files == base.provenance.files


def _pair(row: Row, reference: Row, suite: str) -> tuple[Record, Record] | None:
    """Both rows' records of a suite, None unless both are ok and asked the same."""
    this, base = row.records.get(suite), reference.records.get(suite)
    if not this or not base or {this.outcome.ending, base.outcome.ending} != {Ending.OK}:
        return None
    if this.cell.settings != base.cell.settings or this.cell.suite_version != base.cell.suite_version:
        return None
    if not _same_weights(this, base):
        return None
    return this, base


def _ratios(row: Row, reference: Row) -> dict[str, Estimate]:
    ratios: dict[str, Estimate] = {}
    these, base = row.figures(), reference.figures()
    if _pair(row, reference, "memory"):
        for name in ("weights_bytes", "peak_bytes"):
            ratios[name] = Estimate(these[name].value / base[name].value)
    speed = _pair(row, reference, "throughput")
    if speed:
        for name, source, rates in (
            ("prefill_tokens_per_s", "prefill_s", prefill_rates),
            ("decode_tokens_per_s", "itl_s", decode_rates),
        ):
            this, other = (record.measurement(source) for record in speed)
            assert this is not None
            assert other is not None
            ratios[name] = ratio_of_medians(rates(this), rates(other))
    return ratios


def _tasks(row: Row, reference: Row) -> tuple[TaskComparison, ...]:
    this, base = row.records.get("quality"), reference.records.get("quality")
    if this is None or base is None:
        return ()
    theirs = accuracies(base)
    found = []
    for task, measurement in accuracies(this).items():
        other = theirs.get(task)
        result, reason = None, ""
        if other is None:
            reason = "the reference did not answer this task"
        elif measurement.labels.get("digest") != other.labels.get("digest"):
            reason = "different items or prompts: measure both with the same profile"
        elif not _same_weights(this, base):
            reason = "different weights: measure both from the same files"
        elif this.versions.packages.get("lm_eval") != base.versions.packages.get("lm_eval"):
            reason = "different lm-eval versions"
        else:
            chance = measurement.labels.get("chance")
            result = paired(measurement.values, other.values, float(chance) if isinstance(chance, int | float) else 0.0)
        found.append(TaskComparison(task=task, result=result, reason=reason))
    return tuple(found)


def ratio_table(comparisons: Sequence[Comparison]) -> Table:
    """What each precision costs and saves, as ratios to the 16-bit row."""
    table = Table(
        ["model", "precision", "scheme", "weights", "peak memory", "prefill", "decode", "KL, nats", "same top-1"]
    )
    for item in comparisons:
        found = item.row.figures()
        cells = [item.row.name, item.row.precision, item.row.scheme]
        cells += [
            _ratio(item, name)
            for name in ("weights_bytes", "peak_bytes", "prefill_tokens_per_s", "decode_tokens_per_s")
        ]
        missing = item.row.reason("divergence") or "n/a"
        cells.append(written(found["kld_mean"], "number") if "kld_mean" in found else missing)
        cells.append(written(found["same_top1"], "percent") if "same_top1" in found else missing)
        table.rows.append(cells)
    return table


def _ratio(item: Comparison, name: str) -> str:
    if name not in item.ratios:
        suite = "memory" if name.endswith("bytes") else "throughput"
        return item.row.reason(suite) or item.reference.reason(suite) or "settings differ"
    ratio = item.ratios[name]
    return f"{ratio.value:.2f}x" + (f" ±{ratio.half_width:.2f}" if ratio.half_width is not None else "")


def task_table(comparisons: Sequence[Comparison]) -> Table:
    """What each precision answers differently, task by task."""
    table = Table(["model", "precision", "task", "verdict", "difference", "lost", "gained", "items", "McNemar p"])
    for item in comparisons:
        for task in item.tasks:
            head = [item.row.name, item.row.precision, task.task]
            if task.result is None:
                table.rows.append([*head, task.reason, "", "", "", "", ""])
                continue
            found = task.result
            more = f" (about {found.more_items:,} more items)" if found.more_items else ""
            half = found.difference.half_width or 0.0
            count = len(accuracies(item.row.records["quality"])[task.task].values)
            difference = f"{found.difference.value * 100:+.1f} ±{half * 100:.1f} points"
            table.rows.append(
                [
                    *head,
                    f"{found.verdict}{more}",
                    difference,
                    str(found.lost),
                    str(found.gained),
                    str(count),
                    f"{found.p_value:.2g}",
                ]
            )
    return table


def flat_comparisons(comparisons: Sequence[Comparison]) -> list[dict[str, Any]]:
    """Flat rows for CSV and JSON: one for each row against its reference, and one for each of its tasks."""
    rows: list[dict[str, Any]] = []
    for item in comparisons:
        row, found = item.row, item.row.figures()
        head = {
            "model": row.model, "backend": row.backend, "scheme": row.scheme, "precision": row.precision,
            "device": row.device, "weights": str(row.weights), "reference": item.reference.scheme,
        }  # fmt: skip
        ratios = {f"{name}_ratio": item.ratios[name].value if name in item.ratios else None for name in RATIOS}
        ratios |= {
            name: found[name].value if name in found else None for name in ("kld_mean", "same_top1", "ln_ppl_ratio")
        }
        rows.append({**head, "task": None, **ratios})
        for task in item.tasks:
            result = task.result
            rows.append(
                {
                    **head,
                    "task": task.task,
                    "verdict": str(result.verdict) if result else None,
                    "reason": task.reason or None,
                    "difference": result.difference.value if result else None,
                    "difference_low": result.difference.low if result else None,
                    "difference_high": result.difference.high if result else None,
                    "lost": result.lost if result else None,
                    "gained": result.gained if result else None,
                    "mcnemar_p": result.p_value if result else None,
                    "more_items": result.more_items if result else None,
                }
            )
    return rows


RATIOS = ("weights_bytes", "peak_bytes", "prefill_tokens_per_s", "decode_tokens_per_s")
