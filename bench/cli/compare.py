# SPDX-License-Identifier: Apache-2.0
"""`bench compare`: rows side by side, with verdicts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from bench.cli.console import NO_RECORDS, Format, out, print_flat, print_lines, print_notes, print_table, print_title
from bench.cli.options import Rows, View
from bench.cli.stored import exit_for_unreadable, matching, newest_rows
from bench.errors import UserError

if TYPE_CHECKING:
    from bench.judge.compare import Comparison
    from bench.views.table import Row

MARGIN = 0.01
"""Share of the score above chance that may be lost, unless the caller says another."""


class Across(StrEnum):
    """What may differ between rows that stand side by side."""

    BACKEND = "backend"


@dataclass(frozen=True, kw_only=True)
class Comparing:
    """How to compare."""

    across: Annotated[
        str, typer.Option("--across", help="backend: the engines of a model side by side.", metavar="WHAT")
    ] = ""
    per_byte: Annotated[bool, typer.Option("--per-byte", help="Models by size: score for each byte.")] = False
    margin: Annotated[
        float,
        typer.Option(
            "--margin", help="Share of the score above chance that may be lost.", min=0.0001, max=0.5, metavar="SHARE"
        ),
    ] = MARGIN


def compare(asked: Rows, comparing: Comparing, output: View) -> None:
    """Compare each precision with the same model's own 16-bit row on the same device, or engines with each other.

    Example: bench compare --model 'smollm2-*' --across backend
    """
    from bench.records.store import Store

    if comparing.across and comparing.across not in list(Across):
        raise UserError(f"nothing to compare across {comparing.across!r}", f"one of: {', '.join(Across)}")
    store = Store(output.results)
    rows = newest_rows(store)
    if comparing.across:
        _print_across(matching(rows, asked), output.format)
    elif comparing.per_byte:
        _print_per_byte(matching(rows, asked), output.format, comparing.margin)
    else:
        # A row needs its reference beside it, so precision and scheme choose only after the pairing.
        rows = matching(rows, replace(asked, precision=[], scheme=[]))
        print_comparisons(rows, output.format, only=matching(rows, asked), margin=comparing.margin)
    exit_for_unreadable(store)


def print_comparisons(
    rows: Sequence[Row], form: Format, *, only: Sequence[Row] | None = None, margin: float = MARGIN
) -> None:
    """Rows against their references; with `only`, those rows alone."""
    from bench.judge.compare import compare as paired
    from bench.judge.compare import flat_comparisons
    from bench.judge.generated import flat_drifts
    from bench.views.table import with_any

    found, alone = paired(with_any(rows), margin)
    if only is not None:
        found = [item for item in found if any(item.row is row for row in only)]
    if form.flat:
        drifts = [flat for item in found for flat in flat_drifts(item)]
        print_flat([*flat_comparisons(found), *drifts], form)
        return
    if found:
        _print_found(found, form, margin)
    print_lines(alone)
    if only is not None and not found and not alone:
        out.print(NO_RECORDS)


def _print_found(found: Sequence[Comparison], form: Format, margin: float) -> None:
    """Ratios, then the tasks, then generated answers."""
    from bench.judge import generated
    from bench.judge.compare import across_versions, footnotes, ratio_table, task_tables

    print_title("against the model's own 16-bit row", form)
    print_table(ratio_table(found), form)
    print_notes(across_versions(found), form)
    for title, table in task_tables(found):
        print_title(title, form)
        print_table(table, form)
    if any(item.tasks for item in found):
        print_notes(footnotes(margin), form)
    drifted = generated.drift_table(found)
    if drifted.rows:
        print_title("generated answers", form)
        print_table(drifted, form)
        print_notes(generated.footnotes(), form)


def _print_per_byte(rows: Sequence[Row], form: Format, margin: float) -> None:
    """Models in the order of their size, with their score for each byte."""
    from bench.judge.score_per_byte import flat_worth, footnotes, per_byte, worth_table

    devices, alone = per_byte(rows, margin)
    if form.flat:
        print_flat([flat for _, ranked in devices for flat in flat_worth(ranked)], form)
        return
    for device, ranked in devices:
        print_title(f"score per byte on {device}", form)
        print_table(worth_table(ranked), form)
        print_notes(footnotes(), form)
    print_lines(f"left out: {line}" for line in alone)
    if not devices and not alone:
        out.print(NO_RECORDS)


def _print_across(rows: Sequence[Row], form: Format) -> None:
    """The engines of each model side by side."""
    from bench.judge.cross_engine import across, across_table, flat_across, footnotes
    from bench.views.table import with_any

    groups, alone = across(with_any(rows))
    if form.flat:
        print_flat(flat_across(groups), form)
        return
    for group in groups:
        print_title(group.title, form)
        print_table(across_table(group), form)
        print_notes(footnotes(group), form)
    print_lines(alone)
    if not rows:
        out.print(NO_RECORDS)
