# SPDX-License-Identifier: Apache-2.0
"""`python -m bench.fleet.box`: one question on stdin, answered in lines on stdout: what this box is, or records.

It measures as `bench run` does: alone on its device, in processes of its own. What it measured lies in a folder that
goes with it; a record is home when it is stored there.
"""

from __future__ import annotations

import contextlib
import functools
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from bench.engines.contract import Backend
from bench.engines.registry import backend
from bench.errors import UserError
from bench.fleet.wire import QUESTION, Answer, Handout, Look, Seen, line, own_output
from bench.instruments import machine
from bench.instruments.neighbours import unniced
from bench.plan.plan import Plan, has_reference
from bench.plan.questions import Planned
from bench.processes import temporary_folder
from bench.records.code_digest import sources
from bench.records.record import Record, Run
from bench.records.store import Store, record_in, to_text
from bench.run.assemble import now
from bench.run.locks import measuring_on
from bench.run.measure import roof_of
from bench.run.options import Observer, RunOptions
from bench.run.runner import Runner
from bench.run.sweep import sweep

Say = Callable[[Answer], None]


def look(asked: Look) -> Seen:
    """What this box is, and which engines it lacks."""
    kind = asked.kind or machine.device_kind()
    if not machine.available(kind):
        raise UserError(f"this machine has no {kind} device", "leave --device out, or take it out of the cluster")
    engines = [backend(name) for name in asked.backends]
    return Seen(
        machine=machine.describe(kind),
        free_bytes=machine.free_bytes(kind),
        sources=sources(),
        revision=machine.revision(),
        lacking={e.name: f"{', '.join(e.missing())}: {e.install}" for e in engines if e.missing()},
    )


class Telling(Observer):
    """An observer that sends every record home as soon as it is whole."""

    def __init__(self, say: Say) -> None:
        self.say = say

    def load(self, first: Planned) -> None:
        """Home knows what it handed out."""

    def cell(self, planned: Planned) -> None:
        """Records tell it."""

    def phase(self, name: str, done: int, total: int) -> None:
        """Too much to send."""

    def record(self, record: Record) -> None:
        """One line."""
        self.say(Answer(record=to_text(record)))

    def again(self, cells: Sequence[Planned]) -> None:
        """Their records come again, longer."""

    def undecided(self, cells: Sequence[Planned]) -> None:
        """Said at the end."""


def measure(asked: Handout, say: Say) -> None:
    """Answer the cells of a handout, alone on the device. Raises UserError."""
    kind, described = asked.machine.kind, machine.describe(asked.machine.kind)
    if described.device != asked.machine.device:
        raise UserError(f"this box is {described.device}, not {asked.machine.device}", "cut it off the cluster")
    kept = [key for key in asked.needed if any(p.cell.key == key and has_reference(p.cell) for p in asked.cells)]
    for key in kept:
        say(Answer(held=key))
    cells = tuple(planned for planned in asked.cells if planned.cell.key not in kept)
    engines = [backend(name) for name in dict.fromkeys(planned.cell.backend for planned in cells)]
    with temporary_folder() as folder, _alone(engines, asked, say):
        store = Store(Path(folder))
        for text in asked.records:
            store.write(record_in(text.encode(), store.root))
        sweep(store)
        _measured(asked, cells, engines, store, kind, say)


def _alone(engines: Sequence[Backend], asked: Handout, say: Say) -> contextlib.AbstractContextManager[object]:
    """The right to measure on this box's device, whoever else measures here; what computes nothing needs none."""
    if all(engine.roof or engine.remote for engine in engines):
        return contextlib.nullcontext()
    names = machine.lock_names(asked.machine)
    return measuring_on(names, wait=True, tell=lambda text: say(Answer(told=text)))


def _measured(
    asked: Handout, cells: tuple[Planned, ...], engines: Sequence[Backend], store: Store, kind: str, say: Say
) -> None:
    here = [engine for engine in engines if not engine.remote]
    roof = functools.partial(roof_of, here, kind, asked.threads, lambda: None) if here else lambda: None
    options = RunOptions(
        timeout_s=asked.timeout_s, patience=asked.patience, threads=asked.threads, budget_s=asked.budget_s,
        whole_budget_s=asked.whole_budget_s,
    )  # fmt: skip
    before = machine.condition(kind)
    before = before.model_copy(update={"roof": roof()})
    runner = Runner(
        run=asked.run, store=store, described=asked.machine, before=before, observer=Telling(say), options=options
    )
    runner.run(Plan(cells=cells, left_out=asked.left_out))
    after = machine.condition(kind).model_copy(update={"roof": roof()})
    ended = f"{now():%Y-%m-%dT%H:%M:%SZ}"
    if cells:
        told = Run(run=asked.run, device=asked.machine.device, ended=ended, before=before, after=after)
        say(Answer(run=to_text(told)))
    say(Answer(undecided=tuple(planned.cell.key for planned in runner.undecided)))


def main() -> None:
    """Answer what stands on stdin."""
    unniced()
    lines = own_output()

    def say(answer: Answer) -> None:
        lines.write(line(answer) + "\n")

    try:
        asked = QUESTION.validate_json(sys.stdin.read())
        if isinstance(asked, Look):
            say(Answer(seen=look(asked)))
        else:
            measure(asked, say)
    except UserError as error:
        say(Answer(refused=(error.message, error.remedy)))


if __name__ == "__main__":
    main()
