# SPDX-License-Identifier: Apache-2.0
"""How far runs are, as `bench status` writes it. Pure: what is given is shown."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from bench.records.progress import Doing, Progress
from bench.units import human_seconds
from bench.views.fields import Field, Unit
from bench.views.formats import Flat
from bench.views.outputs import Output

STATUS = Output(
    command="bench status",
    row="one device that measures, one run on none, or one cell that failed",
    fields=(
        Field(
            "state",
            Unit.TEXT,
            "`running`, `waiting`, `elsewhere`, `done`, `stopped`, `killed`, `failed`; `failed cell`",
        ),
        Field("run", Unit.TEXT, "the call, as in its records"),
        Field("process", Unit.COUNT, "its number on its machine"),
        Field("device", Unit.TEXT, "which device measures"),
        Field("cell", Unit.TEXT, "what is measured or loaded, or what failed"),
        Field("phase", Unit.TEXT, "the part of it"),
        Field("done", Unit.COUNT, "of `total`, within that part"),
        Field("total", Unit.COUNT, "0 where unknown"),
        Field("seconds", Unit.SECONDS, "since the cell or load began"),
        Field("expected_s", Unit.SECONDS, "what was predicted for it"),
        Field("cells", Unit.COUNT, "cells of the run"),
        Field("answered", Unit.COUNT, "those that have a record now"),
        Field("failed", Unit.COUNT, "those of them that another try may settle"),
        Field("undecided", Unit.COUNT, "those that the budget left open"),
        Field("left_s", Unit.SECONDS, "until all is done, as far as is predicted"),
        Field("done_at", Unit.TIME, "when that is"),
        Field("began", Unit.TIME, "when the run began"),
        Field("told", Unit.TIME, "when it last said so"),
        Field("reason", Unit.TEXT, "why the run ended early, or the cell failed"),
    ),
)


def state(progress: Progress) -> str:
    """`running`, `waiting`, `done`, `stopped`, `killed`, `failed`, or `elsewhere` where nobody here can tell."""
    if progress.ended:
        return progress.ended if progress.ended in {"done", "stopped", "killed"} else "failed"
    if progress.owner.lives is None:
        return "elsewhere"
    if not progress.owner.lives:
        return "killed"
    return "waiting" if progress.waits_for else "running"


def flats(runs: Sequence[Progress], now: float) -> list[Flat]:
    """One row for each device that measures, or for each run where none does, and one for each cell that failed."""
    found: list[Flat] = []
    for progress in runs:
        whole: Flat = {
            "state": state(progress), "run": progress.run, "process": progress.owner.pid, "began": _utc(progress.began),
            "told": _utc(progress.told), "cells": progress.cells, "answered": progress.answered,
            "failed": progress.failed, "undecided": progress.undecided, "left_s": _left(progress, now),
            "done_at": _done_at(progress, now), "reason": _ended(progress) or None,
        }  # fmt: skip
        found += [whole | _doing(one, now) for one in progress.doing] or [whole]
        found += [
            {"state": "failed cell", "run": progress.run, "process": progress.owner.pid, "cell": one.cell,
             "reason": f"{one.ending}: {one.reason}"}
            for one in progress.failures
        ]  # fmt: skip
    return [STATUS.flat(row) for row in found]


def _doing(one: Doing, now: float) -> Flat:
    return {
        "device": one.device, "cell": one.what, "phase": one.phase or None, "done": one.done, "total": one.total,
        "seconds": round(max(0.0, now - one.since), 1), "expected_s": one.expected_s or None,
    }  # fmt: skip


def lines(
    runs: Sequence[Progress], last: Progress | None, open_cells: Sequence[int], folder: str, now: float
) -> list[str]:
    """What a person reads: every run with what it does, or what the last one came to; then what is left open.

    `open_cells` has, for each call that stopped early, how many cells it had asked for.
    """
    said = [line for progress in runs for line in _run(progress, now)]
    if not said:
        said.append(f"nothing is being measured into {folder}")
        if last is not None:
            said += ["", *_run(last, now)]
    waiting = len(open_cells) - sum(state(progress) in {"running", "waiting"} for progress in runs)
    if waiting > 0:
        calls = "1 call has" if waiting == 1 else f"{waiting} calls have"
        said.append(f"{calls} stopped before the end: the same command goes on from there")
    return said


def _run(progress: Progress, now: float) -> list[str]:
    """The lines of one run."""
    mode = state(progress)
    counts = [f"{progress.answered} of {progress.cells} cells answered"]
    counts += [f"{progress.failed} of them failed"] if progress.failed else []
    counts += [f"{progress.others} by another bench"] if progress.others else []
    counts += [f"{progress.undecided} undecided for want of budget"] if progress.undecided else []
    verb = {
        "running": f"runs (process {progress.owner.pid})",
        "waiting": f"waits for {progress.waits_for} (process {progress.owner.pid})",
        "elsewhere": "runs on another machine, or did",
        "killed": "was killed", "stopped": "was stopped", "done": "ended",
    }.get(mode, f"ended early: {progress.ended}")  # fmt: skip
    when = "" if mode in {"running", "waiting"} else f" {_utc(progress.told)}"
    said = [f"run {progress.run} {verb}{when}: {', '.join(counts)}"]
    if mode in {"running", "waiting", "elsewhere"}:
        said += [f"  {one.device}: {_what(one, now)}" for one in progress.doing]
        left = _left(progress, now)
        if left is not None:
            said.append(f"  done in about {human_seconds(left)}, at {_done_at(progress, now)}, as far as is predicted")
    said += [f"  {one.cell}: {one.ending}: {one.reason}" for one in progress.failures]
    return said


def _what(one: Doing, now: float) -> str:
    count = f" {one.done}/{one.total}" if one.total > 1 else ""
    phase = f", {one.phase}{count}" if one.phase else ""
    expected = f" of about {human_seconds(one.expected_s)}" if one.expected_s else ""
    return f"{one.what}{phase}: {human_seconds(max(0.0, now - one.since))}{expected}"


def _left(progress: Progress, now: float) -> float | None:
    """Seconds that are left now, for it was told a while ago; None where that is not known or nothing is left."""
    if progress.left_s is None or state(progress) not in {"running", "waiting", "elsewhere"}:
        return None
    return round(max(0.0, progress.left_s - max(0.0, now - progress.told)), 1)


def _done_at(progress: Progress, now: float) -> str | None:
    left = _left(progress, now)
    return None if left is None else _utc(now + left)


def _ended(progress: Progress) -> str:
    return "" if progress.ended in {"done", "stopped", "killed"} else progress.ended


def _utc(at: float) -> str:
    return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%dT%H:%M:%SZ}"
