# SPDX-License-Identifier: Apache-2.0
"""`bench run`: measure, and show what was measured."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from bench.cli.compare import print_answer
from bench.cli.console import Format, err, out, warn
from bench.cli.options import MOST_THREADS, Cells, Folders, How, Limits, Quiet, Timeout, money
from bench.cli.publish import write_figures
from bench.cli.selecting import planned, require_backends, require_keys, require_schemes, selection
from bench.cli.show import print_rows
from bench.cli.stored import newest_rows
from bench.errors import UserError

if TYPE_CHECKING:
    from bench.records.record import Record
    from bench.records.store import Store
    from bench.records.surroundings import Machine


@dataclass(frozen=True, kw_only=True)
class RunCells(Cells):
    """What to measure."""

    fresh: Annotated[bool, typer.Option("--fresh", help="A new run even if the last one was interrupted.")] = False


@dataclass(frozen=True, kw_only=True)
class RunHow(How):
    """How to measure."""

    threads: Annotated[
        str,
        typer.Option(
            "--threads", help="CPU threads, or auto: swept once. Default: the engine's own choice.", metavar="COUNT"
        ),
    ] = ""


@dataclass(frozen=True, kw_only=True)
class RunLimits(Limits):
    """Limits."""

    timeout: Timeout = None
    budget: Annotated[
        str,
        typer.Option(
            "--budget",
            help="Seconds of measuring, loading apart: 90s, 20min, none. Default: 8min a model, profile standard.",
            show_default=False,
            metavar="TIME",
        ),
    ] = ""
    max_cost: Annotated[
        float | None,
        typer.Option("--max-cost", metavar="USD", help="What paid APIs may cost in this call.", callback=money),
    ] = None
    no_wait: Annotated[bool, typer.Option("--no-wait", help="Refuse while another bench measures here.")] = False


@dataclass(frozen=True, kw_only=True)
class RunOutput(Folders):
    """Output."""

    quiet: Quiet = False
    publish_after: Annotated[bool, typer.Option("--publish", help="Annotate the catalogue afterwards.")] = False


def run(cells: RunCells, how: RunHow, limits: RunLimits, output: RunOutput) -> None:
    """Measure, one process for each loaded model, one record on disk for each suite; then show the figures.

    Example: bench run --model gpt2 --precision fp16,int4 --budget 20min
    """
    records, store, described = measure(cells, how, limits, output)
    if not records:
        raise typer.Exit(0)
    _print_measured(records, store, described)
    if output.publish_after:
        write_figures(output, check=False)
    raise typer.Exit(1 if print_failed(records) else 0)


def measure(cells: RunCells, how: RunHow, limits: RunLimits, output: RunOutput) -> tuple[list[Record], Store, Machine]:
    """Measure what is not settled; the records of this call, with the store and the machine. Ends where none is due."""
    from bench.judge.figures import request_seconds
    from bench.run import options
    from bench.run.measure import continued, run_plan
    from bench.views.plan import left_out, total

    asked = selection(cells, how, limits, fetch=True)
    given = _budget(limits.budget) if limits.budget else None
    usual = options.DEFAULT_BUDGET_S if how.profile == "standard" and not limits.budget else None
    made, described, store = planned(asked, output, budget_s=given or usual)
    require_backends(asked.backends)
    require_schemes(made)
    restraint = options.RunOptions(
        timeout_s=limits.timeout,
        threads=_threads(how.threads),
        request_seconds=request_seconds if how.threads == "auto" else None,
        budget_s=given if limits.budget else options.default_budget_s(how.profile, (p.cell for p in made.cells)),
        max_cost_usd=limits.max_cost,
    )
    made, run_id, resumed = continued(made, asked, store, fresh=cells.fresh)
    if resumed and not output.quiet:
        err.print(f"continuing run {run_id}: {resumed} cells are settled already", markup=False)
    warn(left_out(made))
    if not made.cells and not any(left.planned for left in made.left_out):
        out.print(total(made))
        return [], store, described
    require_keys(made, limits.max_cost)
    records = run_plan(
        made, asked, store, described, run_id, restraint, err,
        quiet=output.quiet, wait=not limits.no_wait,
    )  # fmt: skip
    return records, store, described


def _print_measured(records: Sequence[Record], store: Store, described: Machine) -> None:
    """The rows that this run has added to with those of the same weights, and where the records lie."""
    written = {record.id for record in records}
    here = [row for row in newest_rows(store) if row.device == described.device]
    shown = {(row.model, row.backend, row.checkpoint.mark) for row in here if written & row.record_ids}
    rows = [row for row in here if (row.model, row.backend, row.checkpoint.mark) in shown]
    suites = {record.cell.suite for record in records}
    if suites != {"capacity"}:
        left = print_answer(rows)
        if left:
            print_rows(left, "default", Format.TABLE)
    if "capacity" in suites:
        print_rows(rows, "capacity", Format.TABLE)
    out.print(f"records: {store.root}", markup=False)


def print_failed(records: Sequence[Record]) -> bool:
    """A line for each cell, or failing load, that another try may settle; returns whether there is one."""
    from bench.run.display import answers, named

    failed = answers(record for record in records if not record.outcome.ending.settled)
    warn((f"{named(group)}: {group[0].outcome.ending}: {group[0].outcome.reason}" for group in failed), "red")
    return bool(failed)


def _threads(text: str) -> int | None:
    """CPU threads, None where the engine or the sweep chooses."""
    if text in {"", "auto"}:
        return None
    if not re.fullmatch(r"[0-9]{1,4}", text) or not 1 <= int(text) <= MOST_THREADS:
        raise UserError(f"no threads {text!r}", f"a number from 1 to {MOST_THREADS}, or auto")
    return int(text)


def _budget(text: str) -> float | None:
    """Seconds, None for no end."""
    from bench.run.options import budget_s

    try:
        return budget_s(text)
    except ValueError:
        raise UserError(f"no budget {text!r}", "20min, 90s, 2h or none") from None
