# SPDX-License-Identifier: Apache-2.0
"""Each precision against the same model's own 16-bit row on the same device: ratios, distance, flips, verdicts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bench.engines.contract import backend, backend_names
from bench.judge.aggregate import Answers, Recovery, recovery, together
from bench.judge.figures import figures
from bench.judge.pairing import PairedItems, pair, pair_task, tasks_of, versions_apart
from bench.judge.speeds import speed_ratios
from bench.judge.stats import MARGIN, Estimate, PairedDifference, Verdict, paired_difference
from bench.records.cell import REFERENCE, Precision
from bench.records.record import NO_WIDER_WEIGHTS, Record
from bench.units import signed
from bench.views.table import Row, Table, written


@dataclass(frozen=True, kw_only=True)
class TaskComparison:
    """One task: paired, or the reason why it cannot be."""

    task: str
    result: PairedDifference | None
    reason: str = ""


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """One row against its reference row."""

    row: Row
    reference: Row
    ratios: dict[str, Estimate]
    """weights, peak, prefill and decode: this divided by the reference."""
    tasks: tuple[TaskComparison, ...]
    recovery: Recovery | None = None
    """What is left of the reference's score above chance over all tasks that could be paired, None without one."""
    apart: tuple[str, ...] = ()
    """Packages that the two were measured with in different versions: `torch 2.14.1 against 2.13.0`."""


def compare(rows: Sequence[Row], margin: float = MARGIN) -> tuple[list[Comparison], list[str]]:
    """Every row that has a 16-bit row beside it, and one line for each that has none.

    `margin` is the share of the reference's score above chance that may be lost and still count as equivalent. Served
    models stand alone: nobody knows at which precision.
    """
    references: dict[tuple[str | int | None, ...], Row] = {}
    for row in rows:
        key = (row.device, row.model, row.weights, row.backend, row.limit)
        if row.precision == REFERENCE and (key not in references or row.scheme == _reference_scheme(row)):
            references[key] = row
    found, alone = [], []
    for row in rows:
        if row.precision == Precision.SERVED:
            continue
        reference = references.get((row.device, row.model, row.weights, row.backend, row.limit))
        if reference is None or _published_so(row):
            lacking = NO_WIDER_WEIGHTS if _published_so(row) else f"no {REFERENCE} row to compare with"
            alone.append(f"{row.name} {row.precision} ({row.backend}, {row.device}): {lacking}")
        elif reference is not row:
            found.append(_against(row, reference, margin))
    return found, alone


def _published_so(row: Row) -> bool:
    """Whether the row's weights were published in its scheme alone."""
    return any(r.provenance is not None and r.provenance.is_stored_in(row.scheme) for r in row.records.values())


def _reference_scheme(row: Row) -> str | None:
    """The scheme that distances on this row's device are measured from, as the plan chooses it."""
    kind = next(record.machine.kind for record in row.records.values())
    scheme = backend(row.backend).default_scheme(REFERENCE, kind) if row.backend in backend_names() else None
    return scheme.name if scheme else None


def _against(row: Row, reference: Row, margin: float) -> Comparison:
    """One row against its reference: records and items are paired once, for all that is said of them."""
    memory, speed = (pair(row, reference, suite) for suite in ("memory", "throughput"))
    items = {task: pair_task(row, reference, task) for task in tasks_of(row)}
    tasks, left = _tasks(items, margin) if tasks_of(reference) else ((), None)
    pairs = [two for two in (memory, speed) if two]
    pairs += [(found.this, found.base) for found in items.values() if isinstance(found, PairedItems)]
    return Comparison(
        row=row, reference=reference, ratios=_ratios(memory, speed), tasks=tasks, recovery=left, apart=_apart(pairs)
    )


def _apart(pairs: Sequence[tuple[Record, Record]]) -> tuple[str, ...]:
    """Versions that differ between the two records of any pair."""
    found = {name: both for two in pairs for name, both in versions_apart(*two).items()}
    return tuple(f"{name} {this} against {base}" for name, (this, base) in sorted(found.items()))


def across_versions(comparisons: Sequence[Comparison]) -> list[str]:
    """One line for each comparison whose two sides were not measured with the same packages."""
    return [
        f"{item.row.name} {item.row.scheme}: {', '.join(item.apart)}: measure {item.reference.scheme} in the same "
        "environment for a difference that is the precision's alone"
        for item in comparisons
        if item.apart
    ]


def _ratios(memory: tuple[Record, Record] | None, speed: tuple[Record, Record] | None) -> dict[str, Estimate]:
    ratios: dict[str, Estimate] = {}
    if memory:
        these, base = (figures(record) for record in memory)
        for name in ("weights_bytes", "peak_bytes"):
            ratios[name] = Estimate(these[name].value / base[name].value)
    if speed:
        ratios |= speed_ratios(*speed)
    return ratios


def _tasks(found: Mapping[str, PairedItems | str], margin: float) -> tuple[tuple[TaskComparison, ...], Recovery | None]:
    """Task by task, and over all of them together."""
    pairs = {task: items for task, items in found.items() if isinstance(items, PairedItems)}
    judged = dict(zip(pairs, together([_paired(items, margin) for items in pairs.values()]), strict=True))
    tasks = tuple(
        TaskComparison(task=task, result=judged.get(task), reason=items if isinstance(items, str) else "")
        for task, items in found.items()
    )
    return tasks, recovery([answers(items) for items in pairs.values()], margin)


def _paired(items: PairedItems, margin: float) -> PairedDifference:
    return paired_difference(items.these, items.reference, items.chance, margin=margin, clusters=items.clusters)


