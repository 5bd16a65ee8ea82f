# SPDX-License-Identifier: Apache-2.0
"""Whatever a worker does, the runner ends with the right record, and nothing that was finished is lost.

Faults are the fake backend's; workers are real processes. Quality is left out where it is not the point: loading
lm-eval takes seconds.
"""

import contextlib
import errno
import json
import os
import re
import selectors
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
from builders import unlogged

from bench import paths
from bench.catalog.entries import read_catalog
from bench.cli import app, guarded
from bench.engines import fake
from bench.engines.contract import DoesNotFit, Unsupported
from bench.errors import UserError
from bench.instruments import container, machine
from bench.plan.plan import LeftOut, Plan, make_plan
from bench.plan.selection import Selection
from bench.records.cell import MEMORY_LIMIT, Precision
from bench.records.census import Census
from bench.records.record import Ending, Outcome
from bench.records.store import Runs, Store
from bench.records.surroundings import Condition
from bench.run import launched
from bench.run.ending import UnprovenPrecision, ending, require_proof
from bench.run.measure import run_key
from bench.run.needs import opened
from bench.run.options import RunOptions
from bench.run.runner import Runner, new_run_id
from bench.run.worker_process import WorkerProcess, death
from bench.scoring.journal import Journal, journal_folder

ROOT = Path(__file__).resolve().parents[2]
QUICK = "memory,throughput,divergence"
PATIENCE_S = 60
"""Longest wait for another process; reached only when something is wrong."""
linux = pytest.mark.skipif(sys.platform != "linux", reason="asks the kernel")


