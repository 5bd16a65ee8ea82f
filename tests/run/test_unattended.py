# SPDX-License-Identifier: Apache-2.0
"""What a run does by itself while nobody looks: memory that ends, disks that fill, and requests to end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from builders import called
from drilled import PATIENCE_S, STOPPED, Drill, linux

from bench.engines.contract import DoesNotFit, Stopped
from bench.errors import UserError
from bench.instruments import container
from bench.records.record import Ending, Outcome, Record
from bench.records.store import Store
from bench.run import room
from bench.run.ending import ending, poisons
from bench.run.stopping import Stop, outlive_the_terminal
from bench.run.waiting import Waiting


@pytest.fixture
def drill(tmp_path: Path) -> Iterator[Drill]:
    """An empty one; nothing of it outlives its test."""
    made = Drill(tmp_path)
    yield made
    for process in made.running():
        process.kill()


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Any]:
    """`bench run` on the fake in this process, misbehaving as told: exit code, stdout and stderr."""
    monkeypatch.setenv("BENCH_CACHE", str(tmp_path / "cache"))

    def call(*options: str, suite: str = "memory", fault: str = "") -> tuple[Any, str, str]:
        monkeypatch.setenv("BENCH_FAKE_FAULT", fault)
        asked = ["--profile", "smoke", "--suite", suite, "--precision", "fp16", "--device", "cpu"]
        return called(capsys, "run", "--backend", "fake", *asked, "--results", tmp_path / "results", *options)

    return call


def records(tmp_path: Path) -> dict[str, Record]:
    """By suite."""
    return {record.cell.suite: record for record in Store(tmp_path / "results").records()}


# Memory.


def test_a_suite_that_ran_out_of_memory_is_measured_once_more_with_smaller_batches(
    run: Callable[..., Any], tmp_path: Path
) -> None:
    """What the engine may batch as it likes; the record says that it was the second try, and why."""
    pytest.importorskip("lm_eval")
    assert run(suite="memory,quality", fault="crowd@score")[0] == 0
    found = records(tmp_path)
    assert {suite: record.outcome.ending for suite, record in found.items()} == dict.fromkeys(
        ("memory", "quality"), Ending.OK
    )
    (said,) = [caveat.text for caveat in found["quality"].warnings if caveat.kind == "smaller_batches"]
    assert said == "measured again with smaller batches, for with usual ones it ended so: out of memory in score"
    assert not [caveat for caveat in found["memory"].warnings if caveat.kind == "smaller_batches"]


def test_a_second_try_that_runs_out_too_is_the_answer(run: Callable[..., Any], tmp_path: Path) -> None:
    """Once is enough."""
    pytest.importorskip("lm_eval")
    assert run(suite="quality", fault="memory@score")[0] == 0
    (record,) = records(tmp_path).values()
    assert record.outcome.ending is Ending.DOES_NOT_FIT
    assert [caveat.kind for caveat in record.warnings].count("smaller_batches") == 1


def test_a_suite_whose_batch_is_the_question_is_not_tried_again(run: Callable[..., Any], tmp_path: Path) -> None:
    """A prompt of so many tokens does not fit, whatever else is done."""
    assert run(fault="memory@prefill")[0] == 0
    (record,) = records(tmp_path).values()
    assert record.outcome.ending is Ending.DOES_NOT_FIT
    assert not [caveat for caveat in record.warnings if caveat.kind == "smaller_batches"]


@pytest.mark.parametrize(
    "said",
    ["CUDA error: out of memory", "CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate", "CUDNN_STATUS_ALLOC_FAILED"],
)
def test_a_full_gpu_is_no_crash_whoever_says_so(said: str) -> None:
    """The driver and its libraries raise what every fault of theirs raises."""
    found = ending(RuntimeError(said), "quality")
    assert (found.ending, found.reason) == (Ending.DOES_NOT_FIT, "out of memory in quality, on the GPU")


def test_after_a_broken_gpu_the_next_cell_gets_a_new_process() -> None:
    """The driver refuses this one whatever it asks; other faults are their cell's own."""
    broken = ending(RuntimeError("CUDA error: an illegal memory access was encountered"), "throughput")
    assert broken.ending is Ending.FAILED
    assert poisons(broken)
    assert not poisons(ending(RuntimeError("a shape mismatch"), "throughput"))
    assert not poisons(Outcome(ending=Ending.OK))


@pytest.mark.parametrize(("before", "found"), [(2, Ending.DOES_NOT_FIT), (3, Ending.FAILED), (None, Ending.FAILED)])
def test_a_converter_that_the_kernel_killed_ran_out_of_memory(
    monkeypatch: pytest.MonkeyPatch, before: int | None, found: Ending
) -> None:
    """Told by the kernel's count; the same signal without one is a fault."""
    monkeypatch.setattr(container, "oom_kills", lambda: 3)
    killed = subprocess.CalledProcessError(-signal.SIGKILL, ["dequantize"])
    assert ending(killed, "load", before).ending is found
    if found is Ending.DOES_NOT_FIT:
        assert ending(killed, "load", before).reason == "out of memory in load: the kernel killed what it had started"


