# SPDX-License-Identifier: Apache-2.0
"""Two calls at once: what one of them has settled the other does not measure again, and equal cards are two devices."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from builders import called, make_machine

from bench.engines import fake
from bench.instruments import machine
from bench.plan.plan import Plan
from bench.plan.selection import Selection
from bench.records.record import Record
from bench.records.store import Runs, Store
from bench.run import measure
from bench.run.measure import continued, run_key
from bench.run.options import RunOptions

SUITES = "memory,throughput"


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Any]:
    """`bench run` on the fake with results and cache of the test's own: exit code, stdout and stderr."""
    monkeypatch.setenv("BENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("BENCH_FAKE_FAULT", "")

    def call(*options: str, suite: str = SUITES) -> tuple[Any, str, str]:
        asked = ["--profile", "smoke", "--suite", suite, "--precision", "fp16", "--device", "cpu"]
        return called(capsys, "run", "--backend", "fake", *asked, "--results", tmp_path / "results", *options)

    return call


@pytest.fixture
def meanwhile(monkeypatch: pytest.MonkeyPatch) -> list[Callable[[], object]]:
    """What others do while the next call waits for its turn, which is told that it waited."""
    doing: list[Callable[[], object]] = []
    real = measure.measuring

    @contextlib.contextmanager
    def waiting(name: str, **options: Any) -> Iterator[bool]:
        others = doing[:]
        doing.clear()
        for other in others:
            other()
        with real(name, **options) as waited:
            yield waited or bool(others)

    monkeypatch.setattr(measure, "measuring", waiting)
    return doing


def records(tmp_path: Path) -> list[Record]:
    """All there are."""
    return list(Store(tmp_path / "results").records())


@pytest.mark.parametrize("options", [(), ("--missing",)])
def test_what_another_call_measured_meanwhile_is_not_measured_again(
    tmp_path: Path, run: Callable[..., Any], meanwhile: list[Callable[[], object]], options: tuple[str, ...]
) -> None:
    """The same call, started twice at once: two records, and both show them."""
    meanwhile.append(lambda: run(*options))
    code, out, _ = run(*options)
    assert code == 0
    assert sorted(record.cell.suite for record in records(tmp_path)) == ["memory", "throughput"]
    assert "nothing to run: 2 cells are settled" in out
    assert "fake-fp16" in out


def test_only_what_the_other_call_left_is_measured(
    tmp_path: Path, run: Callable[..., Any], meanwhile: list[Callable[[], object]]
) -> None:
    """Another question that shares a cell."""
    meanwhile.append(lambda: run(suite="memory"))
    assert run()[0] == 0
    assert sorted(record.cell.suite for record in records(tmp_path)) == ["memory", "throughput"]
    assert len({record.run for record in records(tmp_path)}) == 2


def test_a_new_run_is_one_whatever_others_measured(
    tmp_path: Path, run: Callable[..., Any], meanwhile: list[Callable[[], object]]
) -> None:
    """--fresh asks for everything; so does a call that begins after another has ended."""
    meanwhile.append(run)
    assert run("--fresh")[0] == 0
    assert len(records(tmp_path)) == 4
    assert run()[0] == 0
    assert len(records(tmp_path)) == 6


def test_an_interrupted_call_that_was_waited_for_is_gone_on_with(
    tmp_path: Path, run: Callable[..., Any], meanwhile: list[Callable[[], object]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Planned before the other began, measured after it broke off: under its run, and only the rest."""

    def broken() -> None:
        monkeypatch.setenv("BENCH_FAKE_FAULT", "crash@log_probs")
        run(suite="memory,divergence")
        monkeypatch.setenv("BENCH_FAKE_FAULT", "")

    meanwhile.append(broken)
    code, _, errors = run(suite="memory,divergence")
    assert code == 0
    assert len({record.run for record in records(tmp_path)}) == 1
    endings = sorted((r.cell.suite, r.outcome.ending.value) for r in records(tmp_path))
    assert endings == [("divergence", "killed"), ("divergence", "ok"), ("memory", "ok")]
    assert "another bench has answered 2 cells since this call began" in errors


def test_a_machine_that_was_full_while_another_measured_is_looked_at_again(
    tmp_path: Path, run: Callable[..., Any], meanwhile: list[Callable[[], object]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What did not fit beside the other's model is no finding once that has ended."""
    monkeypatch.setattr(machine, "free_bytes", lambda kind: 1000)
    meanwhile.append(lambda: monkeypatch.setattr(machine, "free_bytes", lambda kind: 10**12))
    assert run(suite="memory")[0] == 0
    assert [record.outcome.ending.value for record in records(tmp_path)] == ["ok"]


def test_a_question_to_a_server_is_not_asked_twice_at_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nothing here computes, so there is no device to lock, and each answer costs money: the question is the lock."""
    names: list[str] = []

    @contextlib.contextmanager
    def noted(name: str, **options: Any) -> Iterator[bool]:
        names.append(name)
        yield False

    monkeypatch.setattr(measure, "measuring", noted)
    engines = [fake.BACKEND, replace(fake.BACKEND, roof=None, remote=True), replace(fake.BACKEND, roof=None)]
    for engine in engines:
        for selection in (Selection(), Selection(models=("other",))):
            for folder in ("a", "b"):
                store, here = Store(tmp_path / folder), make_machine()
                with measure._alone([engine], selection, store, here, wait=True, tell=names.append):
                    pass
    assert len(set(names[:4])) == 4 and names[4:8] == names[:4]
    assert set(names[8:]) == {make_machine().device}


def test_equal_cards_have_runs_and_locks_of_their_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """They share a device name, so that their records stand together; what one is doing the other does not take up."""
    here = make_machine(kind="cuda", device="cuda-card")
    found = []
    for uuid in ("GPU-1", "GPU-2", "GPU-1"):
        monkeypatch.setattr(machine, "gpu", lambda uuid=uuid: {"uuid": uuid, "name": "card"})
        found.append((machine.lock_name(here), run_key(Selection(), here)))
    assert found[0] == found[2]
    assert found[0][0] != found[1][0] and found[0][1] != found[1][1]
    Runs(tmp_path).begin(found[0][1], "of-the-first", [])
    plan, store = Plan(cells=(), left_out=()), Store(tmp_path)
    for key, same in ((found[1][1], False), (found[0][1], True)):
        call = continued(plan, key, store, RunOptions(), lambda run: (), fresh=False)
        assert (call.run == "of-the-first") is same
    cpu = make_machine()
    assert run_key(Selection(), cpu) == Selection().key