@pytest.fixture(autouse=True)
def surroundings(tmp_path, monkeypatch):
    """A cache of the test's own, and no fault but what the test asks for."""
    monkeypatch.setenv("BENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("BENCH_FAKE_FAULT", raising=False)


class Bench:
    """Calls of `bench run --backend fake` on one results folder."""

    backend = "fake"

    def __init__(self, results, monkeypatch):
        self.results, self.monkeypatch = results, monkeypatch

    def options(self, *extra, suite=QUICK, precision="fp16", profile="smoke"):
        """The command line after `bench`."""
        chosen = ["--profile", profile, "--suite", suite, "--precision", precision, "--device", "cpu"]
        return ["run", "--backend", self.backend, *chosen, "--results", str(self.results), *extra]

    def run(self, *extra, fault="", **chosen):
        """Run in this process, with the worker misbehaving as told; returns the exit code."""
        self.monkeypatch.setenv("BENCH_FAKE_FAULT", fault)
        try:
            return guarded(lambda: app(self.options(*extra, **chosen)))
        except SystemExit as done:
            return done.code

    def start(self, *extra, fault="", **chosen):
        """Start the command as a process of its own, which hears Ctrl-C even if these tests run in the background.

        A shell's background jobs ignore SIGINT, and so would whatever they start.
        """
        env = {**os.environ, "BENCH_FAKE_FAULT": fault}
        ours = signal.signal(signal.SIGINT, signal.SIG_DFL)
        try:
            return subprocess.Popen(
                [sys.executable, "-m", "bench", *self.options(*extra, **chosen)],
                cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
            )  # fmt: skip
        finally:
            signal.signal(signal.SIGINT, ours)

    def records(self):
        """Every record, in the order of its file's name within its suite; all files must read."""
        store = Store(self.results)
        found = list(store.records())
        assert store.unreadable == []
        return found

    def outcomes(self):
        """Ending of each cell as `precision suite`, for folders with one record for each."""
        found = self.records()
        by_cell = {f"{record.cell.precision} {record.cell.suite}": record.outcome.ending.value for record in found}
        assert len(by_cell) == len(found)
        return by_cell

    def outcome(self, suite):
        """The outcome of the one record of a suite."""
        (record,) = (record for record in self.records() if record.cell.suite == suite)
        return record.outcome


@pytest.fixture
def bench(tmp_path, monkeypatch):
    """`bench run` on an empty results folder."""
    return Bench(tmp_path / "results", monkeypatch)


@pytest.fixture
def workers(monkeypatch):
    """The worker processes that runners of this process start."""
    started = []
    popen = subprocess.Popen

    def spy(command, **options):
        process = popen(command, **options)
        if "bench.run.worker" in command:
            started.append(process)
        return process

    monkeypatch.setattr(launched.subprocess, "Popen", spy)
    return started


def alive(pid):
    """Whether a process runs; one that only waits to be reaped does not."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def group_alive(group):
    """Whether any process of a group runs."""
    found = False
    for process in psutil.process_iter():
        with contextlib.suppress(OSError, psutil.Error):
            found |= os.getpgid(process.pid) == group and alive(process.pid)
    return found


def until(condition):
    """Wait for another process, looking often, and not for ever."""
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)  # only another process can end this wait


# Faults: kind, point, and what becomes of the cells.


def test_a_crash_costs_the_cells_that_crash_and_no_other(bench, workers):
    """A worker that aborts leaves `killed` with the signal's name; the next suites get fresh workers."""
    assert bench.run(fault="crash@prefill") == 1
    assert bench.outcomes() == {"fp16 memory": "killed", "fp16 throughput": "killed", "fp16 divergence": "ok"}
    assert bench.outcome("memory").reason == "the worker died of SIGABRT in memory"
    assert bench.outcome("throughput").reason == "the worker died of SIGABRT in throughput"
    assert "in _crash" in bench.outcome("memory").detail, "where it crashed"
    assert len(workers) == 3


def test_a_fault_loses_no_finished_record(bench):
    """What was on disk before the worker died stays, figures and all."""
    bench.run(fault="crash@log_probs")
    assert bench.outcomes() == {"fp16 memory": "ok", "fp16 throughput": "ok", "fp16 divergence": "killed"}
    memory = next(record for record in bench.records() if record.cell.suite == "memory")
    assert memory.measurement("weights_bytes").values == (18_000_000,)


def test_a_crash_while_loading_ends_every_cell_of_that_load_alone(bench, workers):
    """No suite began, so all cells of the load share the ending; the other precision is measured."""
    bench.run(fault="crash@load:fake-fp16", suite="memory,throughput", precision="fp16,int8")
    assert bench.outcomes() == {
        "fp16 memory": "killed", "fp16 throughput": "killed", "int8 memory": "ok", "int8 throughput": "ok",
    }  # fmt: skip
    assert bench.records()[0].outcome.reason == "the worker died of SIGABRT while loading"
    assert len(workers) == 2


def test_signal_nine_names_both_possibilities(bench, monkeypatch):
    """Without a word from the kernel a SIGKILL may have been its memory killer or a person."""
    monkeypatch.setattr(container, "oom_kills", lambda: None)
    assert bench.run(fault="kill@log_probs") == 1
    assert bench.outcomes() == {"fp16 memory": "ok", "fp16 throughput": "ok", "fp16 divergence": "killed"}
    reason = bench.outcome("divergence").reason
    assert reason == "killed by signal 9 in divergence: by the kernel for lack of memory, or by someone"


def test_signal_nine_with_a_counted_memory_kill_does_not_fit(bench, monkeypatch):
    """If the cgroup counted a memory kill meanwhile, it is a finding, and settled."""
    counts = iter(range(100))
    monkeypatch.setattr(container, "oom_kills", lambda: next(counts))
    assert bench.run(fault="kill@log_probs", suite="divergence") == 0
    assert bench.outcome("divergence").ending is Ending.DOES_NOT_FIT
    assert bench.outcome("divergence").reason == "the kernel ran out of memory in divergence"


@pytest.mark.alone  # what comes before the hang has four seconds
def test_a_hang_is_stopped_at_the_limit(bench, workers):
    """A cell beyond --timeout is stopped with its whole process group; what it finished before stays."""
    assert bench.run("--timeout", "4", fault="hang@log_probs") == 1
    assert bench.outcomes() == {"fp16 memory": "ok", "fp16 throughput": "ok", "fp16 divergence": "timed_out"}
    assert bench.outcome("divergence").reason == "stopped in divergence after 4 s without an answer"
    assert 'File "bench/engines/fake/faults.py"' in bench.outcome("divergence").detail, "where it hung"
    assert not any(group_alive(worker.pid) for worker in workers)


def test_a_hang_while_loading_is_stopped_too(bench):
    """The limit holds for a load as well, and ends all its cells."""
    assert bench.run("--timeout", "1", fault="hang@load", suite="memory,throughput") == 1
    assert bench.outcomes() == {"fp16 memory": "timed_out", "fp16 throughput": "timed_out"}
    assert bench.outcome("memory").reason == "stopped while loading after 1 s without an answer"


def test_what_a_library_prints_does_no_harm(bench):
    """A thousand lines that look like records on stdout change nothing: records travel by file."""
    assert bench.run(fault="garbage@prefill") == 0
    assert set(bench.outcomes().values()) == {"ok"}
    memory = next(record for record in bench.records() if record.cell.suite == "memory")
    assert memory.measurement("kv_bytes").values == (135_000,)


def test_an_error_of_ours_fails_the_cell_with_its_traceback(bench, workers):
    """The reason is one line; the traceback is kept; the same worker goes on with the next suite."""
    assert bench.run(fault="error@prefill") == 1
    assert bench.outcomes() == {"fp16 memory": "failed", "fp16 throughput": "failed", "fp16 divergence": "ok"}
    outcome = bench.outcome("memory")
    assert outcome.reason == "RuntimeError: a fault that was asked for"
    assert "Traceback" in outcome.detail
    assert "suites/memory.py" in outcome.detail
    assert len(workers) == 1


def test_an_error_in_quality_costs_quality_alone(bench):
    """The last suite fails; memory, measured by the same load, is there."""
    assert bench.run(fault="error@score", suite="memory,quality") == 1
    assert bench.outcomes() == {"fp16 memory": "ok", "fp16 quality": "failed"}
    assert bench.outcome("quality").reason == "RuntimeError: a fault that was asked for"
    assert "Traceback" in bench.outcome("quality").detail


@pytest.mark.parametrize("point", ["load", "prefill"])
def test_too_little_memory_is_a_finding_with_phase_and_figures(bench, point):
    """`does_not_fit` says in which phase, how much was wanted and how much there was; it is no failure."""
    assert bench.run(fault=f"memory@{point}", suite="memory") == 0
    outcome = bench.outcome("memory")
    assert outcome.ending is Ending.DOES_NOT_FIT
    assert outcome.reason == f"out of memory in {point}, wanted 1.82 TiB more with 931 GiB there"


def test_what_a_backend_cannot_do_is_a_finding(bench):
    """`unsupported` carries the backend's reason to every cell of the load, and is settled."""
    assert bench.run(fault="unsupported@load", suite="memory,throughput") == 0
    assert bench.outcomes() == {"fp16 memory": "unsupported", "fp16 throughput": "unsupported"}
    assert bench.outcome("memory").reason == "a fault that was asked for"


def test_a_fault_at_one_precision_leaves_the_others(bench):
    """The faulty scheme's cell fails; its neighbours' figures are as ever."""
    assert bench.run(fault="error@prefill:fake-int8", suite="memory", precision="fp16,int8,int4") == 1
    assert bench.outcomes() == {"fp16 memory": "ok", "int8 memory": "failed", "int4 memory": "ok"}


def test_a_row_that_is_not_the_precision_it_is_called_fails(bench):
    """An engine that was told 4 bits and holds 16: the cell fails with both figures, and has no others."""
    assert bench.run(fault="wide@census:fake-int4", suite="memory", precision="int8,int4") == 1
    assert bench.outcomes() == {"int8 memory": "ok", "int4 memory": "failed"}
    (failed,) = (record for record in bench.records() if record.cell.precision == "int4")
    assert "fake-int4 asks for 95% of linear weights quantized, 0.0% are" in failed.outcome.reason
    assert failed.measurements == ()


def test_a_predicted_misfit_is_recorded_without_a_worker(bench, workers, monkeypatch):
    """A cell left out for size gets its record, with both figures, and no process is started for it."""
    monkeypatch.setattr(machine, "free_bytes", lambda kind: 1000)
    assert bench.run(suite="memory") == 0
    assert bench.outcome("memory").ending is Ending.DOES_NOT_FIT
    assert re.fullmatch(
        r"does not fit: predicted \d+ MiB and 95\.4 MiB for the process, 1000 B are free",
        bench.outcome("memory").reason,
    )
    assert workers == []


def test_force_tries_what_is_predicted_not_to_fit(bench, monkeypatch):
    """With --force the prediction is no verdict."""
    monkeypatch.setattr(machine, "free_bytes", lambda kind: 1000)
    assert bench.run("--force", suite="memory") == 0
    assert bench.outcome("memory").ending is Ending.OK


# A run that was interrupted, and a run that was finished.


def test_the_same_call_measures_only_what_is_unsettled(bench, capsys):
    """After a crash the same call goes on under the same run id and repeats the crashed cell alone."""
    bench.run(fault="crash@log_probs")
    before = {record.id for record in bench.records()}
    capsys.readouterr()
    assert bench.run() == 0
    new = [record for record in bench.records() if record.id not in before]
    assert [(record.cell.suite, record.outcome.ending.value) for record in new] == [("divergence", "ok")]
    assert len({record.run for record in bench.records()}) == 1
    assert unlogged(capsys.readouterr().err) == f"continuing run {new[0].run}: 2 cells are settled already\n"


def test_missing_after_a_whole_run_does_nothing(bench, capsys):
    """--missing measures what no record answers; when all are settled it says so and exits 0."""
    bench.run()
    capsys.readouterr()
    assert bench.run("--missing") == 0
    assert capsys.readouterr().out == "nothing to run: 3 cells are settled\n"
    assert len(bench.records()) == 3


def test_missing_measures_what_failed(bench):
    """A failed cell is no answer: --missing measures it and leaves the settled ones."""
    bench.run(fault="error@log_probs")
    assert bench.run("--missing") == 0
    assert [record.cell.suite for record in bench.records()] == ["divergence", "divergence", "memory", "throughput"]


def test_a_finished_run_is_never_in_the_way(bench):
    """The same call after a finished run measures everything again under a new id."""
    bench.run(suite="memory,throughput")
    assert bench.run(suite="memory,throughput") == 0
    records = bench.records()
    assert len(records) == 4
    assert sorted(len([r for r in records if r.run == run]) for run in {r.run for r in records}) == [2, 2]


def test_a_budget_leaves_the_run_open_and_the_next_call_goes_on(bench, capsys):
    """The call is no failure; it says what stays undecided, and the same call without a budget measures it."""
    assert bench.run("--budget", "0.000001s") == 0
    said = " ".join(capsys.readouterr().err.split())
    assert "budget spent, 3 cells stay undecided: smollm2-135m-instruct fp16 (fake fake-fp16) memory" in said
    assert bench.records() == []
    assert bench.run() == 0
    assert len(bench.records()) == 3


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("--budget", "banana", "bench: no budget 'banana'; 20min, 90s, 2h or none\n"),
        ("--threads", "many", "bench: no threads 'many'; a number from 1 to 4096, or auto\n"),
    ],
)
def test_a_bad_budget_or_thread_count_is_one_line(bench, capsys, option, value, message):
    """With the remedy."""
    assert bench.run(option, value) == 2
    assert capsys.readouterr().err == message