def test_what_a_server_says_is_no_news_of_this_machine_s_memory() -> None:
    """Its words may be any."""
    assert ending(Stopped("Cannot allocate memory")).ending is Ending.STOPPED
    assert ending(DoesNotFit("load")).ending is Ending.DOES_NOT_FIT


# Disks.


def test_a_disk_with_hardly_anything_left_ends_a_run_in_one_line(
    run: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before anything is loaded; nothing is written that could be torn, and the same call goes on later."""
    monkeypatch.setattr(room, "free_bytes", lambda folder: 12 * 1024**2)
    code, _, said = run()
    assert code == 2
    assert said.splitlines()[-1] == (
        f"bench: the disk of results ({tmp_path / 'results'}) has 12.0 MiB left, and 64.0 MiB must be; free space; "
        "every finished record is kept, and the same command goes on from here"
    )
    assert records(tmp_path) == {}


def test_room_is_asked_of_the_disk_that_a_folder_will_lie_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder that is not there yet has its parent's; each disk that a run writes to is looked at."""
    asked: list[object] = []

    def little(folder: Path) -> SimpleNamespace:
        asked.append(folder)
        return SimpleNamespace(f_bavail=1 if folder == tmp_path else 10**6, f_frsize=4096)

    monkeypatch.setattr(room.os, "statvfs", little)
    with pytest.raises(UserError, match=r"^the disk of the cache or temporary files \(.*\) has 4.00 KiB left"):
        room.require_room(Path("/"), tmp_path / "not" / "yet")
    assert asked == [Path("/"), tmp_path]


# Requests to end.


@linux
def test_ctrl_c_lets_the_suite_end_that_is_measured(drill: Drill) -> None:
    """Once: its record is there, nothing more begins, and the same call does the rest."""
    gate = drill.folder / "gate"
    os.mkfifo(gate)
    process = drill.start(f"wait:{gate}@log_probs:fake-fp16#1")
    drill.until(drill.writing)
    process.send_signal(signal.SIGINT)
    drill.until(lambda: drill.last() != [])
    with gate.open("w"):
        pass
    _, errors = process.communicate(timeout=PATIENCE_S)
    assert (process.returncode, errors.strip().splitlines()[-1]) == (130, STOPPED)
    assert set(drill.settled()) == {f"fake-fp16 {suite}" for suite in ("memory", "throughput", "divergence")}
    assert drill.left() == []
    drill.finish()
    assert len(drill.settled()) == 6


@linux
def test_a_request_to_end_is_heard_within_ten_seconds_by_whatever_runs(drill: Drill) -> None:
    """A worker that hangs in a call that hears nothing is killed."""
    process = drill.start("deaf@log_probs")
    drill.until(drill.writing)
    asked = time.monotonic()
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=10)
    assert (process.returncode, drill.running(), drill.left()) == (130, [], [])
    assert time.monotonic() - asked < 10
    assert len(drill.settled()) == 2


def test_ctrl_c_waits_only_for_a_cell_and_only_once() -> None:
    """While nothing is answered it ends the call at once; the second one has the wait given up, the third ends it."""
    stop, worker = Stop(), SimpleNamespace()
    with pytest.raises(KeyboardInterrupt):
        stop.after_this()
    stop.answers(worker, yes=True)
    with stop.heard() as told:
        stop.after_this()
        assert os.read(told, 9) == b"!"
    assert stop.ending and not stop.now
    with stop.heard() as told:
        assert os.read(told, 9) == b"!"  # whoever begins to listen is told what was asked before
        stop.after_this()
        assert os.read(told, 9) == b"!"
    assert stop.now
    with pytest.raises(KeyboardInterrupt):
        stop.after_this()


def test_a_wait_that_is_given_up_ends_between_two_lines() -> None:
    """Asked for twice, a wait raises where it waits, not in the middle of what it prints."""
    stop, worker = Stop(), SimpleNamespace()
    stop.answers(worker, yes=True)
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    read, write = os.pipe()
    told: list[str] = []

    def finish() -> None:
        stop.after_this()  # the second one comes while the first is told
        told.append("after this")

    waiting = Waiting(
        process=process, events=read, stop=stop, left_s=lambda: 60.0, overdue=lambda: None, finish=finish,
        hear=lambda event: None,
    )  # fmt: skip
    stop.after_this()
    try:
        with pytest.raises(KeyboardInterrupt):
            waiting.run()
        assert told == ["after this"]
    finally:
        process.kill()
        process.wait()
        os.close(read)
        os.close(write)


@linux
def test_what_was_told_to_ignore_a_closed_terminal_still_does() -> None:
    """As `nohup` has it."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        outlive_the_terminal()
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
        outlive_the_terminal()
        os.kill(os.getpid(), signal.SIGHUP)  # by default the end of these tests
    finally:
        signal.signal(signal.SIGHUP, before)
