# SPDX-License-Identifier: Apache-2.0
"""The kill drill: however a run ends, nothing computes on, nothing settled is lost, and the next run clears the rest.

Real processes on the fake, stopped where it hangs. What runs is told by the environment that all of a drill's processes
inherit; what lies about, by the drill's own cache, results and temporary folder.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from builders import can_make_group, dead_process
from drilled import PATIENCE_S, STOPPED, SUITES, Drill, linux

from bench.paths import ROOT
from bench.processes import place
from bench.records.store import Store
from bench.run.memory_limit import own_group
from bench.run.sweep import sweep


@pytest.fixture
def drill(tmp_path: Path) -> Iterator[Drill]:
    """An empty one; nothing of it outlives its test."""
    made = Drill(tmp_path)
    yield made
    for process in made.running():
        process.kill()


ALL = {f"fake-{scheme} {suite}" for scheme in ("fp16", "int8") for suite in SUITES}
ASKED = [("SIGINT", "hang@load:fake-int8", 3), ("SIGTERM", "hang@prefill", 0), ("SIGTERM", "hang@log_probs", 2)]


@linux
@pytest.mark.parametrize(("name", "fault", "records"), ASKED)
def test_a_request_to_end_leaves_nothing_and_keeps_what_is_settled(
    drill: Drill, name: str, fault: str, records: int
) -> None:
    """Ctrl-C while nothing is measured, and TERM: one line, 130, no process, no file; the same call does the rest."""
    process = drill.start(fault)
    drill.until(drill.writing if "log_probs" in fault else lambda: drill.hanging(records))
    kept = drill.settled()
    assert len(kept) == records
    process.send_signal(getattr(signal, name))
    _, errors = process.communicate(timeout=PATIENCE_S)
    assert (process.returncode, errors.strip().splitlines()[-1]) == (130, STOPPED)
    assert "Traceback" not in errors
    assert (drill.running(), drill.left()) == ([], [])
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
def test_a_terminal_that_is_closed_changes_nothing(drill: Drill) -> None:
    """A real one: the kernel sends HUP, and what is written to it afterwards fails; the run ends as any other."""
    opener = "import pty, sys; pty.spawn(sys.argv[1:])"
    gate = drill.folder / "gate"
    os.mkfifo(gate)
    terminal = drill.start(f"wait:{gate}@log_probs:fake-fp16#1", before=(sys.executable, "-c", opener))
    drill.until(drill.writing)
    terminal.kill()
    terminal.wait()
    with gate.open("w"):  # the cell that waited goes on
        pass
    drill.until(lambda: drill.running() == [])
    assert set(drill.settled()) == ALL
    assert drill.left() == []
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
    """Under a memory limit: Ctrl-C twice removes it at once; of a killed run, the next one does, limited or not."""
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
        if sign == signal.SIGINT:
            drill.until(lambda: drill.last() != [])
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
