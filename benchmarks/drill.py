# SPDX-License-Identifier: Apache-2.0
"""Kill a run again and again, fill its disk, move its clock, cut its network, and count what was lost.

A run over fake cells is started; its worker, its parent or both are killed (SIGKILL) a random moment after it was seen
to start, load, measure, or go from one worker to the next, each as often as the others; the same command is given again
until it completes, and then the next round begins with an empty folder, until there have been so many kills. What it
did is counted as it was at the kill, not as it was meant. Its results lie on a small file system in memory, where that
may be mounted, which is filled to the last byte now and then; a library that is loaded before the C library tells its
processes another time of day, which moves by up to three days while they run, where a C compiler is here. After every
event each record that was settled must be there byte for byte, every file must read, no cell may have two answers, and
nothing may run on. After every round nothing unfinished may lie about: no part, no lock, no claim, no temporary folder.

    python -m benchmarks.drill [--kills 200] [--cuts 30] [--real 20] [--seed N] [--out results/validation/drill.md]

`--cuts` is for a run that asks a server on loopback: its connections are reset in the middle of an answer, or it is
gone for a while, so many times in all, and it is killed about as often. `--real` kills runs of the default model
(profile smoke, transformers) in the same way.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import psutil

from bench.instruments.machine import describe, revision
from bench.paths import ROOT
from bench.processes import is_unfinished
from bench.records import progress
from bench.records.store import Store
from benchmarks.drill_faults import CutServer, MovedClock

FAKE = (
    "--backend", "fake", "--device", "cpu", "--profile", "smoke", "--suite", "memory,throughput,divergence",
    "--precision", "fp16,int8,int4", "--model", "gpt2*,pythia-70m,pythia-160m,pythia-410m,opt-125m", "--force",
)  # fmt: skip
ASKED = (
    "--backend", "api", "--device", "cpu", "--profile", "smoke", "--suite", "throughput,quality", "--force",
    "--model", "one,two,three,four,five,six",
)  # fmt: skip
REAL = ("--profile", "smoke", "--suite", "memory,throughput,divergence", "--precision", "fp32,int8", "--device", "cpu")
KEY = "BENCH_API_KEY"
WORKER = "bench.run.worker"
CLOCKS, FULL, CUTS = 0.15, 0.08, 0.5
"""Shares of the events before which the clock is moved, and that fill the disk or cut the network instead of a kill."""
DISK_BYTES = 96 << 20
PATIENCE_S = 20.0
"""By then everything that a killed run had started has ended."""
LOOK_S = 0.02
COMPLETES_S = 1200.0
WHOM = ("worker", "parent", "both")
WHEN = ("starting", "loading", "measuring", "between")
"""What a call does: before its first worker, its worker loads, answers a cell, and none of its workers is there."""
AIMS = tuple((who, when) for who in WHOM for when in WHEN if who == "parent" or when in {"loading", "measuring"})
"""Each comes up equally often."""
LATER_S = {"starting": 1.2, "loading": 0.3, "measuring": 0.15, "between": 0.02}
"""Seconds at most from the moment at which a call is seen to do that to its kill."""


@dataclass(frozen=True)
class Plan:
    """One drill: which command, and how often it is hit."""

    title: str
    options: tuple[str, ...]
    wanted: int
    """Kills, or cuts where it asks a server."""
    server: CutServer | None = None
    patience_s: float = 8.0
    """A call is given so long to do what it is to be hit at."""
    slower: float = 1.0
    """How much longer its cells take than fake ones."""

    @property
    def asked(self) -> tuple[str, ...]:
        """Of `bench run`."""
        return self.options if self.server is None else (*self.options, "--api-url", self.server.url)

    @property
    def suites(self) -> list[str]:
        """Those that it measures."""
        return self.options[self.options.index("--suite") + 1].split(",")

    def done(self, found: Found) -> int:
        """How many of those that are wanted there were."""
        return _kills(found) if self.server is None else _cuts(found)


@dataclass
class Found:
    """What a drill has counted."""

    events: Counter[str] = field(default_factory=Counter)
    rounds: int = 0
    starts: int = 0
    cells: int = 0
    """Settled, over all rounds."""
    lost: list[str] = field(default_factory=list)
    torn: list[str] = field(default_factory=list)
    twice: list[str] = field(default_factory=list)
    strays: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    odd: list[str] = field(default_factory=list)
    """Calls that ended otherwise than they may, with the last line they said."""
    clean_full: int = 0
    """Calls that a full disk ended in one line."""
    struck: Counter[tuple[str, str]] = field(default_factory=Counter)
    """Kills by who was killed, and what the call did then."""
    cut_off: int = 0
    """Connections that were cut while somebody was answered."""
    seconds: float = 0.0

    @property
    def faults(self) -> list[str]:
        """Everything that must not have happened."""
        return [*self.lost, *self.torn, *self.twice, *self.strays, *self.left, *self.odd]


class Drill:
    """One command that is killed and given again."""

    def __init__(self, folder: Path, plan: Plan, dice: random.Random, found: Found) -> None:
        self.folder, self.plan, self.dice, self.found = folder, plan, dice, found
        self.clock = MovedClock(folder)
        self.results = folder
        self.seen: dict[Path, str] = {}
        self.aims: list[tuple[str, str]] = []

    def move_clock(self) -> None:
        """Up to three days to and fro, for all that runs and will run."""
        self.clock.move(float(self.dice.choice((0, self.dice.randint(-259_200, 259_200)))))
        self.found.events["clock moved"] += 1

    @contextlib.contextmanager
    def round(self) -> Iterator[None]:
        """An empty folder of results, on a small disk of its own where that may be mounted."""
        self.results = self.folder / f"results-{self.found.rounds}"
        self.results.mkdir()
        self.seen.clear()
        mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "drill", self.results]
        small = sys.platform == "linux" and subprocess.run(mount, check=False, capture_output=True).returncode == 0
        self.small = small
        for name in ("tmp", "cache"):
            (self.folder / name).mkdir(exist_ok=True)
        try:
            yield
        finally:
            if small:
                subprocess.run([shutil.which("umount") or "umount", self.results], check=True)
        self.found.rounds += 1

    def environment(self) -> dict[str, str]:
        """Everything that is written goes into the drill's folder, and its processes are told by it."""
        own = {"TMPDIR": str(self.folder / "tmp"), "BENCH_CACHE": str(self.folder / "cache"), KEY: "drill-key"}
        return {**os.environ, "PYTHONPATH": str(ROOT), **own, **self.clock.environment()}

    def start(self) -> subprocess.Popen[bytes]:
        """Give the command."""
        self.found.starts += 1
        with (self.folder / "said").open("wb") as said:
            return subprocess.Popen(
                [sys.executable, "-m", "bench", "run", *self.plan.asked, "--quiet", "--results", str(self.results)],
                cwd=self.folder, env=self.environment(), stdout=subprocess.DEVNULL, stderr=said, start_new_session=True,
            )  # fmt: skip

    def running(self) -> list[psutil.Process]:
        """What inherited the drill's environment and still runs."""
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error, OSError):
                ours = process.environ().get("TMPDIR") == str(self.folder / "tmp")
                if ours and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
        return found

    def doing(self, process: subprocess.Popen[bytes]) -> tuple[str, list[psutil.Process]]:
        """What a call does, one of WHEN or `ended`, and its workers."""
        workers: list[psutil.Process] = []
        with contextlib.suppress(psutil.Error, OSError):
            workers = [c for c in children(process.pid) if c.status() != psutil.STATUS_ZOMBIE and WORKER in c.cmdline()]
        if process.poll() is not None:
            return "ended", []
        told = next((one for one in progress.running(self.results) if one.owner.pid == process.pid), None)
        if not workers:
            return ("between" if told and told.answered else "starting"), workers
        what = next((one.what for one in told.doing), "") if told else ""
        return ("measuring" if what.rpartition(" ")[2] in self.plan.suites else "loading"), workers

    def hit(self, process: subprocess.Popen[bytes]) -> None:
        """Do something to a call that runs."""
        if self.clock.works and self.dice.random() < CLOCKS:
            self.move_clock()
        if self.plan.server is not None and self.dice.random() < CUTS:
            self.cut(process, self.plan.server)
        elif self.small and self.dice.random() < FULL:
            self.fill(process)
        else:
            self.kill(process)

    def kill(self, process: subprocess.Popen[bytes]) -> None:
        """The worker, the parent, or both, a moment after the call was seen to do what is this one's turn."""
        if not self.aims:
            self.aims = self.dice.sample(AIMS, len(AIMS))
        who, when = self.aims.pop()
        deadline = time.monotonic() + self.plan.patience_s
        while self.doing(process)[0] not in {when, "ended"} and time.monotonic() < deadline:
            time.sleep(LOOK_S)  # only the other process can end this wait
        time.sleep(self.dice.uniform(0.0, LATER_S[when] * self.plan.slower))
        doing, workers = self.doing(process)
        killed = []
        for worker in workers if who != "parent" else []:
            with contextlib.suppress(psutil.Error):
                worker.kill()
                killed.append(worker)
        if who != "worker" and process.poll() is None:
            process.kill()
            process.wait()
        died = process.returncode == -signal.SIGKILL
        struck = "both" if died and killed else "parent" if died else "worker" if killed else None
        if struck is not None:
            self.found.events[f"{struck} killed"] += 1
            self.found.struck[struck, doing] += 1
        if died:
            self.require_nothing_runs()
        else:
            self.note(process)
        self.look()

    def fill(self, process: subprocess.Popen[bytes]) -> None:
        """Take the small disk's last byte until the run has noticed."""
        filler = self.results / ".filler"
        with contextlib.suppress(OSError), filler.open("wb") as file:
            while True:
                file.write(bytes(1 << 20))
        self.found.events["disk filled"] += 1
        try:
            code = process.wait(60)
        except subprocess.TimeoutExpired:
            self.found.odd.append("went on for a minute with a full disk")
            process.kill()
            code = process.wait()
        said = self.said()
        filler.unlink(missing_ok=True)
        if code == 2 and said and "Traceback" not in "\n".join(said) and "free space" in said[-1]:
            self.found.clean_full += 1
        elif code not in {0, 1}:
            self.found.odd.append(f"full disk: exit {code}: {said[-1:]}")
        self.require_nothing_runs()
        self.look()

    def cut(self, process: subprocess.Popen[bytes], server: CutServer) -> None:
        """The network, while an answer is on its way: its connections are reset, or nobody is there for a while."""
        deadline = time.monotonic() + self.plan.patience_s
        while self.doing(process)[0] not in {"measuring", "ended"} and time.monotonic() < deadline:
            time.sleep(LOOK_S)  # only the other process can end this wait
        time.sleep(self.dice.uniform(0.0, 0.5))
        gone = self.dice.random() < 0.5
        self.found.cut_off += server.away(self.dice.uniform(0.1, 2.0)) if gone else server.cut()
        self.found.events["server gone" if gone else "connections cut"] += 1
        self.note(process)
        self.look()

    def note(self, process: subprocess.Popen[bytes]) -> None:
        """A call that ends by itself has settled all, or says that some cell failed."""
        if process.poll() not in {None, 0, 1}:
            self.found.odd.append(f"exit {process.returncode}: {self.said()[-1:]}")

    def said(self) -> list[str]:
        """The lines that the call has said on stderr."""
        return (self.folder / "said").read_text(errors="replace").strip().splitlines()

    def require_nothing_runs(self) -> None:
        """All that a run had started ends with it."""
        deadline = time.monotonic() + PATIENCE_S
        while (running := self.running()) and time.monotonic() < deadline:
            time.sleep(0.05)  # only the other process can end this wait
        for process in running:
            self.found.strays.append(f"process {process.pid}")
            process.kill()

    def look(self) -> None:
        """Every settled record is there as it was, every file reads, and no cell has two settled answers."""
        store, settled = Store(self.results), Counter[str]()
        present: dict[Path, str] = {}
        for record in store.records():
            path = store.path(record)
            if record.outcome.ending.settled:
                settled[record.cell.key] += 1
                present[path] = hashlib.sha256(path.read_bytes()).hexdigest()
        self.found.torn += store.unreadable
        self.found.twice += [f"{key} answered {count} times" for key, count in settled.items() if count > 1]
        self.found.lost += [
            f"{path.name} is gone or changed" for path, sha in self.seen.items() if present.get(path) != sha
        ]
        self.seen = present

    def complete(self, code: int | None) -> int:
        """Give the command until every cell is settled, as its last code may say already; returns how many are."""
        deadline = time.monotonic() + COMPLETES_S
        while code != 0 and time.monotonic() < deadline:
            process = self.start()
            code = process.wait()
            self.look()
            if code not in {0, 1}:
                self.found.odd.append(f"exit {code}: {self.said()[-1:]}")
        if code != 0:
            self.found.odd.append("did not complete")
        self.require_nothing_runs()
        left = [path for path in self.folder.rglob("*") if is_unfinished(path)]
        left += [*(self.folder / "tmp").iterdir(), *(self.folder / "cache" / "locks").glob("*")]
        left += [path for path in self.results.rglob(".*") if path.name not in {".runs", ".gitignore"}]
        left += [path for path in (self.results / ".runs").iterdir() if path.name not in {".gitignore", "last.json"}]
        self.found.left += sorted({str(path.relative_to(self.folder)) for path in left})
        self.found.cells += len(self.seen)
        return len(self.seen)


