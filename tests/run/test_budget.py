# SPDX-License-Identifier: Apache-2.0
"""How a budget is shared among cells: by hand, and through the real command on the fake's known clock."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from builders import make_cell, make_record, make_versions

from bench.instruments.machine import installed
from bench.plan.plan import _answers
from bench.records.record import Caveat, Record
from bench.records.store import Store
from bench.run.budget import Budget, Need
from bench.run.options import budget_s, default_budget_s

ROOT = Path(__file__).resolve().parents[2]
TOLERANCE = 1.1
"""A budget may be exceeded by a tenth."""


def needs(*told: tuple[str, float, float]) -> tuple[Need, ...]:
    """Needs of a scheme's suites: all of it, and the minimum. The divergence of `b` waits for that of `a`."""
    found = []
    for name, seconds, least in told:
        scheme, suite = name.split()
        reference = "a divergence" if name == "b divergence" else None
        found.append(Need(key=name, scheme=scheme, suite=suite, seconds=seconds, least_s=least, reference=reference))
    return tuple(found)


TWO = needs(
    ("a memory", 2, 2), ("a throughput", 20, 5), ("a divergence", 12, 2), ("b memory", 2, 2), ("b divergence", 14, 4)
)


def test_each_cell_has_its_minimum_and_its_part_of_the_rest() -> None:
    """15 s of minima leave 15 of 30; windows need 20 more and repeats 15: a fifth of these, three fifths of those."""
    shares = Budget(left_s=30, needs=TWO).shares()
    assert shares == pytest.approx({
        "a memory": 2, "b memory": 2, "a divergence": 2 + 6, "b divergence": 4 + 6, "a throughput": 5 + 3,
    })  # fmt: skip


def test_what_windows_do_not_need_is_left_to_the_others() -> None:
    """25 s beyond the minima: three times a quarter would be more than windows need, so repeats have the other 5."""
    shares = Budget(left_s=40, needs=TWO).shares()
    assert shares == pytest.approx({
        "a memory": 2, "b memory": 2, "a divergence": 12, "b divergence": 14, "a throughput": 5 + 5,
    })  # fmt: skip


def test_with_plenty_of_time_nobody_has_less_than_is_predicted() -> None:
    """And what is predicted is shared in full."""
    budget = Budget(left_s=400, needs=TWO)
    assert all(budget.shares()[need.key] >= need.seconds for need in TWO)


def test_a_cell_that_is_expected_to_take_no_time_has_some() -> None:
    """A tiny model's is predicted as 0 s: with minutes to spare it is not cut at its minimum."""
    budget = Budget(left_s=480, needs=needs(("a quality", 0.0, 0.0), ("b quality", 0.1, 0.0), ("c quality", 20, 5)))
    shares = budget.shares()
    assert shares["a quality"] == pytest.approx((480 - 20.1) / 17)
    assert shares["b quality"] == pytest.approx(0.1 + (480 - 20.1) / 17)
    assert sum(shares.values()) == pytest.approx(480)


def test_the_least_useful_minimum_is_left_out_first() -> None:
    """Memory before windows, windows before speed; a row is not compared with a reference that is not there."""
    assert set(Budget(left_s=10, needs=TWO).shares()) == {"a memory", "b memory", "a divergence", "b divergence"}
    assert set(Budget(left_s=9, needs=TWO).shares()) == {"a memory", "b memory", "a divergence"}
    assert set(Budget(left_s=5, needs=TWO).shares()) == {"a memory", "b memory"}
    assert Budget(left_s=1, needs=TWO).shares() == {}
    assert set(Budget(left_s=400, needs=TWO).without("a divergence").shares()) == {
        "a memory", "b memory", "a throughput",
    }  # fmt: skip


def test_what_a_scheme_took_is_expected_of_its_other_cells() -> None:
    """Memory took 11 s instead of 2: with the second that says little, its scheme is four times slower, no other is."""
    left = Budget(left_s=100, needs=TWO).after("a memory", 11, 2)
    assert left.left_s == 89
    minima = {need.key: left._now(need)[1] for need in left.needs}
    assert minima == {"a throughput": 20, "a divergence": 8, "b memory": 2, "b divergence": 4}