def test_threads_auto_sweeps_before_it_measures(bench, monkeypatch):
    """Through the real command: one smoke cell for each count, in the cache; the results hold the question alone."""
    monkeypatch.setattr("bench.run.threads.candidates", lambda usable, cores: [1, 2])
    assert bench.run("--threads", "auto", suite="memory") == 0
    assert [record.cell.suite for record in bench.records()] == ["memory"]
    (folder,) = (paths.cache_folder() / "threads").iterdir()
    assert json.loads((folder / "best.json").read_text())["threads"] == 1
    assert len(list(Store(folder).records())) == 2


def test_fresh_starts_anew(bench):
    """--fresh leaves an interrupted run alone and measures all cells under a new id."""
    bench.run(fault="error@log_probs")
    first = {record.id for record in bench.records()}
    assert bench.run("--fresh") == 0
    new = [record for record in bench.records() if record.id not in first]
    assert [record.cell.suite for record in new] == ["divergence", "memory", "throughput"]
    assert len({record.run for record in bench.records()}) == 2


def test_another_call_does_not_continue_it(bench):
    """An interrupted run belongs to the same selection only."""
    bench.run(fault="error@log_probs")
    assert bench.run(suite="memory") == 0
    assert len({record.run for record in bench.records()}) == 2


def test_a_run_whose_last_cell_was_settled_as_it_died_is_finished_by_the_next_call(bench, capsys):
    """Stopped between its last record and the note that it is done, a run is closed by the same call, once."""
    chosen = {"suite": "memory,throughput"}
    bench.run(**chosen)
    records = bench.records()
    selection = Selection(
        precisions=(Precision.FP16,), backends=("fake",), suites=("memory", "throughput"), profile="smoke", device="cpu"
    )
    key = run_key(selection, machine.describe("cpu"))
    Runs(bench.results).begin(key, records[0].run, [record.cell for record in records])
    capsys.readouterr()
    assert bench.run(**chosen) == 0
    assert capsys.readouterr().out == "nothing to run: 2 cells are settled\n"
    assert bench.run(**chosen) == 0
    assert len({found.run for found in bench.records()}) == 2


# The reference that 8- and 4-bit are compared with.


def test_a_reference_that_failed_is_the_others_reason(bench):
    """Without the 16-bit distributions int4 fails and says what is lacking; the same call then completes both."""
    chosen = {"suite": "divergence", "precision": "fp16,int4"}
    assert bench.run(fault="error@log_probs:fake-fp16", **chosen) == 1
    assert bench.outcomes() == {"fp16 divergence": "failed", "int4 divergence": "failed"}
    reasons = {str(record.cell.precision): record.outcome.reason for record in bench.records()}
    assert reasons["fp16"] == "RuntimeError: a fault that was asked for"
    assert reasons["int4"] == f"its 16-bit row left no distributions: {reasons['fp16']}"
    assert not next(r for r in bench.records() if r.cell.precision == "int4").outcome.detail, "it is no fault of ours"
    assert bench.run(**chosen) == 0
    assert len({record.run for record in bench.records()}) == 1


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_cache_is_one_line_and_no_traceback(number):
    """Wherever in a cell it shows: in a write of ours, of a library's, or of a process that converts weights."""
    full = OSError(number, os.strerror(number), "/somewhere/codes.npy")
    for error in (full, RuntimeError(f"a helper ended: {full}")):
        outcome = ending(error, "divergence")
        assert (outcome.ending, outcome.detail) == (Ending.FAILED, "")
        assert outcome.reason.startswith("the disk of the cache or of temporary files has no space left during div")
        assert "set BENCH_CACHE and TMPDIR" in outcome.reason
    assert ending(OSError(errno.EBADF, "ours")).detail != "", "an error of ours keeps its traceback"


