# SPDX-License-Identifier: Apache-2.0
"""Runs on the fake that tests stop, kill and close: what runs of them, and what lies about.

What runs is told by the environment that all of a drill's processes inherit; what lies about, by the drill's own cache,
results and temporary folder.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from bench.paths import ROOT
from bench.processes import is_unfinished
from bench.records.store import Store

PATIENCE_S = 60
"""Longest wait for another process; reached only when something is wrong."""
SUITES = ("memory", "throughput", "divergence")
STOPPED = "stopped; every finished record is kept, and the same command goes on from here"
linux = pytest.mark.skipif(sys.platform != "linux", reason="sees other processes' environment")


class Drill:
    """Calls of `bench run` on the fake, and what they leave."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.results = folder, folder / "results"
        (folder / "tmp").mkdir()

    def command(self, *options: str) -> list[str]:
        """Two schemes, three suites, the reference first."""
        return [
            sys.executable, "-m", "bench", "run", "--backend", "fake", "--device", "cpu", "--profile", "smoke",
            "--suite", ",".join(SUITES), "--precision", "fp16,int8", "--results", str(self.results), *options,
        ]  # fmt: skip

    def environment(self, fault: str) -> dict[str, str]:
        """Everything that is written goes into the drill's folder."""
        own = {"BENCH_CACHE": str(self.folder / "cache"), "TMPDIR": str(self.folder / "tmp"), "BENCH_FAKE_FAULT": fault}
        return {**os.environ, "PYTHONPATH": str(ROOT), **own}

    def start(self, fault: str, *options: str, before: tuple[str, ...] = ()) -> subprocess.Popen[str]:
        """Start it; it hears Ctrl-C even where these tests run in the background."""
        ours = signal.signal(signal.SIGINT, signal.SIG_DFL)
        try:
            return subprocess.Popen(
                [*before, *self.command(*options)], cwd=ROOT, env=self.environment(fault), text=True,
                stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
            )  # fmt: skip
        finally:
            signal.signal(signal.SIGINT, ours)

    def finish(self, *options: str) -> None:
        """The same call without a fault."""
        subprocess.run(
            self.command(*options), cwd=ROOT, env=self.environment(""), check=True, capture_output=True, text=True
        )

    def settled(self) -> dict[str, str]:
        """Record id by scheme and suite; every file reads, and no cell has two."""
        store = Store(self.results)
        records = list(store.records())
        found = {f"{record.cell.scheme} {record.cell.suite}": record.id for record in records}
        assert store.unreadable == []
        assert len(found) == len(records)
        assert all(record.outcome.ending.settled for record in records)
        return found

    def running(self) -> list[psutil.Process]:
        """Every process that inherited the drill's environment and still runs."""
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error, OSError):
                ours = process.environ().get("TMPDIR") == str(self.folder / "tmp")
                if ours and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
        return found

    def left(self) -> list[str]:
        """What is unfinished, temporary or hidden, but for the note of the run that goes on."""
        found = [path for path in self.folder.rglob("*") if is_unfinished(path)]
        found += [*(self.folder / "tmp").iterdir(), *(self.folder / "cache" / "locks").glob("*")]
        found += [path for path in self.results.rglob(".*") if path.name not in {".runs", ".gitignore"}]
        return sorted({str(path.relative_to(self.folder)) for path in found})

    def last(self) -> list[Path]:
        """The notes that tell workers to end after the cell that they answer."""
        return list((self.folder / "tmp").glob("bench-*/last"))

    def until(self, condition: Callable[[], bool]) -> None:
        """Wait for another process, looking often, and not for ever."""
        deadline = time.monotonic() + PATIENCE_S
        while not condition():
            assert time.monotonic() < deadline, "waited in vain"
            time.sleep(0.02)  # only another process can end this wait

    def hanging(self, records: int) -> bool:
        """Whether so many cells are settled and a worker that has been told the rest runs."""
        request = list((self.folder / "tmp").glob("bench-*/request.json"))
        return len(self.settled()) == records and bool(request) and len(self.running()) > 1

    def writing(self) -> bool:
        """Whether the reference's unfinished folder lies there: just before the call that hangs."""
        return any((self.folder / "cache" / "reference").glob("*.part-*"))
