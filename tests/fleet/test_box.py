# SPDX-License-Identifier: Apache-2.0
"""What happens on a box: a process of ours that says what it is, or measures and sends every record as it is made."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from builders import called

from bench.catalog.entries import read_catalog
from bench.engines.registry import backend
from bench.fleet import tasks
from bench.fleet.wire import Answer, Handout, Look, complaint, heard
from bench.instruments import machine
from bench.paths import ROOT
from bench.plan.plan import Plan, make_plan
from bench.plan.selection import Selection
from bench.records.cell import Precision
from bench.records.code_digest import sources
from bench.records.record import Record
from bench.records.store import record_in, run_in

BOX = "bench.fleet.box"


@pytest.fixture(autouse=True)
def _a_box(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cache of its own; the harness is found where these tests are."""
    monkeypatch.setenv("BENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))


def said(question: Any, program: str = BOX) -> list[Answer]:
    """The lines of a box."""
    return [heard(line) for line in tasks.answered(program, question.model_dump_json())]


def plan(*precisions: Precision, suites: tuple[str, ...] = ("memory", "divergence")) -> Plan:
    """Cells of the fake on this machine."""
    asked = Selection(backends=("fake",), profile="smoke", suites=suites, precisions=precisions)
    return make_plan(asked, read_catalog(), machine.describe("cpu"), held=lambda _: False)


def handout(made: Plan, needed: tuple[str, ...] = (), **overrides: Any) -> Handout:
    """A question for this machine."""
    fields: dict[str, Any] = {"run": "run", "machine": machine.describe("cpu"), "cells": made.cells, "needed": needed}
    return Handout(**fields | overrides)


def records(answers: list[Answer]) -> list[Record]:
    """What came home."""
    return [record_in(answer.record.encode(), Path("home")) for answer in answers if answer.record]


def test_a_box_says_what_it_is_and_what_it_lacks() -> None:
    """Its machine, its harness, and the command that installs what is missing."""
    (answer,) = said(Look(kind="cpu", backends=("fake", "llamacpp")))
    assert answer.seen is not None and answer.seen.machine == machine.describe("cpu")
    assert answer.seen.sources == sources() and answer.seen.free_bytes > 0
    lacks = {name for name in ("fake", "llamacpp") if backend(name).missing()}
    assert set(answer.seen.lacking) == lacks
    assert all(text.endswith(backend(name).install) for name, text in answer.seen.lacking.items())


def test_a_box_without_the_device_says_so_in_one_line() -> None:
    """With what to do."""
    (answer,) = said(Look(kind="mps", backends=("fake",)))
    assert complaint(answer) == "this machine has no mps device; leave --device out, or take it out of the cluster"


def test_a_harness_that_is_not_there_is_told() -> None:
    """A node to which nobody has installed it; and a program that ends badly says its last words."""
    (answer,) = said(Look(backends=()), "bench.nowhere")
    assert complaint(answer) == ("the harness is not installed there; pip install it into the Python that runs Ray")
    assert complaint(Answer(ended=(1, "one\nMemoryError: two\n"))) == "its process ended with 1: MemoryError: two"
    assert complaint(Answer(ended=(-9, ""))) == "its process ended with -9: it said nothing"


def test_records_are_sent_one_by_one_and_the_end_of_the_run_last() -> None:
    """Made at this process's niceness and in its machine's name; a reference that is kept is not measured again."""
    whole = plan(Precision.INT8)
    reference = whole.cells[0].cell
    assert whole.cells[0].why == "reference"
    first = said(handout(whole, (reference.key,)))
    assert [(r.cell.scheme, r.cell.suite) for r in records(first)] == [
        ("fake-fp16", "divergence"), ("fake-int8", "memory"), ("fake-int8", "divergence"),
    ]  # fmt: skip
    assert {r.machine.device for r in records(first)} == {machine.describe("cpu").device}
    assert first[-1] == Answer(undecided=())
    ends = [run_in(answer.run.encode(), Path("home")) for answer in first if answer.run]
    assert [end.run for end in ends] == ["run"] and ends[0].before == records(first)[0].before
    again = said(handout(whole, (reference.key,)))
    assert again[0] == Answer(held=reference.key)
    assert [r.cell.scheme for r in records(again)] == ["fake-int8", "fake-int8"]


def test_a_box_that_is_another_machine_by_now_refuses() -> None:
    """Its rows would bear a wrong name."""
    other = machine.describe("cpu").model_copy(update={"device": "cpu-other"})
    (answer,) = said(handout(plan(Precision.FP16), machine=other))
    assert complaint(answer).startswith("this box is cpu-") and "not cpu-other" in complaint(answer)


def test_what_does_not_fit_has_a_record_that_the_box_makes() -> None:
    """With the plan's reason."""
    asked = Selection(backends=("fake",), profile="smoke", suites=("memory",), precisions=(Precision.FP16,))
    made = make_plan(asked, read_catalog(), machine.describe("cpu"), free_bytes=1)
    (record,) = records(said(handout(made, cells=(), left_out=made.left_out)))
    assert str(record.outcome.ending) == "does_not_fit" and record.outcome.reason == made.left_out[0].reason


def test_a_budget_is_the_load_s_and_records_say_the_call_s() -> None:
    """Of 100 seconds this load has nothing: its cells stay undecided."""
    made = plan(Precision.FP16, suites=("memory",))
    (answer,) = said(handout(made, budget_s=0.0, whole_budget_s=100.0))[-1:]
    assert answer.undecided == (made.cells[0].cell.key,)
    (record,) = records(said(handout(made, budget_s=50.0, whole_budget_s=100.0)))
    assert record.budget_s == 100.0


def test_what_ray_does_to_a_process_is_undone_and_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its variables and its thread count do not reach a worker; its niceness does where nobody may undo it."""
    for name, value in (("OMP_NUM_THREADS", "1"), ("RAY_JOB_ID", "7"), ("BENCH_FAKE_STORED", "")):
        monkeypatch.setenv(name, value)
    program = (
        "import os, sys; os.nice(15); from bench.fleet import tasks; print(*tasks.answered('bench.fleet.box',"
        "sys.stdin.read()), sep='\\n')"
    )
    question = handout(plan(Precision.FP16, suites=("memory",))).model_dump_json()
    done = subprocess.run([sys.executable, "-c", program], input=question, capture_output=True, text=True, check=True)
    (record,) = records([heard(line) for line in done.stdout.splitlines()])
    niced = [caveat.text for caveat in record.warnings if caveat.kind == "niced"]
    if os.geteuid() == 0:
        assert record.after.niceness == 0 and niced == []
    else:
        assert record.after.niceness == 15
        assert niced == ["measured at niceness 15: whatever else computed came first"]
    (seen,) = tasks.answered("tests.fleet.surroundings", "")
    assert "OMP_NUM_THREADS" not in seen and "RAY_JOB_ID" not in seen and "BENCH_FAKE_STORED" in seen


def test_a_box_s_process_ends_with_its_task() -> None:
    """Whoever stops listening, as a task that Ray cancels, leaves nothing that measures on."""
    answers = tasks.answered("tests.fleet.endless", "")
    pid = int(next(answers))
    os.kill(pid, 0)
    answers.close()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


@pytest.mark.skipif(importlib.util.find_spec("ray") is not None, reason="Ray is here")
def test_without_ray_the_command_says_how_to_get_it(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """One line, before anything else."""
    code, _, err = called(capsys, "run", "--ray", "auto", "--backend", "fake", "--results", tmp_path)
    assert code == 2 and " ".join(err.split()) == (
        'bench: boxes are reached through Ray, which is not installed here; pip install -e ".[ray]"'
    )


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (
            ("--backend", "fake", "--no-wait"),
            "--no-wait says nothing to the boxes of a cluster; leave --no-wait out, or --ray",
        ),
        (
            ("--backend", "fake", "--threads", "auto"),
            "--threads auto says nothing to the boxes of a cluster; leave --threads auto out, or",
        ),
        (("--backend", "api"), "backend api asks a server, and one box is enough for that; leave --ray out"),
    ],
)
def test_what_boxes_cannot_do_is_said_before_they_are_asked(
    capsys: pytest.CaptureFixture[str], options: tuple[str, ...], line: str
) -> None:
    """One line, and no cluster is looked for."""
    code, _, err = called(capsys, "run", "--ray", "auto", *options)
    assert code == 2 and line in " ".join(err.split())


def test_the_script_for_slurm_is_one_that_bash_reads() -> None:
    """Its syntax; its nodes start at niceness 0, and what follows its name goes to `bench run`."""
    text = (ROOT / "docs" / "many-boxes.slurm").read_text(encoding="utf-8")
    done = subprocess.run(["/bin/bash", "-n"], input=text, text=True, check=False, capture_output=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert "export RAY_worker_niceness=0" in text and 'bench run --ray auto --results "$RESULTS" "$@"' in text
