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

from bench.catalog.entries import read_catalog
from bench.engines import fake
from bench.instruments import machine
from bench.plan.plan import Plan, make_plan
from bench.plan.selection import Selection
from bench.records.cell import UNTRIED, Precision
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


@pytest.fixture
def ways(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The fake as an engine with two ways of attending on a device where none was tried; what happened, in order."""
    happened: list[str] = []
    real = measure.measuring

    @contextlib.contextmanager
    def noted(name: str, **options: Any) -> Iterator[bool]:
        with real(name, **options) as waited:
            happened.append("alone")
            yield waited
            happened.append("others")

    def told(machine: object, kv: str | None) -> str:
        return "plain" if "tried" in happened else UNTRIED

    def tries(machine: object) -> str:
        happened.append("tried")
        return "the fake attends plain"

    monkeypatch.setattr(measure, "measuring", noted)
    monkeypatch.setattr(fake, "BACKEND", replace(fake.BACKEND, attention=told, try_attention=tries))
    return happened


def test_what_is_not_known_of_a_device_is_tried_while_nothing_else_measures(
    tmp_path: Path, run: Callable[..., Any], ways: list[str]
) -> None:
    """Once, and every cell is planned anew with what was found."""
    code, _, errors = run()
    assert (code, ways) == (0, ["alone", "tried", "others"])
    assert "the fake attends plain" in errors
    assert {record.cell.settings["attention"] for record in records(tmp_path)} == {"plain"}
    assert run()[0] == 0
    assert ways == ["alone", "tried", "others", "alone", "others"]


def test_a_cell_that_may_not_fit_is_not_recorded_before_its_way_is_known(
    tmp_path: Path, run: Callable[..., Any], ways: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What does not fit in any way is a record too."""
    monkeypatch.setattr(machine, "free_bytes", lambda kind: 1000)
    assert run(suite="memory")[0] == 0
    (record,) = records(tmp_path)
    assert (record.outcome.ending.value, record.cell.settings["attention"]) == ("does_not_fit", "plain")


def test_joined_plans_count_a_load_and_a_reason_once() -> None:
    """Two claims ask for cells of one loaded model, and one of them twice."""

    def planned(*suites: str) -> Plan:
        asked = Selection(backends=("fake",), suites=suites, precisions=(Precision.FP16, Precision.SERVED))
        return make_plan(asked, read_catalog(), make_machine())

    one, two, both = planned("memory"), planned("throughput", "memory"), planned("memory", "throughput")
    joined = measure.together([one, two])
    assert one.loading_s > 0 and len(one.left_out) == 1
    assert (joined.seconds, joined.loading_s) == pytest.approx((both.seconds, both.loading_s))
    assert joined.loading_s == pytest.approx(one.loading_s)
    assert joined.left_out == one.left_out


def test_a_run_that_goes_on_announces_the_seconds_that_are_left() -> None:
    """Cells that are settled take none, nor does a load that no cell needs."""
    asked = Selection(backends=("fake",), suites=("memory",), precisions=(Precision.FP16, Precision.INT8))
    made = make_plan(asked, read_catalog(), make_machine())
    left = replace(made, cells=made.cells[:1])
    assert 0 < left.loading_s < made.loading_s
    assert left.seconds == pytest.approx(left.loading_s + (made.cells[0].predicted.seconds or 0))


def test_a_question_to_a_server_is_not_asked_twice_at_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nothing here computes, so there is no device to lock, and each answer costs money: the question is the lock."""
    names: list[str] = []

    @contextlib.contextmanager
    def noted(name: str, **options: Any) -> Iterator[bool]:
        names.append(name)
        yield False

    monkeypatch.setattr(measure, "measuring", noted)
    monkeypatch.setattr(measure, "measuring_on", lambda devices, **options: noted(*devices, **options))
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
    assert run_key(Selection(), make_machine()) != run_key(Selection(), make_machine(device="cpu-another"))
