# SPDX-License-Identifier: Apache-2.0
"""What `bench plan` says of a budget, and of a text that will not do, before anything is loaded."""

import json
from dataclasses import replace

import pytest
from builders import called

from bench.records.record import Caveat
from bench.records.store import Store
from bench.suite import Pace


@pytest.fixture
def bench(tmp_path, monkeypatch, capsys):
    """A command in this process, with a cache of the test's own: exit code, stdout and stderr."""
    monkeypatch.setenv("BENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("BENCH_FAKE_FAULT", raising=False)
    return lambda *arguments: called(capsys, *arguments)


SECONDS = {"memory": 10.0, "throughput": 100.0}


def known_pace(monkeypatch):
    """Let every suite be predicted to take what SECONDS says, a tenth of it at least."""
    from bench.plan import plan as module
    from suites import suite

    def timed(planned, estimator, known):
        seconds, work = SECONDS[planned.cell.suite], suite(planned.cell.suite).least(planned.cell.settings)
        pace = Pace(prefill_s=seconds / 10 / (work.prefill_tokens + work.decode_tokens), decode_s=0.0)
        pace = pace.model_copy(update={"decode_s": pace.prefill_s})
        predicted = planned.predicted.model_copy(update={"seconds": seconds})
        return replace(planned, pace=pace, predicted=predicted)

    monkeypatch.setattr(module, "_timed", timed)


def test_plan_says_what_a_budget_would_cut(bench, tmp_path, monkeypatch):
    """Before it is spent: minima of 1 and 10 s, of the rest each the same part; then what is left out, or nothing."""
    known_pace(monkeypatch)
    chosen = ["plan", "--backend", "fake", "--precision", "fp16", "--suite", "memory,throughput", "--device", "cpu"]
    chosen += ["--results", tmp_path / "r"]

    def last(*options):
        return bench(*chosen, *options)[1].splitlines()[-1]

    parts = "fake-fp16 memory to 5.0 s of 10 s; fake-fp16 throughput to 50 s of 1 min 40 s"
    assert last("--budget", "55s") == f"a budget of 55 s (--budget) cuts {parts}"
    assert last("--budget", "5s") == "a budget of 5.0 s (--budget) leaves undecided fake-fp16 throughput"
    assert last("--budget", "2min") == "a budget of 2 min 00 s (--budget) is enough, loading apart"
    assert last("--budget", "none") == "2 cells, about 1 min 57 s, 6.9 s of it loading"
    assert last() == "a budget of 8 min 00 s (--budget) is enough, loading apart"
    assert bench(*chosen, "--budget", "soon")[0] == 2
    for options, shares in ((["--budget", "5s"], [5.0, 0.0]), (["--profile", "full"], [None, None])):
        rows = json.loads(bench(*chosen, *options, "--format", "json")[1])
        assert [row["budget_s"] for row in rows] == shares


def test_plan_knows_which_cut_cells_a_larger_budget_asks_again(bench, tmp_path):
    """As `run --missing` does."""
    chosen = ["--backend", "fake", "--precision", "fp16", "--suite", "memory", "--device", "cpu"]
    chosen += ["--results", tmp_path / "r"]
    assert bench("run", *chosen, "--quiet")[0] == 0
    store = Store(tmp_path / "r")
    (record,) = store.records()
    cut = Caveat(kind="cut_by_budget", text="cut", advice="a larger budget")
    store.write(record.model_copy(update={"warnings": (cut,), "budget_s": 60.0}))  # in its place
    for budget, planned in (("60s", 0), ("59s", 0), ("61s", 1), ("none", 1)):
        rows = json.loads(bench("plan", *chosen, "--missing", "--budget", budget, "--format", "json")[1])
        assert len(rows) == planned
    assert len(json.loads(bench("plan", *chosen, "--missing", "--format", "json")[1])) == 1  # eight minutes, as usual


@pytest.mark.parametrize("command", ["plan", "run"])
def test_a_text_that_is_too_short_is_said_before_anything_is_loaded(bench, tmp_path, command):
    """No token is shorter than a byte; where only the tokenizer could tell, it is a warning. Other suites read none."""
    chosen = [command, "--backend", "fake", "--precision", "fp16", "--profile", "smoke", "--device", "cpu"]
    chosen += ["--results", tmp_path / "r", "--text", tmp_path / "own.txt"]
    (tmp_path / "own.txt").write_text("a" * 127)
    code, out, err = bench(*chosen)
    assert (code, out) == (2, "")
    assert err == (
        "bench: own.txt is too short: 2 windows of 64 tokens are needed, and it is 127 bytes; "
        "give at least 128 tokens, about 512 bytes\n"
    )
    assert not (tmp_path / "r").exists()
    assert bench(*chosen, "--suite", "memory")[0] == 0
    may = "own.txt may be too short: 2 windows of 64 tokens are needed, and its {0} bytes are about {1} tokens\n"
    for size, said in ((128, may.format(128, 32)), (511, may.format(511, 127)), (512, "")):
        (tmp_path / "own.txt").write_text("a" * size)
        code, _, err = bench(*chosen, "--suite", "divergence", *(["--quiet"] if command == "run" else []))
        assert (code, err) == (0, said)
