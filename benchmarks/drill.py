# SPDX-License-Identifier: Apache-2.0
"""Kill a run again and again at random moments, fill its disk and move its clock, and count what was lost.

A run over fake cells is started, its worker, its parent or both are killed (SIGKILL) after a random moment, and the
same command is given again until it completes; then the next round begins with an empty folder, until there have been
so many kills. Its results lie on a small file system in memory, where that may be mounted, which is filled to the last
byte now and then; a library that is loaded before the C library tells its processes another time of day, which moves by
up to three days while they run, where a C compiler is here. After every event each record that was settled must be
there byte for byte, every file must read, no cell may have two answers, and nothing may run on. After every round
nothing unfinished may lie about: no part, no lock, no claim, no temporary folder.

    python -m benchmarks.drill [--kills 200] [--real 20] [--seed N] [--out results/validation/drill.md]

`--real` kills runs of the default model (profile smoke, transformers) in the same way.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import mmap
import os
import random
import shutil
import signal
import struct
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
from bench.records.store import Store

FAKE = (
    "--backend", "fake", "--device", "cpu", "--profile", "smoke", "--suite", "memory,throughput,divergence",
    "--precision", "fp16,int8,int4", "--model", "gpt2*,pythia-70m,pythia-160m,pythia-410m,opt-125m", "--force",
)  # fmt: skip
REAL = ("--profile", "smoke", "--suite", "memory,throughput,divergence", "--precision", "fp16,int4", "--device", "cpu")
DISK_BYTES = 96 << 20
PATIENCE_S = 20.0
"""By then everything that a killed run had started has ended."""
WORKER_S = 8.0
"""A call that is to lose its worker is given so long to have one."""
COMPLETES_S = 1200.0
CLOCK = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>
static volatile double *ahead;
static int (*real)(clockid_t, struct timespec *);
static void begin(void) {
  if (real) return;
  const char *path = getenv("DRILL_CLOCK");
  int file = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
  if (file >= 0) { ahead = mmap(0, 8, PROT_READ, MAP_SHARED, file, 0); close(file); }
  real = dlsym(RTLD_NEXT, "clock_gettime");
}
int clock_gettime(clockid_t id, struct timespec *now) {
  begin();
  int code = real(id, now);
  if (code == 0 && id == CLOCK_REALTIME && ahead) now->tv_sec += (time_t)*ahead;
  return code;
}
int gettimeofday(struct timeval *restrict now, void *restrict zone) {
  struct timespec told;
  int code = clock_gettime(CLOCK_REALTIME, &told);
  (void)zone;
  now->tv_sec = told.tv_sec; now->tv_usec = told.tv_nsec / 1000;
  return code;
}
time_t time(time_t *now) {
  struct timespec told;
  clock_gettime(CLOCK_REALTIME, &told);
  if (now) *now = told.tv_sec;
  return told.tv_sec;
}
"""


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
    seconds: float = 0.0

    @property
    def faults(self) -> list[str]:
        """Everything that must not have happened."""
        return [*self.lost, *self.torn, *self.twice, *self.strays, *self.left, *self.odd]