def children(pid: int) -> list[psutil.Process]:
    """Of a process. Where the kernel lists them it is asked: looking through all processes takes half of a core."""
    listed = [path.read_text(encoding="ascii").split() for path in Path(f"/proc/{pid}/task").glob("*/children")]
    if not listed:
        return psutil.Process(pid).children()
    return [psutil.Process(int(child)) for each in listed for child in each]


def drill(folder: Path, plan: Plan, dice: random.Random) -> Found:
    """So many kills, or cuts, of a command, and whatever else happens between them."""
    found = Found()
    began, made = time.monotonic(), Drill(folder, plan, dice, found)
    while plan.done(found) < plan.wanted:
        with made.round():
            process = made.start()
            while plan.done(found) < plan.wanted and process.poll() != 0:
                if process.poll() is None:
                    made.hit(process)
                else:
                    made.note(process)
                if process.poll() not in {None, 0}:
                    process = made.start()
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
                process.wait()
                made.require_nothing_runs()
            made.complete(process.returncode)
    found.seconds = time.monotonic() - began
    return found


def _kills(found: Found) -> int:
    return sum(count for name, count in found.events.items() if name.endswith("killed"))


def _cuts(found: Found) -> int:
    return found.events["server gone"] + found.events["connections cut"]


def report(plan: Plan, found: Found) -> list[str]:
    """What one drill has found, as Markdown."""
    counts = f"{found.rounds} rounds, {found.starts} calls, {found.cells} cells settled"
    events = [f"{_kills(found)} kills in {found.seconds:.0f} s: {counts}."]
    if full := found.events["disk filled"]:
        rest = "the others met calls that were done by then"
        events.append(f"{found.clean_full} of {full} full disks ended a call in one line; {rest}.")
    if cuts := _cuts(found):
        events.append(f"{cuts} cuts of the network met {found.cut_off} open connections.")
    said = [
        f"## {plan.title}", "", f"`bench run {' '.join(plan.asked)}`", "", *events, "",
        f"| killed | {' | '.join(WHEN)} | together |", f"|---|{'---|' * (len(WHEN) + 1)}",
        *(f"| {who} | {_row(found, who)} |" for who in WHOM), "",
        "| what else was done | times |", "|---|---|",
        *(f"| {name} | {count} |" for name, count in sorted(found.events.items()) if not name.endswith("killed")), "",
        "| what must not happen | times |", "|---|---|",
        f"| settled records lost or changed | {len(found.lost)} |", f"| files torn | {len(found.torn)} |",
        f"| cells answered twice | {len(found.twice)} |", f"| processes left | {len(found.strays)} |",
        f"| parts, locks, claims, temporary folders left | {len(found.left)} |",
        f"| calls that ended otherwise than they may | {len(found.odd)} |", "",
    ]  # fmt: skip
    return said + [f"- {fault}" for fault in found.faults[:40]] + ([""] if found.faults else [])


