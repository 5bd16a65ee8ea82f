# SPDX-License-Identifier: Apache-2.0
"""A week of a catalogue in minutes: whether the process that waits for workers grows, or leaks what it opens.

The runner, its claims, what it tells and its records are the real ones, over 10,000 cells of the fake engine, whose
clock is virtual. Only the start of a worker is cheaper than it is: a worker is a fork of this process, which has all
its modules, and not a new interpreter. Faults come at the rates of a long unattended run, or a little above: of a
hundred loads one crashes, one is killed, one runs out of memory, one fails, and of a thousand two hang until their
limit. Then the same plan is run again for what is not settled, as the same command would.

    python -m benchmarks.week [--cells 10000] [--seed N] [--out results/validation/week.md]
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import gc
import importlib
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil

from bench.catalog.entries import read_catalog
from bench.instruments import machine
from bench.plan.order import most_decided_first
from bench.plan.plan import Plan, make_plan
from bench.plan.selection import Selection
from bench.records.cell import COMPARED
from bench.records.record import Record
from bench.records.store import Store
from bench.run import launched
from bench.run.options import Observer, RunOptions
from bench.run.runner import Runner, new_run_id
from bench.run.taken import Taken
from bench.run.telling import Heard, Telling

SUITES = ("memory", "throughput", "divergence")
FAULTS = (
    ("crash@prefill", 0.01), ("kill@log_probs", 0.01), ("memory@prefill", 0.01), ("error@log_probs", 0.01),
    ("hang@prefill", 0.002),
)  # fmt: skip
LOADED = (
    "numpy", "bench.scoring.reference", "bench.engines.fake", "suites.memory", "suites.throughput", "suites.divergence",
    "suites.probe", "suites.noise_floor",
)  # fmt: skip
"""What a worker would import: done once, before the first fork."""
LIMIT_S = 8.0
"""What a load or a cell may take here, so that a hang costs seconds."""
WARM = 0.1
"""Share of the cells after which memory is looked at first: by then everything has been used once."""


class Forked:
    """A worker as `subprocess.Popen` would start it, made by a fork."""

    dice: random.Random
    faults: Counter[str]
    stdin = None

    def __init__(self, command: Sequence[str], *, env: Mapping[str, str], stdout: Any, **_: Any) -> None:
        fault = ""
        roll = self.dice.random()
        for name, share in FAULTS:
            if 0 <= roll < share:
                fault = name
                self.faults[name] += 1
            roll -= share
        self.returncode: int | None = None
        self.pid = os.fork()
        if self.pid == 0:
            _work(
                command[command.index("bench.run.worker") + 1], dict(env) | {"BENCH_FAKE_FAULT": fault}, stdout.fileno()
            )

    def poll(self) -> int | None:
        """The exit code if it has ended."""
        if self.returncode is None:
            with contextlib.suppress(ChildProcessError):
                pid, status = os.waitpid(self.pid, os.WNOHANG)
                if pid:
                    self.returncode = os.waitstatus_to_exitcode(status)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Until it ends."""
        while self.poll() is None:
            time.sleep(0.002)  # only the other process can end this wait
        assert self.returncode is not None
        return self.returncode


def _work(request: str, env: dict[str, str], log: int) -> None:
    """Be the worker, and nothing else of what was forked."""
    code = 1
    try:
        os.setsid()
        os.dup2(log, 1)
        os.dup2(log, 2)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        os.environ.clear()
        os.environ.update(env)
        sys.argv = ["worker", request]
        from bench.run import worker

        code = worker.main()
    finally:
        os._exit(code)


