# SPDX-License-Identifier: Apache-2.0
"""The kill drill: however a run ends, nothing computes on, nothing settled is lost, and the next run clears the rest.

Real processes on the fake, stopped where it hangs. What runs is told by the environment that all of a drill's processes
inherit; what lies about, by the drill's own cache, results and temporary folder.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from builders import can_make_group, dead_process

from bench.paths import ROOT
from bench.processes import is_unfinished, place
from bench.records.store import Store
from bench.run.memory_limit import own_group
from bench.run.sweep import sweep

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


@pytest.fixture
def drill(tmp_path: Path) -> Iterator[Drill]:
    """An empty one; nothing of it outlives its test."""
    made = Drill(tmp_path)
    yield made
    for process in made.running():
        process.kill()


ALL = {f"fake-{scheme} {suite}" for scheme in ("fp16", "int8") for suite in SUITES}
ASKED = [("SIGINT", "hang@load:fake-int8", 3), ("SIGTERM", "hang@prefill", 0), ("SIGHUP", "hang@log_probs", 2)]


@linux
@pytest.mark.parametrize(("name", "fault", "records"), ASKED)
def test_a_request_to_end_leaves_nothing_and_keeps_what_is_settled(
    drill: Drill, name: str, fault: str, records: int
) -> None:
    """Ctrl-C, TERM and a closed terminal: one line, 130, no process, no file; the same call measures the rest."""
    process = drill.start(fault)
    drill.until(drill.writing if "log_probs" in fault else lambda: drill.hanging(records))
    kept = drill.settled()
    assert len(kept) == records
    process.send_signal(getattr(signal, name))
    _, errors = process.communicate(timeout=PATIENCE_S)
    assert (process.returncode, errors.strip().splitlines()[-1]) == (130, STOPPED)
    assert "Traceback" not in errors
    assert drill.running() == []
    assert drill.left() == []
    assert drill.settled() == kept
    drill.finish()
    assert set(drill.settled()) == ALL
    assert drill.settled().items() >= kept.items()


@linux
def test_a_run_that_is_killed_takes_its_worker_along_and_the_next_one_clears_up(drill: Drill) -> None:
    """SIGKILL three times, at three points: a reference half written, a load, a cell; each settled record once."""
    kept: dict[str, str] = {}
    for fault, records in (("hang@log_probs", 2), ("hang@load:fake-int8", 3), ("hang@prefill:fake-int8", 3)):
        process = drill.start(fault)
        drill.until(drill.writing if "log_probs" in fault else lambda count=records: drill.hanging(count))
        if fault == "hang@load:fake-int8":  # by now the next run has begun
            assert not drill.writing()
        process.kill()
        process.communicate(timeout=PATIENCE_S)
        drill.until(lambda: drill.running() == [])
        assert drill.settled().items() >= kept.items()
        kept = drill.settled()
        assert len(kept) == records
        assert [name.startswith("tmp/bench-") for name in drill.left() if name.startswith("tmp")] == [True]
    drill.finish()
    assert drill.left() == []
    assert set(drill.settled()) == ALL
    assert drill.settled().items() >= kept.items()


@linux
def test_a_worker_that_is_killed_costs_its_cell(drill: Drill) -> None:
    """The run goes on with the others and leaves nothing of it; the same call measures that cell."""
    process = drill.start("kill@log_probs:fake-int8")
    _, errors = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 1, errors
    assert drill.left() == []
    assert drill.running() == []
    endings = {r.cell.suite: r.outcome.ending.value for r in Store(drill.results).records() if r.cell.scheme[-1] == "8"}
    assert endings == {"memory": "ok", "throughput": "ok", "divergence": "killed"}


@linux
def test_a_terminal_that_is_closed_ends_a_run(drill: Drill) -> None:
    """A real one: the kernel sends HUP, and whatever is written to it afterwards fails."""
    opener = "import pty, sys; pty.spawn(sys.argv[1:])"
    terminal = drill.start("hang@log_probs", before=(sys.executable, "-c", opener))
    drill.until(drill.writing)
    kept = drill.settled()
    terminal.kill()
    drill.until(lambda: drill.running() == [])
    assert drill.left() == []
    assert drill.settled() == kept
    assert len(kept) == 2
    terminal.communicate()


@linux
def test_what_was_told_to_ignore_a_closed_terminal_goes_on(drill: Drill) -> None:
    """As `nohup` has it."""
    process = drill.start("hang@prefill", before=("nohup",))
    drill.until(lambda: drill.hanging(0))
    process.send_signal(signal.SIGHUP)
    process.send_signal(signal.SIGHUP)
    assert process.poll() is None
    assert len(drill.running()) > 1
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 130


@linux
def test_a_control_group_goes_with_its_run_or_with_the_next(drill: Drill) -> None:
    """Under a memory limit: Ctrl-C removes it at once; of a killed run, the next one does, limited or not."""
    if not can_make_group():
        pytest.skip("no cgroup may be made here")
    own = own_group(1) or own_group(2)
    assert own is not None

    def groups(number: int) -> list[Path]:
        return list(own.glob(f"bench-{place()}-{number}-*"))

    for sign in (signal.SIGINT, signal.SIGKILL):
        process = drill.start("hang@log_probs", "--memory-limit", "2G")
        drill.until(drill.writing)
        assert len(groups(process.pid)) == 1
        process.send_signal(sign)
        process.communicate(timeout=PATIENCE_S)
        drill.until(lambda: drill.running() == [])
        assert len(groups(process.pid)) == (sign == signal.SIGKILL)
        if sign == signal.SIGINT:
            assert drill.left() == []
    drill.finish()
    assert groups(process.pid) == []
    assert drill.left() == []


CONVERTING = """
import sys
from pathlib import Path
from bench.engines.weights.files import made_once
made_once(Path(sys.argv[1]), "dequantize", [sys.argv[2]])
"""


@linux
def test_a_converter_ends_with_its_worker_and_its_half_folder_goes_with_the_next_run(drill: Drill) -> None:
    """A real converter that waits for its input, here a pipe into which nobody writes."""
    pytest.importorskip("gguf")
    source, made = drill.folder / "pipe", drill.folder / "cache" / "weights" / "made"
    os.mkfifo(source)
    worker = subprocess.Popen(
        [sys.executable, "-c", CONVERTING, str(made), str(source)], cwd=ROOT, env=drill.environment("")
    )
    drill.until(lambda: len(drill.running()) == 2 and any(made.parent.glob("made.part-*")))
    worker.kill()
    worker.wait()
    drill.until(lambda: drill.running() == [])
    assert len(drill.left()) == 1
    drill.finish()
    assert drill.left() == []
    assert not made.exists()


def test_what_others_write_is_left_to_them(drill: Drill, monkeypatch: pytest.MonkeyPatch) -> None:
    """Half-written things of the dead go from cache, results and temporary folder; those of the living stay."""
    monkeypatch.setenv("BENCH_CACHE", str(drill.folder / "cache"))
    monkeypatch.setattr("tempfile.tempdir", str(drill.folder / "tmp"))
    dead, living = f"{place()}-{dead_process()}", f"{place()}-{os.getppid()}"
    names = [
        "cache/weights/merged.part-{}", "cache/gguf/x.gguf.part-{}", "cache/reference/r.part-{}",
        "cache/journal/key/hash.json.part-{}", "cache/texts/wikitext2.txt.part-{}", "tmp/bench-{}-abc",
        "results/cpu/m/fake-s/memory/.record.json.part-{}", "results/.write.part-{}", "results/.runs/key.json.part-{}",
        "results/cpu/runs/.run.json.part-{}",
    ]  # fmt: skip
    for name in names:
        for owner in (dead, living):
            path = drill.folder / name.format(owner)
            path.mkdir(parents=True)
            (path / "file").touch()
    sweep(Store(drill.results))
    assert drill.left() == sorted(name.format(living) for name in names)