def test_what_its_maker_quantized_has_nothing_to_be_compared_with(bench, monkeypatch, capsys):
    """Published in 4 bits alone: measured, no distance, no verdict, and each says why; settled, and no failure."""
    monkeypatch.setenv("BENCH_FAKE_STORED", "fake-int4")
    assert bench.run(precision="int4") == 0
    assert bench.outcomes() == {
        "fp16 divergence": "unsupported",
        "int4 memory": "ok",
        "int4 throughput": "ok",
        "int4 divergence": "unsupported",
    }
    reasons = {str(record.cell.precision): record.outcome.reason for record in bench.records() if record.outcome.reason}
    assert reasons["int4"] == "no 16-bit weights of this checkpoint to compare with"
    assert [record.outcome.detail for record in bench.records() if record.outcome.detail] == []
    out = capsys.readouterr().out
    assert out.count(f"int4 (fake, {bench.records()[0].cell.device}): {reasons['int4']}\n") == 1
    assert "0.44x" not in out and "not measured" not in out.split("16-bit weights")[-1]
    assert bench.run("--missing", precision="int4") == 0
    assert len(bench.records()) == 4


def test_the_reference_is_added_where_it_is_lacking_and_only_there(bench):
    """Asking for int4's divergence measures fp16's first; once it is cached it is not measured again."""
    assert bench.run(suite="divergence", precision="int4") == 0
    assert bench.outcomes() == {"fp16 divergence": "ok", "int4 divergence": "ok"}
    assert bench.run(suite="divergence", precision="int4") == 0
    assert [str(record.cell.precision) for record in bench.records()] == ["fp16", "int4", "int4"]


def test_a_cache_deleted_under_a_plan_fails_the_cell_with_its_reason(bench):
    """The plan saw a reference that is gone when the worker looks for it."""
    bench.run(suite="divergence", precision="fp16")
    plan = planned(suites=("divergence",), precisions=(Precision.INT4,))
    assert [str(item.cell.precision) for item in plan.cells] == ["int4"]
    shutil.rmtree(paths.cache_folder())
    (record,) = run_plan(bench.results, plan)
    assert record.outcome.ending is Ending.FAILED
    assert record.outcome.reason.startswith("MissingReference: the 16-bit reference of this model")


def test_an_interrupted_run_measures_a_reference_again_whose_cache_is_gone(bench):
    """Settled or not, the 16-bit cell is run again when another cell needs what it left and that was deleted."""
    chosen = {"suite": "divergence", "precision": "fp16,int4"}
    assert bench.run(fault="error@log_probs:fake-int4", **chosen) == 1
    shutil.rmtree(paths.reference_folder())
    assert bench.run(**chosen) == 0


def test_a_reference_of_other_engine_versions_does_not_count(bench):
    """A reference left by another version of the engine is measured again, not missed."""
    bench.run(suite="divergence", precision="fp16")
    (folder,) = paths.reference_folder().iterdir()
    folder.rename(folder.with_name(folder.name.split("-")[0] + "-000000000000"))
    assert bench.run(suite="divergence", precision="int4") == 0


# Stopping: Ctrl-C, and the runner's own death.


def hanging(bench):
    """A run whose divergence hangs, two records on disk; returns the process and its worker's id."""
    process = bench.start(fault="hang@log_probs")
    # the reference's unfinished folder appears just before the call that hangs
    until(lambda: list(paths.reference_folder().glob("*.part*")) or process.poll() is not None)
    (worker,) = psutil.Process(process.pid).children(recursive=True)
    return process, worker.pid


def test_ctrl_c_keeps_what_is_finished_and_the_next_call_goes_on(bench):
    """SIGINT twice: exit code 130, no process left, all records readable, and the same call completes the run."""
    process, worker = hanging(bench)
    process.send_signal(signal.SIGINT)
    said = next(line for line in process.stderr if unlogged(line))
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 130
    assert not group_alive(worker)
    assert bench.outcomes() == {"fp16 memory": "ok", "fp16 throughput": "ok"}
    again = bench.start()
    _, messages = again.communicate(timeout=PATIENCE_S)
    assert again.returncode == 0
    assert bench.outcomes() == {"fp16 memory": "ok", "fp16 throughput": "ok", "fp16 divergence": "ok"}
    (run,) = {record.run for record in bench.records()}
    assert unlogged(messages) == f"continuing run {run}: 2 cells are settled already\n"
    assert said == (
        "smollm2-135m-instruct fp16 (fake fake-fp16) divergence is finished first; Ctrl-C once more stops it now\n"
    )
    assert unlogged(errors).strip() == "stopped; every finished record is kept, and the same command goes on from here"


@linux
def test_a_worker_dies_with_its_runner(bench):
    """SIGKILL of the runner, which can clean up nothing, leaves no orphan; the next call goes on."""
    process, worker = hanging(bench)
    process.kill()
    process.communicate(timeout=PATIENCE_S)
    until(lambda: not alive(worker))
    assert bench.outcomes() == {"fp16 memory": "ok", "fp16 throughput": "ok"}
    assert bench.run() == 0
    assert len({record.run for record in bench.records()}) == 1


# The runner in this process.


class Recorder:
    """An observer that remembers."""

    def __init__(self):
        self.seen = []

    def load(self, first):
        """A load begins."""
        self.seen.append(f"load {first.cell.scheme}")

    def cell(self, planned):
        """A cell begins."""
        self.seen.append(f"cell {planned.cell.suite}")

    def phase(self, name, done, total):
        """Progress: not remembered."""

    def finishing(self, planned):
        """Somebody asked for the end."""
        self.seen.append("finishing")

    def elsewhere(self, cells):
        """Another process has answered these."""
        self.seen.append(f"elsewhere {' '.join(planned.cell.suite for planned in cells)}")

    def waits(self, owner):
        """Another process has what is left."""
        self.seen.append("waits" if owner else "goes on")

    def again(self, cells):
        """There is time left."""
        self.seen.append(f"again {' '.join(planned.cell.suite for planned in cells)}")

    def undecided(self, cells):
        """The budget is spent."""
        self.seen.append(f"undecided {' '.join(planned.cell.suite for planned in cells)}")

    def record(self, record):
        """A record is on disk."""
        self.seen.append(f"record {record.cell.suite} {record.outcome.ending}")


