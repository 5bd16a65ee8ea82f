# SPDX-License-Identifier: Apache-2.0
"""Tables with several lines for one row: the points of throughput, and what fits a budget. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from bench.judge.capacity import CONTEXT, CapacityAnswer, capacity_answers
from bench.judge.figures import figures
from bench.judge.points import Point
from bench.judge.points import points as points_of
from bench.judge.reasons import MASKED, NOT_APPLICABLE, NOT_MEASURED, is_masked
from bench.judge.rows import Row
from bench.judge.scores import of_tasks
from bench.records.record import Record
from bench.units import human_bytes, human_limit
from bench.views.cells import identity, mixed, of_random, unlimited, written
from bench.views.fields import Unit
from bench.views.formats import Table, View
from bench.views.warnings import every

MOST_WARNINGS = 5
"""Lines of warnings beneath a listing; all of them with `--warnings`."""


@dataclass(frozen=True, kw_only=True)
class Listing:
    """One such table: what `bench show --columns` calls it."""

    suite: str
    """Rows without a record of it have no line."""
    table: Callable[[Sequence[Row]], Table]
    notes: tuple[str, ...]
    """What stands beneath it."""


def listed(rows: Sequence[Row], listing: Listing) -> list[Row]:
    """The rows that a listing has something to say of."""
    return [row for row in rows if listing.suite in row.records]


def views(rows: Sequence[Row], listing: Listing) -> list[View]:
    """A table for each device, with what its columns mean and its warnings."""
    shown = listed(rows, listing)
    found = []
    for device in sorted({row.device for row in shown}):
        here = [row for row in shown if row.device == device]
        notes = (*listing.notes, *every(here, [listing.suite], told=["not_measured"])[:MOST_WARNINGS])
        found.append(View(title=device, table=listing.table(here), notes=notes))
    return found


def _reason(table: Table, row: Row, suite: str) -> str:
    """Why a record has no figures, as a mark; empty if it has."""
    missing = row.missing(suite)
    return f"{missing.short} {table.note(str(missing))}" if missing else ""


def tasks(rows: Sequence[Row]) -> Table:
    """What stands for each task, by its name; further metrics and answer filters are keys of CSV and JSON."""
    several = mixed(rows)
    titles = ["model", "precision", "scheme"] + ["engine"] * several
    table = Table([*titles, "task", "metric", "score", "items"])
    for row in rows:
        record = row.records["quality"]
        head = identity(row, several=several)
        if reason := _reason(table, row, "quality"):
            table.rows.append([*head, "all", "", reason, ""])
            continue
        for one in of_tasks(record):
            unit = Unit.SHARE if one.share else Unit.METRIC
            table.rows.append([*head, one.task, one.metric, written(one.estimate, unit), f"{one.items:,}"])
    return table


RATES = (
    ("prefill_tokens_per_s", "prefill tok/s", Unit.RATE),
    ("decode_tokens_per_s", "decode tok/s", Unit.RATE),
    ("decode_each", "each sequence", Unit.RATE),
    ("ttft_s", "TTFT", Unit.SECONDS),
    ("itl_s", "gap p50", Unit.SECONDS),
    ("itl_p95_s", "gap p95", Unit.SECONDS),
)


def points(rows: Sequence[Row]) -> Table:
    """Speed at every batch and prompt that was asked for, one line each; the main point first."""
    several = mixed(rows)
    titles = ["model", "precision", "scheme"] + ["engine"] * several
    table = Table([*titles, "batch", "prompt", *(title for _, title, _ in RATES)])
    for row in rows:
        record = row.records["throughput"]
        head = identity(row, several=several)
        if reason := _reason(table, row, "throughput"):
            table.rows.append([*head, "", "", *[reason] * len(RATES)])
            continue
        for point in points_of(record):
            cells = [_rate(table, record, point, name, unit) for name, _, unit in RATES]
            table.rows.append([*head, str(point.batch), f"{point.prompt_tokens:,}", *cells])
    return table


def _rate(table: Table, record: Record, point: Point, name: str, unit: Unit) -> str:
    if point.why:
        return f"{NOT_MEASURED} {table.note(point.why)}"
    if name in point.figures:
        return written(point.figures[name], unit)
    return f"{MASKED.short} {table.note(MASKED.why)}" if is_masked(record) else NOT_APPLICABLE


BOUNDS = {
    "memory": "memory",
    "context": "the model's own context",
    "sequences": "the engine: sequences at once",
    "tokens": "profile: tokens of one trial",
    "seconds": "profile: seconds of one trial",
    "trials": "profile: number of trials",
    "spent": "the call's time budget",
}


def capacity(rows: Sequence[Row]) -> Table:
    """The longest context and the largest batches that ran in each row's budget, one line each."""
    several = mixed(rows)
    titles = ["model", "precision", "scheme"] + ["engine"] * several
    table = Table([*titles, "budget", "question", "largest", "predicted", "peak at it", "trials", "bounded by"])
    for row in rows:
        record = row.records["capacity"]
        head = [unlimited(row) + of_random(row), *identity(row, several=several)[1:]]  # the budget says its limit
        if reason := _reason(table, row, "capacity"):
            found = figures(record).get("budget_bytes")
            budget = found.value if found else row.limit
            table.rows.append([*head, human_limit(int(budget)) if budget else "", "all", reason, *[""] * 4])
            continue
        for answer in capacity_answers(record).values():
            table.rows.append([*head, *_answer(table, answer)])
        for caveat in record.warnings:
            if caveat.kind == "not_measured":
                cell = f"{NOT_APPLICABLE} {table.note(caveat.text)}"
                table.rows.append([*head, "", caveat.text.split(":")[0], cell, *[""] * 4])
    return table


def _answer(table: Table, answer: CapacityAnswer) -> list[str]:
    """Budget, question, largest, predicted, peak, trials and bound."""
    context = answer.question == CONTEXT
    unit = "tokens" if context else "sequence" if answer.largest == 1 else "sequences"
    counted = f"{answer.largest:,} {unit}"
    return [
        human_limit(answer.budget_bytes),
        "longest context" if context else f"batch of prompt {answer.prompt_tokens}",
        f"≥ {counted}" if answer.is_at_least else counted,
        "unknown" if answer.predicted is None else f"{answer.predicted:,}",
        "" if answer.peak_bytes is None else human_bytes(answer.peak_bytes),
        str(answer.trials) + (f" ({answer.killed} killed)" if answer.killed else ""),
        BOUNDS.get(answer.bound) or f"engine {table.note(answer.bound)}",
    ]


LISTINGS = {
    "tasks": Listing(
        suite="quality",
        table=tasks,
        notes=(
            "± is half of the 95 % interval: Wilson's of right or wrong items, else Student's; whole tasks: lm-eval's.",
            "metric: a task's accuracy, else its first; filters are named as in lm-eval. All of them: --format json.",
        ),
    ),
    "points": Listing(
        suite="throughput",
        table=points,
        notes=(
            "± is half of the 95 % interval. prefill: prompt tokens x batch / s from the call to the first logits;",
            "decode: (tokens - 1) x batch / s from first to last token; each sequence: that / batch; gap: one step.",
        ),
    ),
    "capacity": Listing(
        suite="capacity",
        table=capacity,
        notes=(
            "largest: what really ran, the highest bytes of the whole process (libraries included) within the budget.",
            "No trial is run whose peak is expected within 2 % of a hard limit, or 5 % of the memory without one.",
            "≥: the search ended before the memory did. predicted: before anything was loaded.",
        ),
    ),
}
"""By the name that `--columns` knows them."""
