# SPDX-License-Identifier: Apache-2.0
"""`bench claims`: what makers say of hardware, held against the records."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from bench.cli.console import err, out, print_flat, print_table, warn
from bench.cli.options import MOST_THREADS, Cells, How, Limits, Output, Quiet, Subject, Timeout, split, timeout
from bench.cli.run import print_failed
from bench.cli.selecting import planned, require_backends, selection, settle, telling, where
from bench.cli.stored import Stored
from bench.errors import UserError

if TYPE_CHECKING:
    from bench.judge.claims import Judged
    from bench.plan.selection import Selection


@dataclass(frozen=True, kw_only=True)
class Trying:
    """Measuring what is undecided."""

    run: Annotated[
        bool, typer.Option("--run", help="Measure undecided memory claims that this machine can, each under its limit.")
    ] = False
    timeout: Timeout = ""
    threads: Annotated[
        int | None,
        typer.Option("--threads", min=1, max=MOST_THREADS, help="CPU threads to compute with.", metavar="COUNT"),
    ] = None
    quiet: Quiet = False


def claims(subject: Subject, trying: Trying, output: Output) -> None:
    """Hold the catalogue's claims against the records: holds, fails, computed only or untested, with the evidence.

    Example: bench claims --model 'vicuna-*'
    """
    from bench.catalog.entries import read_catalog, select
    from bench.judge.claims import judge
    from bench.plan.claims import predicted_for
    from bench.views.claims import counts, flats, people

    every = read_catalog(output.folder)
    chosen = select(every, split(subject.model)) if subject.model else every
    measured = {model.measured_for(claim) for model in chosen for claim in model.claims}
    stored = Stored(output.results)
    judged = judge(chosen, stored.records(measured), predicted_for, every)
    failed = False
    if trying.run:
        cells = Cells(backend=subject.backend, weights=subject.weights, device=subject.device)
        asked = selection(cells, How(), Limits(force=True), fetch=False)
        failed = _measure(judged, asked, trying, output)
        stored = Stored(output.results)
        judged = judge(chosen, stored.records(measured), predicted_for, every)
    if output.format.flat:
        print_flat(flats(judged), output.format)
    elif judged:
        print_table(people(judged), output.format)
        out.print(counts(judged))
    else:
        out.print("no claims: these entries make none")
    stored.finish()
    if failed:
        raise typer.Exit(1)


def _measure(judged: Sequence[Judged], asked: Selection, trying: Trying, output: Output) -> bool:
    """Measure what can decide these claims; returns whether a cell failed."""
    from bench.judge.claims import undecided
    from bench.plan.claims import selections
    from bench.run.measure import Call, continued, run_call, run_key, together
    from bench.run.memory_limit import capacity_bytes
    from bench.run.options import RunOptions
    from bench.run.stopping import outlive_the_terminal

    require_backends(asked.backends)
    outlive_the_terminal()
    store, described = where(asked, output)
    known = store.ids()
    each, left = selections(undecided(judged), asked, capacity_bytes(described))
    names = sorted({name for item in each for name in item.models})
    if asked.path and len(names) > 1:
        raise UserError(f"--weights local=PATH is one model, {len(names)} are to be tried", "name one with --model")
    whole = replace(asked, models=("claims", *names))
    timeout_s, patience = timeout(trying.timeout)
    limits = RunOptions(timeout_s=timeout_s, patience=patience, threads=trying.threads)

    def plan_now() -> Call:
        stored = Stored(output.results)
        made = together([planned(item, output, stored, described, known=known) for item in each])
        of_run = partial(stored.of_run, device=described.device)
        return continued(made, run_key(whole, described), store, limits, of_run, fresh=False)

    def begin(call: Call) -> None:
        reasons = dict.fromkeys(f"{item.model} {item.what}: {item.reason}" for item in call.plan.left_out)
        warn(f"left out: {line}" for line in [*left, *reasons])
        if call.nothing:
            err.print("nothing to run")

    told = partial(telling, output, described)
    records = run_call(plan_now, begin, whole, store, described, told, err, quiet=trying.quiet)
    settle(store)
    return print_failed(records or [])