def planned(*, suites=("memory",), precisions=(Precision.FP16,), profile="smoke"):
    """A plan of the default model on the fake."""
    selection = Selection(precisions=precisions, backends=("fake",), suites=suites, profile=profile)
    return make_plan(selection, read_catalog(), machine.describe("cpu"))


def make_runner(results, observer=None, options=None):
    """A runner that writes to `results`."""
    return Runner(
        run="r",
        store=Store(results),
        described=machine.describe("cpu"),
        before=Condition(available_bytes=10**9),
        observer=observer or Recorder(),
        options=options or RunOptions(),
    )


def run_plan(results, plan, **options):
    """The records of a plan."""
    return make_runner(results, **options).run(plan)


def test_one_load_answers_its_suites_in_order_and_the_reference_goes_first(tmp_path):
    """Each scheme is loaded once; memory, throughput, divergence follow, each on disk before the next begins."""
    observer = Recorder()
    plan = planned(suites=tuple(QUICK.split(",")), precisions=(Precision.INT4, Precision.FP16))
    run_plan(tmp_path, plan, observer=observer)
    cells = [f"{step} {name}" for name in QUICK.split(",") for step in ("cell", "record")]
    cells = [f"{line} ok" if line.startswith("record") else line for line in cells]
    assert observer.seen == ["load fake-fp16", *cells, "load fake-int4", *cells]


def counted(monkeypatch):
    """The commands that workers are started with."""
    popen, started = subprocess.Popen, []

    def start(command, **options):
        started.append(command[command.index("bench.run.worker") + 2 :])
        return popen(command, **options)

    monkeypatch.setattr(launched.subprocess, "Popen", start)
    return started


def test_the_worker_that_began_ahead_answers(tmp_path, monkeypatch):
    """One process: it says that it is ready, waits, and gets the conditions that were looked up meanwhile."""
    started, plan = counted(monkeypatch), planned(suites=("memory", "throughput"))
    made = make_runner(tmp_path)
    with made.ahead(plan) as ready:
        assert ready() is True
        made.before = Condition(available_bytes=7)
        made.run(plan)
    records = Store(tmp_path).records()
    assert [(record.outcome.ending, record.before.available_bytes) for record in records] == [(Ending.OK, 7)] * 2
    assert started == [["--ahead"]]


def test_a_worker_that_died_before_its_turn_is_replaced(tmp_path, monkeypatch):
    """What went wrong ahead goes wrong again, or does not, where its record can say so."""
    started, plan = counted(monkeypatch), planned()
    made = make_runner(tmp_path)
    with made.ahead(plan) as ready:
        made._ahead.process.kill()
        assert ready() is False
        (record,) = made.run(plan)
    assert record.outcome.ending is Ending.OK
    assert started == [["--ahead"], []]


def test_a_worker_that_began_ahead_for_nothing_ends(tmp_path):
    """The call ended before its turn: no process and no folder is left."""
    made = make_runner(tmp_path)
    with made.ahead(planned()) as ready:
        assert ready() is True
        process, folder = made._ahead.process, made._ahead.log.parent
    assert process.returncode is not None and not folder.exists()


def test_a_worker_that_began_ahead_for_cells_that_are_left_out_ends_before_others_are_measured(tmp_path, monkeypatch):
    """A budget may leave the first load out: what it imported would stay in memory beside all that is measured."""
    started, seen = counted(monkeypatch), []
    made = make_runner(tmp_path)
    with made.ahead(planned()) as ready:
        assert ready() is True
        process = made._ahead.process
        made.observer.cell = lambda one: seen.append(process.returncode is not None)
        (record,) = made.run(planned(precisions=(Precision.INT4,)))
    assert (record.outcome.ending, seen, started) == (Ending.OK, [True], [["--ahead"], []])


def test_a_worker_under_a_limit_does_not_begin_ahead(tmp_path, monkeypatch):
    """What it did there would be charged before its limit is set up; an empty plan has none either."""
    started = counted(monkeypatch)
    (one,) = planned().cells
    limited = one.cell.model_copy(update={"settings": {**one.cell.settings, MEMORY_LIMIT: 1 << 40}})
    for cells in ((), (replace(one, cell=limited),)):
        with make_runner(tmp_path).ahead(Plan(cells=cells, left_out=())):
            assert started == []


def test_a_worker_that_says_nothing_and_ends_well_has_failed(tmp_path, monkeypatch):
    """An exit code of 0 without a record is no answer."""
    replace_worker(monkeypatch, "pass")
    (record,) = run_plan(tmp_path, planned())
    assert (record.outcome.ending, record.outcome.reason) == (Ending.FAILED, "the worker ended without answering")


def test_what_torch_compiles_goes_with_its_worker(tmp_path, monkeypatch):
    """The drill of the default model found torch's own folder among the temporary files."""
    told = tmp_path / "told"
    code = "import os, pathlib, sys; at = os.environ['TORCHINDUCTOR_CACHE_DIR']; os.mkdir(at)"
    replace_worker(monkeypatch, f"{code}; pathlib.Path({str(told)!r}).write_text(at); sys.exit(3)")
    run_plan(tmp_path / "results", planned())
    assert told.read_text().endswith("torchinductor") and not Path(told.read_text()).exists()


def test_a_worker_that_exits_with_an_error_leaves_its_last_line(tmp_path, monkeypatch):
    """The reason ends with the last line of the log, the detail holds its end."""
    replace_worker(monkeypatch, "import sys; print('first'); sys.exit('no such library')")
    (answer,) = run_plan(tmp_path, planned())
    (record,) = Store(tmp_path).records()
    assert record.outcome.ending is Ending.FAILED
    assert record.outcome.reason == "the worker exited 1 while loading: no such library"
    assert record.outcome.detail == "first\nno such library\n"
    assert answer.outcome == record.outcome.model_copy(update={"detail": ""})  # a week of logs is not held


