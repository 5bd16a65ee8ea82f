# SPDX-License-Identifier: Apache-2.0
"""How far runs are, in words and in rows."""

from __future__ import annotations

from bench.records.owner import this_process
from bench.records.progress import Doing, Failed, Progress
from bench.views import status

NOW = 1_800_000_100.0
ME = this_process()
GONE = ME.model_copy(update={"began": 1.0})


def run(**news: object) -> Progress:
    """A run that answers its third cell."""
    base = Progress(
        run="r1", owner=ME, began=NOW - 1000, told=NOW - 10, cells=12, answered=2, failed=1, left_s=610.0,
        doing=(Doing(device="cuda:0", what="gpt2 int4 (fake fake-int4) quality", phase="score", done=3, total=40,
                     since=NOW - 65, expected_s=120.0),),
        failures=(Failed(cell="gpt2 fp16 (fake fake-fp16) memory", ending="killed", reason="by someone"),),
    )  # fmt: skip
    return base.model_copy(update=news)


def test_a_running_run_says_what_it_does_how_far_and_until_when() -> None:
    """What is left counts from when it was told; what failed stands beneath."""
    assert status.lines([run()], None, [12], "results", NOW) == [
        f"run r1 runs (process {ME.pid}): 2 of 12 cells answered, 1 of them failed",
        "  cuda:0: gpt2 int4 (fake fake-int4) quality, score 3/40: 1 min 05 s of about 2 min 00 s",
        "  done in about 10 min 00 s, at 2027-01-15T08:11:40Z, as far as is predicted",
        "  gpt2 fp16 (fake fake-fp16) memory: killed: by someone",
    ]


def test_a_run_that_waits_was_killed_or_is_elsewhere_says_so() -> None:
    """Only what is known here is said of it."""
    waiting = run(doing=(), failures=(), waits_for="process 7", left_s=None)
    assert status.lines([waiting], None, [12], "results", NOW) == [
        f"run r1 waits for process 7 (process {ME.pid}): 2 of 12 cells answered, 1 of them failed"
    ]
    killed = status.lines([run(owner=GONE, failures=())], None, [12], "results", NOW)
    assert killed == [
        "run r1 was killed 2027-01-15T08:01:30Z: 2 of 12 cells answered, 1 of them failed",
        "1 call has stopped before the end: the same command goes on from there",
    ]
    away = run(owner=ME.model_copy(update={"place": "000000"}))
    assert status.state(away) == "elsewhere"


def test_without_a_run_the_last_one_is_told_and_what_is_open() -> None:
    """Nothing at all is one line."""
    assert status.lines([], None, [], "results", NOW) == ["nothing is being measured into results"]
    last = run(ended="full", doing=(), failures=(), failed=0, others=1)
    assert status.lines([], last, [12, 3], "results", NOW) == [
        "nothing is being measured into results",
        "",
        "run r1 ended early: full 2027-01-15T08:01:30Z: 2 of 12 cells answered, 1 by another bench",
        "2 calls have stopped before the end: the same command goes on from there",
    ]


def test_programs_get_a_row_for_each_device_and_one_for_each_failure() -> None:
    """In base units; only declared keys."""
    first, failed = status.flats([run()], NOW)
    assert (first["state"], first["cell"], first["seconds"], first["left_s"]) == (
        "running", "gpt2 int4 (fake fake-int4) quality", 65.0, 600.0,
    )  # fmt: skip
    assert (failed["state"], failed["cell"], failed["reason"]) == (
        "failed cell", "gpt2 fp16 (fake fake-fp16) memory", "killed: by someone",
    )  # fmt: skip
    (ended,) = status.flats([run(ended="done", doing=(), failures=())], NOW)
    assert (ended["state"], ended["left_s"], ended["done_at"]) == ("done", None, None)
