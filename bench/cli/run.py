# SPDX-License-Identifier: Apache-2.0
"""`bench run`: measure, and show what was measured."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from bench.cli.compare import print_answer, print_caches
from bench.cli.console import Format, err, out, warn
from bench.cli.options import MOST_THREADS, Budget, Cells, Folders, How, Limits, Quiet, Timeout, money, timeout
from bench.cli.publish import require_publishable, write_figures
from bench.cli.selecting import (
    budget_s,
    place,
    planned,
    require_backends,
    require_keys,
    require_schemes,
    selection,
    settle,
    store_of,
    telling,
    where,
)
from bench.cli.show import print_rows
from bench.cli.stored import Stored
from bench.errors import UserError

if TYPE_CHECKING:
    from bench.records.cell import Cell
    from bench.records.store import Store
    from bench.records.surroundings import Machine
    from bench.run.answered import Answered


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
    ray: Annotated[
        str,
        typer.Option("--ray", help="On the boxes of a Ray cluster: auto, or HOST:PORT of its head.", metavar="ADDRESS"),
    ] = ""


@dataclass(frozen=True, kw_only=True)
class RunLimits(Limits):
    """Limits."""

    timeout: Timeout = ""
    budget: Budget = ""
    max_cost: Annotated[
        float | None,
        typer.Option("--max-cost", metavar="USD", help="What paid APIs may cost in this call.", callback=money),
    ] = None
    cache_limit: Annotated[
        str,
        typer.Option(
            "--cache-limit",
            help="What bench's cache may hold: 200GB. Not used for longest goes first.",
            show_default=False,
            metavar="SIZE",
        ),
    ] = ""
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
    from bench.run.devices import is_part

    if how.ray:
        raise typer.Exit(_run_on_boxes(cells, how, limits, output))
    if several := _several(cells):
        raise typer.Exit(_run_side_by_side(several, cells, limits, output))
    done = measure(cells, how, limits, output)
    if is_part():
        raise typer.Exit(1 if print_failed(done.answers or ()) else 0)
    if done.answers is None:
        raise typer.Exit(0)
    _print_measured(done)
    if output.publish_after:
        write_figures(output, Stored(output.results), check=False)
    raise typer.Exit(1 if print_failed(done.answers) else 0)


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What a call has come to."""

    answers: list[Answered] | None
    """How the cells of this call ended, None where nothing was due."""
    answered: frozenset[str]
    """Ids of the records that came since it began, whoever's."""
    suites: set[str]
    """Those that were asked for."""
    store: Store
    machine: Machine


def measure(cells: RunCells, how: RunHow, limits: RunLimits, output: RunOutput) -> Measured:
    """Measure what is not settled, and say so where that is nothing."""
    from bench.judge.figures import request_seconds
    from bench.run import options
    from bench.run.cache import parse_limit
    from bench.run.measure import Call, continued, run_call, run_key
    from bench.run.stopping import outlive_the_terminal
    from bench.views.plan import left_out, total

    outlive_the_terminal()
    asked = selection(cells, how, limits, fetch=True)
    require_backends(asked.backends)
    given = budget_s(limits.budget, how.profile)
    timeout_s, patience = timeout(limits.timeout)
    cache_limit = parse_limit(limits.cache_limit) if limits.cache_limit else None
    store, described = where(asked, output)
    known, threads = store.ids(), _threads(how.threads)
    meant: dict[str, Cell] = {}

    def plan_now() -> Call:
        stored = Stored(output.results)
        made = planned(asked, output, stored, described, budget_s=given, known=None if cells.fresh else known)
        require_schemes(made)
        meant.update({planned.cell.key: planned.cell for planned in made.cells})
        restraint = options.RunOptions(
            timeout_s=timeout_s,
            patience=patience,
            threads=threads,
            request_seconds=request_seconds if how.threads == "auto" else None,
            budget_s=given if limits.budget else options.default_budget_s(how.profile, (p.cell for p in made.cells)),
            max_cost_usd=limits.max_cost,
            cache_limit_bytes=cache_limit,
        )
        of_run = partial(stored.of_run, device=described.device)
        call = continued(made, run_key(asked, described), store, restraint, of_run, fresh=cells.fresh)
        require_keys(call.plan, limits.max_cost)
        return call

    def begin(call: Call) -> None:
        if output.publish_after and not call.nothing:
            require_publishable(output, {planned.cell.model for planned in call.plan.cells})
        if (others := len(store.ids() - known)) and not output.quiet:
            err.print(f"another bench has answered {others} cells since this call began", markup=False)
        if call.resumed and not output.quiet:
            err.print(f"continuing run {call.run}: {call.resumed} cells are settled already", markup=False)
        warn(left_out(call.plan))
        if call.nothing:
            out.print(total(call.plan))

    answers = run_call(
        plan_now, begin, asked, store, described, partial(telling, output, described), err, quiet=output.quiet,
        wait=not limits.no_wait,
    )  # fmt: skip
    settle(store)
    return Measured(
        answers=answers,
        answered=store.ids() - known,
        suites={cell.suite for cell in meant.values()},
        store=store,
        machine=described,
    )