def test_a_refused_results_folder_is_the_users_mistake(tmp_path, monkeypatch):
    """When the worker cannot write, the call ends with one line and its remedy."""
    event = {"event": "refused", "message": "cannot write results", "remedy": "free space on it"}
    line = json.dumps(event) + "\n"
    replace_worker(
        monkeypatch,
        "import json, os, sys; from pathlib import Path\n"
        f"os.write(json.loads(Path(sys.argv[-1]).read_text())['events'], {line.encode()!r}); sys.exit(2)",
    )
    with pytest.raises(UserError, match="cannot write results; free space on it"):
        run_plan(tmp_path, planned())


def replace_worker(monkeypatch, code):
    """Let runners start this code instead of the worker."""
    popen = subprocess.Popen

    def start(command, **options):
        own = [command[0], "-c", code, command[-1]] if "bench.run.worker" in command else command
        return popen(own, **options)

    monkeypatch.setattr(launched.subprocess, "Popen", start)


def test_a_spent_budget_begins_nothing_more_and_says_what_stayed_undecided(tmp_path):
    """Neither a load nor a cell; what is answered stands, and no record pretends to know the rest."""
    observer = Recorder()
    assert run_plan(tmp_path, planned(), observer=observer, options=RunOptions(budget_s=0.0)) == []
    assert observer.seen == ["undecided memory"]
    assert list(Store(tmp_path).records()) == []


def test_what_was_cut_is_measured_longer_where_time_is_left(tmp_path):
    """int8 is expected to take forty times what it takes, so little is left for fp16: whole after all at the end."""
    observer = Recorder()
    plan = planned(suites=("throughput",), precisions=(Precision.FP16, Precision.INT8), profile="standard")
    whole = {record.cell.scheme: record.seconds for record in run_plan(tmp_path / "whole", plan)}
    expected = {"fake-fp16": 2 * whole["fake-fp16"], "fake-int8": 40 * whole["fake-int8"]}
    slow = [
        replace(
            one,
            pace=one.pace.times(expected[one.cell.scheme] / one.predicted.seconds),
            predicted=one.predicted.model_copy(update={"seconds": expected[one.cell.scheme]}),
        )
        for one in plan.cells
    ]
    budget = RunOptions(budget_s=3 * sum(whole.values()))
    answers = run_plan(tmp_path / "cut", replace(plan, cells=tuple(slow)), observer=observer, options=budget)
    assert [(answer.cell.scheme, answer.cut) for answer in answers] == [("fake-fp16", False), ("fake-int8", False)]
    records = list(Store(tmp_path / "cut").records())
    told = Counter((record.cell.scheme, record.cut) for record in records)
    assert told == {("fake-fp16", True): 1, ("fake-int8", False): 1, ("fake-fp16", False): 1}
    assert observer.seen.count("again throughput") == 1
    assert sum(record.seconds for record in records) <= budget.budget_s


def test_a_worker_whose_budget_is_spent_leaves_its_cells_without_failing_them(tmp_path):
    """It looks before each cell."""
    started = make_runner(tmp_path)
    cells = list(planned(suites=("memory", "throughput")).cells)
    started.budget = opened(1e-9, cells)
    worker = WorkerProcess(cells)
    assert started._answered_by(worker) == worker.done == {planned.cell.key for planned in cells}
    assert list(Store(tmp_path).records()) == []


def test_threads_are_those_of_the_call_or_of_the_load_s_sweep():
    """What the caller says wins; a load that was not swept leaves the choice to the engine."""
    cell = planned().cells[0].cell
    assert RunOptions(threads=3, swept={cell.load_key: 2}).threads_of(cell) == 3
    assert RunOptions(swept={cell.load_key: 2}).threads_of(cell) == 2
    assert RunOptions().threads_of(cell) is None


def test_a_left_out_cell_that_is_no_cell_leaves_no_record(tmp_path):
    """What can never be measured stands in the plan alone."""
    left = LeftOut(model="m", what="*", reason="api only")
    assert run_plan(tmp_path, Plan(cells=(), left_out=(left,))) == []


def test_a_cell_that_the_runner_settles_leaves_no_journal(tmp_path):
    """What it had scored before its worker could write nobody will go on from; other cells' answers stay."""
    (cell,) = planned(suites=("quality",)).cells
    for name in (f"{cell.cell.key}-1", "another-1"):
        Journal(journal_folder() / name).remember("question", lambda: 1)
    left = LeftOut(model="m", what="int8", reason="too large", planned=cell)
    (record,) = run_plan(tmp_path, Plan(cells=(), left_out=(left,)))
    assert record.outcome.ending is Ending.DOES_NOT_FIT
    assert [path.name for path in journal_folder().iterdir()] == ["another-1"]


def test_a_worker_that_needs_no_network_gets_none(tmp_path):
    """Offline tasks and weights at hand: the worker may not reach the Hub; a Hub task may."""
    (offline,) = planned(suites=("quality",)).cells
    hub = SimpleNamespace(cell=offline.cell.model_copy(update={"settings": {"tasks": ["hellaswag"]}}))
    names = ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "TRANSFORMERS_OFFLINE")
    own = make_runner(tmp_path)
    assert [own._environment(offline).get(name) for name in names] == ["1", "1", "1"]
    given = own._environment(hub)
    assert [given.get(name) for name in names] == [os.environ.get(name) for name in names]


def test_a_worker_on_a_cpu_sees_no_gpu_and_the_threads_it_may_use(tmp_path):
    """CUDA is hidden from a CPU measurement, and --threads reaches the math libraries."""
    (cell,) = planned().cells
    found = make_runner(tmp_path, options=RunOptions(threads=3))._environment(cell)
    assert (found["CUDA_VISIBLE_DEVICES"], found["OMP_NUM_THREADS"]) == ("", "3")


def test_a_limit_of_years_is_waited_for_in_parts(tmp_path):
    """A prediction may be absurd; the system's call counts 24 days at most and raises on more."""
    (cell,) = planned().cells
    predicted = cell.predicted.model_copy(update={"seconds": 1e12})
    plan = Plan(cells=(replace(cell, predicted=predicted),), left_out=())
    assert make_runner(tmp_path)._limit(WorkerProcess(list(plan.cells), current=plan.cells[0])) == 3e13
    (record,) = run_plan(tmp_path, plan)
    assert record.outcome.ending is Ending.OK
    with selectors.DefaultSelector() as selector, pytest.raises(OverflowError):
        selector.select(3e13)