def answers(items: PairedItems) -> Answers:
    """One task's pairs as the recovery takes them."""
    return Answers(these=items.these, reference=items.reference, chance=items.chance, clusters=items.clusters)


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
        reason = item.row.reason("divergence")
        missing = "n/a" if reason.startswith("n/a") else reason or "n/a"
        cells.append(written(found["kld_mean"], "number") if "kld_mean" in found else missing)
        cells.append(written(found["same_top1"], "percent") if "same_top1" in found else missing)
        table.rows.append(cells)
    return table


def _ratio(item: Comparison, name: str) -> str:
    if name not in item.ratios:
        suite = "memory" if name.endswith("bytes") else "throughput"
        unknown = "settings differ" if name in item.row.figures() else "n/a"
        return item.row.reason(suite) or item.reference.reason(suite) or unknown
    ratio = item.ratios[name]
    return f"{ratio.value:.2f}x" + (f" ±{ratio.half_width:.2f}" if ratio.half_width is not None else "")


TASK_TITLES = ["task", "verdict", "points", "lost", "gained", "items", "Holm p"]


def task_table(comparisons: Sequence[Comparison]) -> Table:
    """What each precision answers differently, task by task: all in one table."""
    rows = [
        [item.row.name, item.row.precision, item.row.scheme, *cells]
        for item in comparisons
        for cells in _task_rows(item)
    ]
    return Table(["model", "precision", "scheme", *TASK_TITLES], rows)


def task_tables(comparisons: Sequence[Comparison]) -> list[tuple[str, Table]]:
    """The same, each row against its reference in a table with a title of its own, within 100 columns."""
    return [
        (
            f"{item.row.name} {item.row.precision} ({item.row.scheme}) against {item.reference.scheme}",
            Table(list(TASK_TITLES), list(_task_rows(item))),
        )
        for item in comparisons
        if item.tasks
    ]


def _task_rows(item: Comparison) -> Iterator[list[str]]:
    for task in item.tasks:
        yield [task.task, *(_task_cells(task.result) if task.result else [task.reason, "", "", "", "", ""])]
    if item.recovery is not None and len(item.tasks) > 1:
        yield ["all tasks", *_recovery_cells(item)]


def _task_cells(found: PairedDifference) -> list[str]:
    more = f" (+{found.more_items:,} items)" if found.more_items else ""
    difference = found.difference.scaled(100)
    points = signed(difference.value)
    if difference.low is not None and difference.high is not None:
        points += f" [{signed(difference.low)}, {signed(difference.high)}]"
    p_value = "-" if found.holm_p is None else f"{found.holm_p:.2g}"
    verdict = _said(found.verdict) + more
    return [verdict, points, str(found.lost), str(found.gained), str(found.items), p_value]


def _said(verdict: Verdict) -> str:
    return f"{verdict} (at chance)" if verdict is Verdict.NOT_MEASURABLE else str(verdict)


def _recovery_cells(item: Comparison) -> list[str]:
    assert item.recovery is not None
    results = [task.result for task in item.tasks if task.result]
    counts = [str(sum(getattr(result, name) for result in results)) for name in ("lost", "gained", "items")]
    measurable = item.recovery.verdict is not Verdict.NOT_MEASURABLE
    share = written(item.recovery.share, "percent") if measurable else "-"
    return [_said(item.recovery.verdict), share, *counts, "-"]


def footnotes(margin: float) -> list[str]:
    """What the columns of the task table mean."""
    within = f"equivalent: the interval lies within {margin:.1%} of what the reference scores above chance; "
    return [
        "points: this minus the reference, in percent of the items, with its 95 % interval.",
        within + "worse, better: it lies on one side of zero, and Holm's p is at most 0.05.",
        "undecided (+n items): about n more would decide; without a number not even a thousand times as many would.",
        "at chance: the reference itself scores within two standard errors of chance and has nothing to lose.",
        "lost, gained: items right to wrong and wrong to right. Holm p: exact McNemar test (mid-p) over these tasks.",
        "all tasks: share of the reference's score above chance that is left, mean over the tasks.",
    ]


def flat_comparisons(comparisons: Sequence[Comparison]) -> list[dict[str, Any]]:
    """Flat rows for CSV and JSON: one for each row against its reference, and one for each of its tasks."""
    rows: list[dict[str, Any]] = []
    for item in comparisons:
        row, found = item.row, item.row.figures()
        head = {
            "model": row.model, "backend": row.backend, "scheme": row.scheme, "precision": row.precision,
            "device": row.device, "weights": str(row.weights), "reference": item.reference.scheme,
            "versions_apart": "; ".join(item.apart) or None,
        }  # fmt: skip
        ratios = {f"{name}_ratio": item.ratios[name].value if name in item.ratios else None for name in RATIOS}
        ratios |= {
            name: found[name].value if name in found else None for name in ("kld_mean", "same_top1", "ln_ppl_ratio")
        }
        left = item.recovery if item.recovery and item.recovery.verdict is not Verdict.NOT_MEASURABLE else None
        whole = {
            "verdict": str(item.recovery.verdict) if item.recovery else None,
            "recovery": left.share.value if left else None,
            "recovery_low": left.share.low if left else None,
            "recovery_high": left.share.high if left else None,
        }
        rows.append({**head, "task": None, **ratios, **whole})
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
                    "items": result.items if result else None,
                    "mcnemar_p": result.p_value if result else None,
                    "holm_p": result.holm_p if result else None,
                    "margin": result.margin if result else None,
                    "more_items": result.more_items if result else None,
                }
            )
    return rows


RATIOS = ("weights_bytes", "peak_bytes", "prefill_tokens_per_s", "decode_tokens_per_s")