def test_seconds_without_an_answer_are_gone_and_tell_nothing() -> None:
    """A worker that died, and a cell whose work is not known."""
    left = Budget(left_s=100, needs=TWO).spend(30).after("a memory", 10)
    assert (left.left_s, left.looks) == (60, {})


def test_what_budget_says() -> None:
    """None is no end; the standard profile has eight minutes for each model and engine, the others none."""
    assert [budget_s(text) for text in ("none", "0", "90s", "8min")] == [None, None, 90, 480]
    cells = [make_cell(suite) for suite in ("memory", "throughput")]
    assert default_budget_s("standard", cells) == 480
    assert default_budget_s("standard", [*cells, make_cell("memory", model="another")]) == 960
    assert default_budget_s("smoke", cells) is default_budget_s("full", cells) is None
    assert default_budget_s("standard", [make_cell("capacity")]) is None


@pytest.mark.parametrize(("now", "settled"), [(60.0, True), (30.0, True), (61.0, False), (None, False)])
def test_a_cut_cell_is_asked_again_with_a_larger_budget(now: float | None, settled: bool) -> None:
    """Of `--missing`: the same budget would cut it again."""
    versions = make_versions(**installed(("numpy",)))
    record = make_record(warnings=(Caveat(kind="cut_by_budget", text="cut"),), budget_s=60.0, versions=versions)
    assert record.cut
    assert _answers(record, record.cell.device, now) is settled
    assert _answers(make_record(versions=versions), record.cell.device, now)


def run(tmp_path: Path, *options: str) -> tuple[dict[str, Record], str]:
    """`bench run` on the fake: the records by scheme and suite, and what was said."""
    command = [
        sys.executable, "-m", "bench", "run", "--backend", "fake", "--device", "cpu",
        "--suite", "memory,throughput,divergence", "--results", str(tmp_path / "results"), *options,
    ]  # fmt: skip
    env = {**os.environ, "BENCH_CACHE": str(tmp_path / "cache"), "BENCH_FAKE_FAULT": "", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=ROOT, env=env, check=True, capture_output=True, text=True)
    found = {f"{r.cell.scheme} {r.cell.suite}": r for r in Store(tmp_path / "results").records()}
    return found, " ".join(done.stderr.split())


def spent(records: dict[str, Record]) -> float:
    """Seconds that all cells took."""
    return sum(record.seconds for record in records.values())


def test_a_run_keeps_to_its_budget_and_rows_of_different_length_pair(tmp_path: Path) -> None:
    """Standard cells of four schemes need 100 s; in 60 every one is answered, and says what was left out."""
    from bench.judge.compare import compare
    from bench.judge.rows import newest

    whole, _ = run(tmp_path / "whole", "--budget", "none")
    assert spent(whole) > 90
    assert not any(record.cut or record.budget_s for record in whole.values())
    found, said = run(tmp_path / "short", "--budget", "60s")
    assert len(found) == 12
    assert spent(found) <= 60 * TOLERANCE
    assert "undecided" not in said
    assert all(found[f"fake-{name} memory"].cut is False for name in ("fp32", "fp16", "int8", "int4"))
    assert {record.budget_s for record in found.values()} == {60.0}
    cut = found["fake-fp16 throughput"]
    assert cut.cut
    assert cut.cell.settings == whole["fake-fp16 throughput"].cell.settings
    longer = whole["fake-int8 throughput"]
    comparisons, _ = compare(newest([cut, longer, found["fake-fp16 memory"]]))
    assert comparisons[0].ratios["decode_tokens_per_s"].value == pytest.approx(50 / 40)


def test_five_seconds_measure_what_fits_and_name_the_rest(tmp_path: Path) -> None:
    """The memory cells come first; what stays undecided is no failure, and the same call goes on with it."""
    found, said = run(tmp_path, "--budget", "5s")
    assert {record.cell.suite for record in found.values()} >= {"memory"}
    assert spent(found) <= 5 * TOLERANCE
    assert "stay undecided" in said
    rest, said = run(tmp_path, "--budget", "none")
    assert len(rest) == 12
    assert "continuing run" in said or found == {}