def test_run_ids_sort_by_time_and_differ():
    """A run id is its UTC second and four random digits."""
    assert re.fullmatch(r"\d{8}T\d{6}Z-[0-9a-f]{4}", new_run_id())
    assert len({new_run_id() for _ in range(20)}) > 1


# What a death means.


def worker(suite=None, timed_out=None):
    """A worker process, in a suite or still loading."""
    current = SimpleNamespace(cell=SimpleNamespace(suite=suite)) if suite else None
    return WorkerProcess([], current=current, timed_out=timed_out)


@pytest.mark.parametrize(
    ("code", "suite", "timed_out", "kills", "ended", "reason"),
    [
        (-9, "memory", 60.0, (0, 1), "timed_out", "stopped in memory after 60 s without an answer"),
        (-15, None, 5.0, (0, 0), "timed_out", "stopped while loading after 5 s without an answer"),
        (-9, "quality", None, (3, 4), "does_not_fit", "the kernel ran out of memory in quality"),
        (-9, None, None, (0, 1), "does_not_fit", "the kernel ran out of memory while loading"),
        (-9, "memory", None, (3, 3), "killed",
         "killed by signal 9 in memory: by the kernel for lack of memory, or by someone"),
        (-9, None, None, (None, None), "killed",
         "killed by signal 9 while loading: by the kernel for lack of memory, or by someone"),
        (-11, "throughput", None, (0, 1), "killed", "the worker died of SIGSEGV in throughput"),
        (-6, None, None, (None, None), "killed", "the worker died of SIGABRT while loading"),
        (1, "memory", None, (0, 1), "failed", "the worker exited 1 in memory: last words"),
    ],
)  # fmt: skip
def test_a_death_has_one_meaning(monkeypatch, code, suite, timed_out, kills, ended, reason):
    """Exit code, limit and the kernel's count of memory kills decide the ending; the log is kept beside it."""
    monkeypatch.setattr(container, "oom_kills", lambda: kills[1])
    found = death(code, worker(suite, timed_out), "first\nlast words\n\n", kills[0])
    assert found == Outcome(ending=Ending(ended), reason=reason, detail="first\nlast words\n\n")


def test_a_death_without_a_word_says_so():
    """An exit code with an empty log still has a reason, and a long line is cut."""
    assert death(3, worker(), "\n", None).reason == "the worker exited 3 while loading: no output"
    assert death(3, worker(), "x" * 999, None).reason == "the worker exited 3 while loading: " + "x" * 200


@pytest.mark.parametrize(
    ("error", "ended", "reason"),
    [
        (DoesNotFit("load", 2**31, 2**30), "does_not_fit",
         "out of memory in load, wanted 2.00 GiB more with 1.00 GiB there"),
        (DoesNotFit("generate"), "does_not_fit", "out of memory in generate"),
        (Unsupported("no kernel"), "unsupported", "no kernel"),
        (UserError("no weights", "install them"), "failed", "no weights; install them"),
    ],
)  # fmt: skip
def test_a_finding_has_a_reason_and_no_traceback(error, ended, reason):
    """What a backend raises on purpose becomes its outcome."""
    assert ending(error) == Outcome(ending=Ending(ended), reason=reason)


def test_an_unexpected_error_is_one_line_with_its_traceback():
    """Line breaks of a message are closed up for the table; the traceback stays whole."""
    with pytest.raises(UnprovenPrecision) as caught:
        raise UnprovenPrecision("two\n lines")
    found = ending(caught.value)
    assert (found.ending, found.reason) == (Ending.FAILED, "UnprovenPrecision: two lines")
    assert found.detail


# The precision must be proven.


def census(*, bits, quantized):
    """A count of 1000 linear weights."""
    return Census(
        bytes_by_storage={"x": 1}, linear_weights=1000, linear_quantized=quantized, linear_bits=bits, kernels={}
    )


@pytest.mark.parametrize(
    ("scheme", "bits", "quantized", "found"),
    [
        ("fake-int4", 4.5, 1000, None),
        ("fake-int4", 4.5, 950, None),
        ("fake-int4", 4.5, 949, "fake-int4 asks for 95% of linear weights quantized, 94.9% are"),
        ("fake-int4", 16.0, 0, "fake-int4 asks for 95% of linear weights quantized, 0.0% are"),
        ("fake-int4", 8.0, 1000, "fake-int4 asks for 4 bits a linear weight, found 8.00"),
        ("fake-int8", 9.0, 1000, None),
        ("fake-int8", 9.01, 1000, "fake-int8 asks for 8 bits a linear weight, found 9.01"),
        ("fake-fp16", 16.0, 0, None),
        ("fake-fp16", 32.0, 0, "fake-fp16 asks for 16 bits a linear weight, found 32.00"),
        ("fake-fp16", 4.5, 1000, "fake-fp16 asks for 16 bits a linear weight, found 4.50"),
    ],
)
def test_bytes_that_are_not_the_scheme_contradict_it(scheme, bits, quantized, found):
    """At least 95 % quantized, and within one bit of the nominal width: anything else is named with both figures."""
    assert census(bits=bits, quantized=quantized).contradiction(fake.BACKEND.scheme(scheme)) == found


def test_a_model_without_linear_weights_proves_no_quantizing_scheme():
    """Layers of a class that the census does not know must not pass for quantized ones; 16 bits need no such proof."""
    empty = Census(bytes_by_storage={}, linear_weights=0, linear_quantized=0, linear_bits=0.0, kernels={})
    words = "fake-int4 asks for quantized linear weights, found none at all"
    assert empty.contradiction(fake.BACKEND.scheme("fake-int4")) == words
    assert empty.contradiction(fake.BACKEND.scheme("fake-fp16")) is None


def test_an_engine_is_refused_by_its_census_first_and_then_by_its_own_proof():
    """A wrong precision is a fault; a class that reads both sides of a token cannot be measured. One may prove less."""
    scheme = fake.BACKEND.scheme("fake-fp16")
    right, wrong = census(bits=16.0, quantized=0), census(bits=32.0, quantized=0)
    with pytest.raises(UnprovenPrecision, match=r"found 32\.00"):
        require_proof(SimpleNamespace(census=lambda: wrong, refuted=lambda: "it reads ahead"), scheme)
    with pytest.raises(Unsupported, match="it reads ahead"):
        require_proof(SimpleNamespace(census=lambda: right, refuted=lambda: "it reads ahead"), scheme)
    require_proof(SimpleNamespace(census=lambda: right, refuted=lambda: None), scheme)
    require_proof(SimpleNamespace(census=lambda: right), scheme)