class Looks(Observer):
    """Looks at this process after each record."""

    def __init__(self, cells: int) -> None:
        self.cells, self.done, self.seen = cells, 0, list[tuple[int, int, int]]()
        self.me = psutil.Process()

    def record(self, record: Record) -> None:
        """A record is on disk."""
        self.done += 1
        if self.done % max(1, self.cells // 50) == 0:
            gc.collect()
            self.seen.append((self.done, self.me.memory_info().rss, self.me.num_fds()))


def planned(cells: int) -> tuple[Plan, float]:
    """So many cells, and the seconds that planning them took."""
    here, entries = machine.describe("cpu"), read_catalog()
    asked = Selection(
        models=("*",), precisions=COMPARED, backends=("fake",), suites=SUITES, profile="smoke", device="cpu"
    )
    wanted = -(-cells // (len(SUITES) * len(COMPARED)))
    usable = [e for e in entries if make_plan(replace(asked, models=(e.name,)), entries, here).cells]
    again = [usable[index % len(usable)] for index in range(wanted)]
    models = [entry.model_copy(update={"name": f"{entry.name}-{index}"}) for index, entry in enumerate(again)]
    began = time.perf_counter()
    made = most_decided_first(make_plan(asked, models, here))
    return replace(made, cells=made.cells[:cells]), time.perf_counter() - began


def main() -> int:
    """Simulate, and write what was seen."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--cells", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=18)
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="week-") as folder:
        os.environ["BENCH_CACHE"] = str(Path(folder) / "cache")
        text, good = simulate(Path(folder) / "results", asked.cells, random.Random(asked.seed), asked.seed)
    print(text)
    if asked.out:
        asked.out.write_text(text, encoding="utf-8")
    return 0 if good else 1


def simulate(results: Path, cells: int, dice: random.Random, seed: int) -> tuple[str, bool]:
    """What was seen, as Markdown, and whether it kept to what was to be reached."""
    for name in LOADED:
        importlib.import_module(name)
    from bench.run import worker

    machine.revision()  # what does not change is looked up once here, not by every fork
    looked_up = functools.cache(machine.installed)
    machine.installed = worker.installed = lambda packages: looked_up(tuple(packages))  # type: ignore[assignment]
    plan, planning_s = planned(cells)
    Forked.dice, Forked.faults = dice, Counter()
    kept = {name: getattr(subprocess, name) for name in ("PIPE", "DEVNULL", "STDOUT")}
    launched.subprocess = SimpleNamespace(Popen=Forked, **kept)  # type: ignore[assignment] # of that module alone
    gc.collect()
    gc.freeze()  # else every fork looks through what was imported
    store, here, looks = Store(results), machine.describe("cpu"), Looks(len(plan.cells))
    began, endings, calls, left = time.perf_counter(), Counter[str](), 0, plan
    while left.cells and calls < 20:
        taken, telling = Taken(store, store.ids()), Telling(root=store.root, run=new_run_id(), plan=left)
        runner = Runner(
            run=telling.run, store=store, described=here, before=machine.condition("cpu"), taken=taken,
            observer=Heard(looks, telling, "cpu"), options=RunOptions(timeout_s=LIMIT_S),
        )  # fmt: skip
        records = runner.run(left)
        taken.close()
        telling.close("done")
        calls += 1
        endings.update(str(record.outcome.ending) for record in records)
        settled = {record.cell.key for record in records if record.outcome.ending.settled}
        left = replace(left, cells=tuple(one for one in left.cells if one.cell.key not in settled))
    seconds = time.perf_counter() - began
    first = next(look for look in looks.seen if look[0] >= WARM * len(plan.cells))
    most = max(rss for done, rss, _ in looks.seen if done >= first[0])
    files = [fds for done, _, fds in looks.seen if done >= first[0]]
    virtual = sum(one.predicted.seconds or 0.0 for one in plan.cells)
    growth = most / first[1] - 1
    good = growth <= 0.10 and max(files) <= files[0] and not left.cells
    lines = [
        "# A week, simulated", "",
        f"`python -m benchmarks.week --cells {cells} --seed {seed}`, {datetime.now(UTC):%Y-%m-%d}, {here.device},",
        f"commit {machine.revision()}. What is real and what is not is said in `benchmarks/week.py`.", "",
        "| what | seen | to be reached |", "|---|---|---|",
        f"| cells | {len(plan.cells)}, {len(left.cells)} of them left open | 10,000, none |",
        f"| planning them | {planning_s:.2f} s | 2 s |",
        f"| resident memory of the parent, after {first[0]} cells | {first[1] / 2**20:.1f} MiB | |",
        f"| the most after that | {most / 2**20:.1f} MiB ({growth:+.1%}) | within 10 % |",
        f"| open descriptors, then and at most | {files[0]} and {max(files)} | no more |",
        f"| endings | {', '.join(f'{name} {count}' for name, count in sorted(endings.items()))} | |",
        f"| faults asked for | {', '.join(f'{name} {count}' for name, count in sorted(Forked.faults.items()))} | |",
        f"| calls until all was settled | {calls} | |",
        f"| time | {seconds:.0f} s for cells that are predicted to take {virtual / 3600:.1f} h | |",
    ]  # fmt: skip
    return "\n".join(lines) + "\n", good


if __name__ == "__main__":
    sys.exit(main())
