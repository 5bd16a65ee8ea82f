# SPDX-License-Identifier: Apache-2.0
"""Rows as `bench show` writes them: a table for people, flat rows for machines. Pure: nothing is printed here."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from types import MappingProxyType

from bench.judge.capacity import capacity_answers
from bench.judge.checkpoints import UNKNOWN, Checkpoint
from bench.judge.figures import figures
from bench.judge.reasons import FROM_FP32, NOT_APPLICABLE, missing_figure
from bench.judge.rows import Row
from bench.judge.scores import Score, others
from bench.judge.stats import Estimate
from bench.records.record import Record
from bench.units import human_bytes
from bench.views import fields, formats
from bench.views.cells import identity, mixed, written
from bench.views.columns import COLUMNS, PREDICTED, VIEWS, Column
from bench.views.fields import Unit
from bench.views.footnotes import footnotes
from bench.views.formats import Flat, FlatValue, Table, View
from bench.views.outputs import SHOW
from bench.views.warnings import Warnings

IDENTITY = tuple(field.name for field in fields.IDENTITY)
FIGURES = tuple(field.name for field in fields.FIGURES)
"""Columns of every flat row, null where a record has no such figure."""


def flat(record: Record, more: Mapping[str, Estimate] = MappingProxyType({}), checkpoint: Checkpoint = UNKNOWN) -> Flat:
    """One record as a flat row: identity, outcome, every figure in base units, intervals beside what has one.

    `more` are figures of it that another record holds, `checkpoint` the weights that it is of.
    """
    cell, found = record.cell, {**more, **figures(record)}
    row: dict[str, FlatValue] = {
        "model": cell.model,
        "backend": cell.backend,
        "scheme": cell.scheme,
        "precision": str(cell.precision),
        "suite": cell.suite,
        "device": cell.device,
        "weights": str(cell.weights),
        "outcome": str(record.outcome.ending),
        "reason": record.outcome.reason or None,
        "checkpoint": checkpoint.mark or None,
        "way": cell.way or None,
    }
    for name in FIGURES:
        row[name] = found[name].value if name in found else None
    for name in SHOW.intervals:
        row[f"{name}_low"], row[f"{name}_high"] = (found[name].low, found[name].high) if name in found else (None, None)
    row |= {name.replace(":", "_"): value.value for name, value in found.items() if ":" in name}
    for name, value in found.items():
        if name.startswith("score:"):
            row |= {f"{name.replace(':', '_')}_low": value.low, f"{name.replace(':', '_')}_high": value.high}
    row |= {f"{name.replace(':', '_')}_bound": answer.bound for name, answer in capacity_answers(record).items()}
    row["predicted_weights_bytes"] = record.predicted.weights_bytes
    row["predicted_peak_bytes"] = record.predicted.peak_bytes
    row["unit"] = record.machine.unit
    row["memory_limit_bytes"] = cell.memory_limit_bytes
    row["profile"], row["run"], row["started"], row["id"] = cell.profile, record.run, record.started, record.id
    row["warnings"] = "; ".join(w.kind for w in record.warnings) or None
    return SHOW.flat(row)


def flats(rows: Sequence[Row], suites: Collection[str] = ()) -> list[Flat]:
    """Every record of these rows as a flat row, or those of some suites alone."""
    return [
        flat(record, row.held_by_fp32_row(suite), row.checkpoint)
        for row in rows
        for suite, record in row.records.items()
        if not suites or suite in suites
    ]


def views(rows: Sequence[Row], columns: Sequence[str]) -> list[View]:
    """A table for each device, with what its columns mean and its warnings."""
    found = []
    for device in sorted({row.device for row in rows}):
        here = [row for row in rows if row.device == device]
        found.append(View(title=device, table=people(here, columns), notes=tuple(footnotes(here, columns))))
    return found


def people(rows: Sequence[Row], columns: Sequence[str], *, name_device: bool = False) -> Table:
    """The table people read: every figure with half its 95 % interval, every empty cell with its reason."""
    several = mixed(rows)
    titles = ["model", "precision", "scheme"] + ["engine"] * several + ["device"] * name_device
    table = Table(titles + [PREDICTED[c][1] if c in PREDICTED else COLUMNS[c].title for c in columns])
    warnings = Warnings(rows=rows, columns=columns)
    for row in rows:
        found = row.figures()
        cells = identity(row, several=several) + [row.device] * name_device
        cells[1] += warnings.mark_row(row)
        for name in columns:
            if name in PREDICTED:
                cells.append(_predicted(row, found, name))
            else:
                mark = warnings.mark(row, name) if COLUMNS[name].figure in found else ""
                cells.append(cell(table, row, found, COLUMNS[name]) + mark)
        table.rows.append(cells)
    return table


def cell(table: Table, row: Row, found: Mapping[str, Estimate], column: Column) -> str:
    """A figure as people read it, or why there is none, with a mark where that takes a sentence."""
    if missing := row.missing(column.suite):
        return f"{missing.short} {table.note(str(missing))}" if missing.why else missing.short
    if column.figure in found:
        return written(found[column.figure], column.unit) + _other_scores(table, row, column)
    if column.figure == "acc" and (other := _instead(table, row)):
        return other
    lacking = missing_figure(row.records[column.suite], column.figure)
    if lacking is None:
        return "-" if column.figure == FROM_FP32 else NOT_APPLICABLE
    return f"{lacking.short} {table.note(lacking.why)}" if lacking.why else lacking.short


def _instead(table: Table, row: Row) -> str:
    """What a task without a share of right items scored, by name; of several a mark, for their scores have no mean."""
    found = others(row.records["quality"])
    if len(found) == 1:
        return said(found[0])
    if not found:
        return ""
    return f"{NOT_APPLICABLE} {table.note(f'its tasks count no right answers: {_listed(found)}')}"


def _other_scores(table: Table, row: Row, column: Column) -> str:
    """A mark where an accuracy leaves out tasks that have none."""
    found = others(row.records["quality"]) if column.figure == "acc" else []
    return f" {table.note(f'without tasks that count no right answers: {_listed(found)}')}" if found else ""


def _listed(found: Sequence[Score]) -> str:
    return ", ".join(f"{one.task} {said(one)}" for one in found)


def said(score: Score) -> str:
    """A score with its metric's name: `mcc 0.41 ±0.1`."""
    return f"{score.metric} {written(score.estimate, Unit.SHARE if score.share else Unit.METRIC)}"


def _predicted(row: Row, found: Mapping[str, Estimate], name: str) -> str:
    figure = PREDICTED[name][0]
    record = row.records.get("memory")
    predicted = getattr(record.predicted, figure) if record else None
    if predicted is None:
        return "unknown"
    text = human_bytes(predicted)
    if figure in found and found[figure].value:
        text += f" ({predicted / found[figure].value - 1:+.1%})"
    return text


def to_csv(rows: Sequence[Flat]) -> str:
    """Flat rows as CSV, empty where null; the usual titles where there is no row."""
    return formats.to_csv(rows, (*IDENTITY, *FIGURES))


__all__ = ["COLUMNS", "VIEWS", "flat", "flats", "people", "to_csv", "views"]