class Drill:
    """One command that is killed and given again."""

    def __init__(
        self, folder: Path, asked: tuple[str, ...], dice: random.Random, found: Found, cache: Path | None
    ) -> None:
        self.folder, self.asked, self.dice, self.found = folder, asked, dice, found
        self.own_cache = cache
        self.clock = self._clock()
        self.results = folder
        self.seen: dict[Path, str] = {}

    def _clock(self) -> Path | None:
        """The library that tells another time, and the file that says by how much; None without a compiler."""
        source, library = self.folder / "clock.c", self.folder / "clock.so"
        compiler = next(filter(None, map(shutil.which, ("cc", "gcc", "clang"))), None)
        if compiler is None or sys.platform != "linux":
            return None
        source.write_text(CLOCK)
        done = subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", library, source, "-ldl"], check=False)
        (self.folder / "ahead").write_bytes(struct.pack("d", 0.0))
        return library if done.returncode == 0 else None

    def move_clock(self) -> None:
        """Up to three days to and fro, for all that runs and will run."""
        with (self.folder / "ahead").open("r+b") as file, mmap.mmap(file.fileno(), 8) as held:
            held[:8] = struct.pack("d", float(self.dice.choice((0, self.dice.randint(-259_200, 259_200)))))
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
        own = {"TMPDIR": str(self.folder / "tmp"), "BENCH_CACHE": str(self.own_cache or self.folder / "cache")}
        if self.clock is not None:
            own |= {"LD_PRELOAD": str(self.clock), "DRILL_CLOCK": str(self.folder / "ahead")}
        return {**os.environ, "PYTHONPATH": str(ROOT), **own}

    def start(self) -> subprocess.Popen[bytes]:
        """Give the command."""
        self.found.starts += 1
        with (self.folder / "said").open("wb") as said:
            return subprocess.Popen(
                [sys.executable, "-m", "bench", "run", *self.asked, "--quiet", "--results", str(self.results)],
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

    def workers(self, process: subprocess.Popen[bytes]) -> list[psutil.Process]:
        """The workers of a call, once it has one; none where it has none for a while."""
        deadline = time.monotonic() + WORKER_S
        while process.poll() is None and time.monotonic() < deadline:
            with contextlib.suppress(psutil.Error):
                if found := psutil.Process(process.pid).children():
                    time.sleep(self.dice.uniform(0.0, 1.0))  # not always as it begins
                    return found
            time.sleep(0.02)  # only the other process can end this wait
        return []

    def kill(self, process: subprocess.Popen[bytes]) -> None:
        """The worker, the parent, or both, whatever they do just now."""
        kind = self.dice.choice(("worker", "parent", "both"))
        workers = self.workers(process) if kind != "parent" else []
        if kind == "worker" and not workers:
            kind = "parent"
        with contextlib.suppress(psutil.Error, ProcessLookupError):
            if kind != "parent":
                for worker in workers:
                    worker.kill()
            if kind != "worker":
                os.kill(process.pid, signal.SIGKILL)
        self.found.events[f"{kind} killed"] += 1
        if kind != "worker":
            process.wait()
            self.require_nothing_runs()
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

    def complete(self) -> int:
        """Give the command until every cell is settled; returns how many are."""
        deadline = time.monotonic() + COMPLETES_S
        while time.monotonic() < deadline:
            process = self.start()
            code = process.wait()
            self.look()
            if code == 0:
                break
            if code != 1:
                self.found.odd.append(f"exit {code}: {self.said()[-1:]}")
        else:
            self.found.odd.append("did not complete")
        self.require_nothing_runs()
        left = [path for path in self.folder.rglob("*") if is_unfinished(path)]
        left += [*(self.folder / "tmp").iterdir(), *(self.folder / "cache" / "locks").glob("*")]
        left += [path for path in self.results.rglob(".*") if path.name not in {".runs", ".gitignore"}]
        left += [path for path in (self.results / ".runs").iterdir() if path.name not in {".gitignore", "last.json"}]
        self.found.left += sorted({str(path.relative_to(self.folder)) for path in left})
        self.found.cells += len(self.seen)
        return len(self.seen)


def drill(
    folder: Path, asked: tuple[str, ...], kills: int, dice: random.Random, longest_s: float, cache: Path | None
) -> Found:
    """So many kills of a command, and whatever else happens between them."""
    found = Found()
    began, made = time.monotonic(), Drill(folder, asked, dice, found, cache)
    while _kills(found) < kills:
        with made.round():
            process = made.start()
            while _kills(found) < kills:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(dice.uniform(0.2, longest_s))
                    if process.returncode == 0:
                        break
                    if process.returncode != 1:
                        found.odd.append(f"exit {process.returncode}: {made.said()[-1:]}")
                    process = made.start()
                    continue
                if made.clock and dice.random() < 0.15:
                    made.move_clock()
                if made.small and dice.random() < 0.08:
                    made.fill(process)
                else:
                    made.kill(process)
                if process.poll() is not None:
                    process = made.start()
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
                process.wait()
                made.require_nothing_runs()
            made.complete()
    found.seconds = time.monotonic() - began
    return found


def _kills(found: Found) -> int:
    return sum(count for name, count in found.events.items() if name.endswith("killed"))


def report(title: str, command: tuple[str, ...], found: Found) -> list[str]:
    """What one drill has found, as Markdown."""
    counts = f"{found.rounds} rounds, {found.starts} calls, {found.cells} cells settled"
    full = f"{found.clean_full} of {found.events['disk filled']} full disks ended a call in one line"
    rest = "the others met calls that were done by then"
    said = [
        f"## {title}", "", f"`bench run {' '.join(command)}`", "",
        f"{_kills(found)} kills in {found.seconds:.0f} s: {counts}. {full}; {rest}.", "",
        "| what was done | times |", "|---|---|",
        *(f"| {name} | {count} |" for name, count in sorted(found.events.items())), "",
        "| what must not happen | times |", "|---|---|",
        f"| settled records lost or changed | {len(found.lost)} |", f"| files torn | {len(found.torn)} |",
        f"| cells answered twice | {len(found.twice)} |", f"| processes left | {len(found.strays)} |",
        f"| parts, locks, claims, temporary folders left | {len(found.left)} |",
        f"| calls that ended otherwise than they may | {len(found.odd)} |", "",
    ]  # fmt: skip
    return said + [f"- {fault}" for fault in found.faults[:40]] + ([""] if found.faults else [])


def main() -> int:
    """Drill, and write what was found."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--real", type=int, default=0)
    parser.add_argument("--real-cache", type=Path, help="A cache with the default model's weights made ready.")
    parser.add_argument("--longest", type=float, default=1.8, help="Seconds until the next kill at most.")
    parser.add_argument("--seed", type=int, default=18)
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    here = describe("cpu")
    command = f"python -m benchmarks.drill --kills {asked.kills} --real {asked.real}"
    command += f" --longest {asked.longest:g} --seed {asked.seed}"
    where = f"{datetime.now(UTC):%Y-%m-%d}, {here.device}, commit {revision()}"
    told = f"`{command}`, {where}. What is done and looked at is said in `benchmarks/drill.py`."
    lines = ["# The kill drill", "", told, ""]
    faults = 0
    plans = (
        ("Fake cells", FAKE, asked.kills, asked.longest, None),
        ("The default model", REAL, asked.real, 14.0, asked.real_cache),
    )
    for title, command, kills, longest_s, cache in plans:
        if not kills:
            continue
        with tempfile.TemporaryDirectory(prefix="drill-") as folder:
            found = drill(Path(folder).resolve(), command, kills, random.Random(asked.seed), longest_s, cache)
        faults += len(found.faults)
        lines += report(title, command, found)
        print("\n".join(report(title, command, found)), flush=True)
    if asked.out:
        asked.out.write_text("\n".join(lines).rstrip() + "\n", encoding="utf-8")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