def _row(found: Found, who: str) -> str:
    counts = [found.struck[who, when] for when in WHEN]
    return " | ".join(map(str, [*counts, sum(counts)]))


def main() -> int:
    """Drill, and write what was found."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--kills", type=int, default=200, help="of runs over fake cells")
    parser.add_argument("--cuts", type=int, default=30, help="of the network between a run and the server it asks")
    parser.add_argument("--real", type=int, default=0, help="kills of runs of the default model")
    parser.add_argument("--seed", type=int, default=18)
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    here = describe("cpu")
    command = f"python -m benchmarks.drill --kills {asked.kills} --cuts {asked.cuts} --real {asked.real}"
    where = f"{datetime.now(UTC):%Y-%m-%d}, {here.device}, commit {revision()}"
    told = f"`{command} --seed {asked.seed}`, {where}. What is done and looked at is said in `benchmarks/drill.py`."
    lines = ["# The kill drill", "", told, ""]
    faults, server = 0, CutServer()
    for plan in (
        Plan("Fake cells", FAKE, asked.kills),
        Plan("Answers over a network that is cut", ASKED, asked.cuts, server=server),
        Plan("The default model", REAL, asked.real, patience_s=60.0, slower=10.0),
    ):
        if not plan.wanted:
            continue
        with tempfile.TemporaryDirectory(prefix="drill-") as folder:
            found = drill(Path(folder).resolve(), plan, random.Random(asked.seed))
        faults += len(found.faults)
        lines += report(plan, found)
        print("\n".join(report(plan, found)), flush=True)
    server.close()
    if asked.out:
        asked.out.write_text("\n".join(lines).rstrip() + "\n", encoding="utf-8")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