def _several(cells: RunCells) -> tuple[str, ...]:
    """The cards of this machine that measure side by side, empty where one device does."""
    from bench.run.devices import is_part, named

    very = cells.device.very if cells.device and not is_part() else ()
    found = named(very) if very else ()
    return found if len(found) > 1 else ()


def _run_side_by_side(devices: tuple[str, ...], cells: RunCells, limits: RunLimits, output: RunOutput) -> int:
    """The same on several cards at once, and the figures of all of them; returns the exit code."""
    from bench.run.devices import side_by_side
    from bench.run.options import budget_s as seconds
    from bench.run.stopping import outlive_the_terminal

    outlive_the_terminal()
    if output.publish_after:
        raise UserError("--publish is for one device", "publish afterwards: bench publish")
    store = store_of(output)
    known = store.ids()
    err.print(f"measuring on {', '.join(devices)}; `bench status` in another terminal shows how far", markup=False)
    given = seconds(limits.budget) if limits.budget else None

    def tell(line: str) -> None:
        err.print(line, markup=False)

    code = side_by_side(devices, given, tell)
    stored, answered = Stored(store.root), store.ids() - known
    new = [row for row in stored.rows() if answered & row.record_ids]
    suites = {name for row in new for name in row.records}
    for device in sorted({row.device for row in new}):  # cards that are not alike measure everything, each for itself
        _print_rows_of(stored, device, answered, suites)
    stored.settle()
    out.print(f"records: {place(store)}", markup=False)
    return code


def _run_on_boxes(cells: RunCells, how: RunHow, limits: RunLimits, output: RunOutput) -> int:
    """The same on the boxes of a cluster, and the figures of each device that they are; returns the exit code."""
    from bench.cli.boxes import Asked, measure_on_boxes, require_heard

    paid = limits.max_cost is not None
    require_heard(
        {
            "--cache-limit": bool(limits.cache_limit),
            "--no-wait": limits.no_wait,
            "--max-cost": paid,
            "--threads auto": how.threads == "auto",
        }
    )
    timeout(limits.timeout)
    store = store_of(output)
    known = store.ids()
    asked = Asked(
        address=how.ray, cells=cells, how=how, limits=limits, folders=output, threads=_threads(how.threads),
        timeout=limits.timeout, budget=limits.budget, fresh=cells.fresh, quiet=output.quiet,
        publish=output.publish_after,
    )  # fmt: skip
    ended, suites = measure_on_boxes(asked, store)
    stored, answered = Stored(store.root), store.ids() - known
    for device in ended.devices:
        if len(ended.devices) > 1:
            out.print(f"\non {device}", markup=False)
        _print_rows_of(stored, device, answered, suites)
    stored.settle()
    settle(store)
    out.print(f"records: {place(store)}", markup=False)
    if output.publish_after:
        write_figures(output, Stored(output.results), check=False)
    return 1 if print_failed(ended.answers) or ended.open else 0


def _print_measured(done: Measured) -> None:
    """The rows that this call is about with those of the same weights, and where the records lie."""
    stored = Stored(done.store.root)
    _print_rows_of(stored, done.machine.device, done.answered, done.suites)
    stored.settle()
    out.print(f"records: {place(done.store)}", markup=False)


def _print_rows_of(stored: Stored, device: str, answered: frozenset[str], suites: set[str]) -> None:
    """The rows of a device that these records are about, with those of the same weights."""
    here = [row for row in stored.rows() if row.device == device]
    shown = {(row.model, row.backend, row.checkpoint.mark) for row in here if answered & row.record_ids}
    rows = [row for row in here if (row.model, row.backend, row.checkpoint.mark) in shown]
    if suites != {"capacity"}:
        left = print_answer(rows)
        if left:
            print_rows(left, "default", Format.TABLE)
    if "kv" in suites:
        print_caches(rows, Format.TABLE)
    if "capacity" in suites:
        print_rows(rows, "capacity", Format.TABLE)


def print_failed(answered: Sequence[Answered]) -> bool:
    """A line for each cell, or failing load, that another try may settle; returns whether there is one."""
    from bench.run.display import answers, named

    failed = answers(answer for answer in answered if not answer.outcome.ending.settled)
    warn((f"{named(group)}: {group[0].outcome.ending}: {group[0].outcome.reason}" for group in failed), "red")
    return bool(failed)


def _threads(text: str) -> int | None:
    """CPU threads, None where the engine or the sweep chooses."""
    if text in {"", "auto"}:
        return None
    if not re.fullmatch(r"[0-9]{1,4}", text) or not 1 <= int(text) <= MOST_THREADS:
        raise UserError(f"no threads {text!r}", f"a number from 1 to {MOST_THREADS}, or auto")
    return int(text)