# Logits that are no numbers.


BROKEN = {
    "memory": "NaN or infinite logits at {precision} ({scheme}): token 8 of the text",
    "throughput": "NaN or infinite logits at {precision} ({scheme}): token 8 of the text, in the warm-up",
    "quality": "NaN or infinite logits: task bench_answers_en, item {item}, token 1 of its answer, "
    "and in 7 more of 8 answers, at {precision} ({scheme})",
}


def first_item():
    """The item of the generated task that the smoke profile answers first: the first document of its batch."""
    from bench.scoring.lm import chosen_items

    return min(chosen_items("bench_answers_en", 120, 8))


def test_generating_from_logits_that_are_not_finite_fails_every_suite_that_generates(bench, capsys):
    """No speed, memory or answer comes of NaN: each cell fails with one line that names the precision."""
    pytest.importorskip("lm_eval")
    asked = ("--task", "bench_answers_en")
    assert bench.run(*asked, fault="nan@prefill", suite="memory,throughput,quality", precision="int8") == 1
    named = {"precision": "int8", "scheme": "fake-int8", "item": first_item()}
    said = {suite: text.format(**named) for suite, text in BROKEN.items()}
    for suite, text in said.items():
        outcome = bench.outcome(suite)
        assert (outcome.ending, outcome.reason, outcome.detail) == (Ending.FAILED, text, "")
    assert sum(line.endswith(tuple(said.values())) for line in capsys.readouterr().err.splitlines()) == 3


@pytest.mark.usefixtures("without_roofs")
def test_a_real_model_with_a_broken_weight_fails_when_it_generates(bench, tmp_path):
    """One NaN in a file of weights: loaded, counted, and refused by each suite with its item and precision."""
    pytest.importorskip("transformers")
    pytest.importorskip("lm_eval")
    import tiny

    made = tiny.model("llama")
    made.model.layers[1].mlp.down_proj.weight.data[3, 5] = float("nan")
    folder = tiny.save(made, tmp_path / "broken")
    bench.backend = "transformers"
    options = ("--weights", f"local={folder}", "--model", "smollm2-135m-instruct", "--task", "bench_answers_en")
    assert bench.run(*options, suite="memory,throughput,quality", precision="fp32") == 1
    for suite, text in BROKEN.items():
        assert bench.outcome(suite).reason == text.format(precision="fp32", scheme="fp32", item=first_item())


# Resume inside a suite.


def quality(bench):
    """The newest quality record."""
    return [record for record in bench.records() if record.cell.suite == "quality"][-1]


def heard(monkeypatch):
    """Progress of requests as the display hears it: (done, of how many), in order."""
    phases = []
    monkeypatch.setattr(
        "bench.run.display.LiveDisplay.phase", lambda self, name, *counts: phases.append(counts) if counts[1] else None
    )
    return phases


def test_an_interrupted_quality_cell_goes_on_from_what_it_scored(bench, tmp_path, monkeypatch):
    """Killed in its 22nd batch of thirty: the next call scores the rest, and its record is as if none had died."""
    pytest.importorskip("lm_eval")
    monkeypatch.setattr(container, "oom_kills", lambda: None)  # another worker's tests of limits may count some
    phases, journals = heard(monkeypatch), tmp_path / "cache" / "journal"
    asked = {"suite": "quality", "profile": "standard"}
    assert bench.run(fault="kill@score#22", **asked) == 1
    scored = max(done for done, total in phases)
    whole = phases[-1][1]
    assert len(list(journals.glob("*/*.json"))) == 21 + 32  # batches, and generated answers one by one
    phases.clear()
    assert bench.run(fault="kill@score#10", **asked) == 0  # nine batches are left: a tenth would be the end
    assert 500 < scored < whole and phases[-1] == (whole, whole)
    resumed = quality(bench)
    assert not list(journals.iterdir())
    assert bench.run("--fresh", **asked) == 0
    assert quality(bench).id != resumed.id
    assert quality(bench).measurements == resumed.measurements


def test_scores_are_kept_where_no_memory_is_left_to_see_what_a_batch_changes(bench, monkeypatch):
    """Memory ends when the first answers are generated again alone: the cell is whole, and a caveat says what lacks."""
    pytest.importorskip("lm_eval")
    monkeypatch.setenv("BENCH_FAKE_TOGETHER", "3")
    assert bench.run("--task", "bench_answers_en", fault="memory@prefill", suite="quality") == 0
    record = quality(bench)
    assert record.outcome.ending == Ending.OK
    assert not [one for one in record.measurements if one.name == "answer_changed_alone"]
    caveats = [one.text for one in record.warnings if one.kind == "not_measured"]
    assert caveats == ["what a batch changes of bench_answers_en's answers: out of memory in prefill"]
    assert bench.run("--fresh", "--task", "bench_answers_en", suite="quality") == 0
    again = [one for one in quality(bench).measurements if one.name != "answer_changed_alone"]
    assert again == list(record.measurements)


def test_generated_answers_go_on_from_those_that_had_ended_whatever_the_batch_was(bench, tmp_path, monkeypatch):
    """Killed while the second three of eight answers stand side by side; the next call answers five at a time."""
    pytest.importorskip("lm_eval")
    monkeypatch.setattr(container, "oom_kills", lambda: None)
    asked, journals = {"suite": "quality"}, tmp_path / "cache" / "journal"
    monkeypatch.setenv("BENCH_FAKE_TOGETHER", "3")
    assert bench.run("--task", "bench_answers_en", fault="kill@generate#30", **asked) == 1
    assert len(list(journals.glob("*/*.json"))) == 3  # 24 tokens each, and six steps of the next three
    monkeypatch.setenv("BENCH_FAKE_TOGETHER", "5")
    assert bench.run("--task", "bench_answers_en", fault="kill@generate#25", **asked) == 0  # five answers, 24 steps
    resumed = quality(bench)
    assert not list(journals.iterdir())
    assert bench.run("--fresh", "--task", "bench_answers_en", **asked) == 0
    assert quality(bench).id != resumed.id
    assert quality(bench).measurements == resumed.measurements
    assert resumed.measurement("answer_changed_alone", task="bench_answers_en").values == (0.0,) * 8
