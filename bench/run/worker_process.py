# SPDX-License-Identifier: Apache-2.0
"""One worker process as its runner sees it, and what its death means."""

from __future__ import annotations

import signal
import time
from dataclasses import dataclass, field
from datetime import datetime

from bench.errors import UserError
from bench.instruments import container
from bench.plan.questions import Planned
from bench.records.record import Ending, Outcome
from bench.run.assemble import now
from bench.run.memory_limit import Confinement
from bench.units import human_bytes, human_limit

REACHED = 0.9
"""Share of a limit below which a kill was not the limit's: groups count also what dies for want of the whole machine's
memory. Charges come in batches and huge pages, so that a limit is reached a little below its last byte."""


@dataclass
class WorkerProcess:
    """What the runner knows of one worker process."""

    cells: list[Planned]
    current: Planned | None = None
    """The cell being answered, None while loading."""
    began: float = field(default_factory=time.monotonic)
    started: datetime = field(default_factory=now)
    refused: UserError | None = None
    done: set[str] = field(default_factory=set)
    """Keys of cells that have a record now, or that the budget did not hold any more."""
    restart: bool = False
    """Whether its suite asked to continue in a new process."""
    fetching: bool = True
    """Whether weights are still made ready for it, downloaded or converted."""
    step_began: float = field(default_factory=time.monotonic)
    """When it began to do what it does: make weights ready, load, or answer a cell."""
    timed_out: float | None = None
    """The limit it broke, None if it did not."""
    spent_usd: float = 0.0
    """What its answers have cost."""
    confinement: Confinement | None = None
    """The memory limit it runs under, None without one."""


def death(code: int, worker: WorkerProcess, log: str, kills_before: int | None) -> Outcome:
    """What a worker's death means: a limit broken, out of memory, killed by someone, or a crash of its own."""
    phase = f"in {worker.current.cell.suite}" if worker.current else "while loading"
    if worker.timed_out is not None:
        reason = f"stopped {phase} after {worker.timed_out:.0f} s without an answer"
        return Outcome(ending=Ending.TIMED_OUT, reason=reason, detail=log)
    confinement = worker.confinement
    if confinement and code and confinement.kills():
        return _killed_inside(confinement, phase, log)
    if code == -signal.SIGKILL:
        kills = container.oom_kills()
        if kills is not None and kills_before is not None and kills > kills_before:
            return Outcome(ending=Ending.DOES_NOT_FIT, reason=f"the kernel ran out of memory {phase}", detail=log)
        reason = f"killed by signal 9 {phase}: by the kernel for lack of memory, or by someone"
        return Outcome(ending=Ending.KILLED, reason=reason, detail=log)
    if code < 0:
        name = signal.Signals(-code).name
        return Outcome(ending=Ending.KILLED, reason=f"the worker died of {name} {phase}", detail=log)
    last = next((line for line in reversed(log.splitlines()) if line.strip()), "no output")
    return Outcome(ending=Ending.FAILED, reason=f"the worker exited {code} {phase}: {last[:200]}", detail=log)


def _killed_inside(confinement: Confinement, phase: str, log: str) -> Outcome:
    """The kernel killed it: either it reached its group's limit, or the machine itself had no memory left."""
    limit, highest = human_limit(confinement.limit_bytes), confinement.highest_bytes()
    if highest is not None and highest < REACHED * confinement.limit_bytes:
        words = f"killed by the kernel {phase} at {human_bytes(highest)} of its limit of {limit}"
        return Outcome(ending=Ending.KILLED, reason=f"{words}: the machine itself had no more", detail=log)
    reason = f"needs more than its limit of {limit} ({confinement.enforced_by}): killed by the kernel {phase}"
    return Outcome(ending=Ending.DOES_NOT_FIT, reason=reason, detail=log)
