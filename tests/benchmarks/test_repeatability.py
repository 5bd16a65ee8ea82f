# SPDX-License-Identifier: Apache-2.0
"""The report on runs that repeat: pairs counted from known rates, and the whole of it regenerated in small."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from builders import make_cell, make_record

from bench.judge.stats import Estimate
from bench.paths import ROOT
from benchmarks import repeatability
from benchmarks.repeatability import RATES, Fresh


def fresh(prefill: tuple[float, float, float], decode: tuple[float, float, float]) -> Fresh:
    """A run with those medians and intervals."""
    return Fresh(
        make_record(make_cell("throughput")), dict(zip(RATES, (Estimate(*prefill), Estimate(*decode)), strict=True))
    )


STEADY = fresh((100, 98, 102), (20, 19, 21))
SLOWER = fresh((97, 96, 98), (20, 19, 21))
OTHER = fresh((90, 80, 97.5), (22, 21.5, 23))


def test_runs_agree_if_the_intervals_of_both_rates_meet() -> None:
    """At one point too; a rate apart from its neighbour's is named."""
    assert repeatability.apart(STEADY, SLOWER) == []
    assert repeatability.apart(STEADY, OTHER) == ["prefill_tokens_per_s", "decode_tokens_per_s"]
    assert repeatability.apart(SLOWER, OTHER) == ["decode_tokens_per_s"]


def test_the_table_counts_neighbours_pairs_and_intervals_that_hold_the_truth() -> None:
    """One of two neighbours, one of three pairs; 98 and 20 are held by two runs each."""
    page = repeatability.table([STEADY, SLOWER, OTHER], dict(zip(RATES, (98.0, 20.0), strict=True)))
    assert page[2].startswith("| 1 | 2026-01-01T00:00:00Z | 0 | 100.0 [98.0, 102.0] | 20.0 [19.0, 21.0] |")
    assert page[6] == (
        "Neighbours that agree in both rates: **1 of 2**; of all pairs 1 of 3. "
        "Highest median above the lowest: prefill 11.1%, decode 10.0%."
    )
    assert page[7] == "Runs 2 and 3 disagree in decode_tokens_per_s."
    assert page[-1] == "Intervals that hold the true rate (prefill 98, decode 20): 4 of 6."


@pytest.mark.parametrize(("runs", "code"), [([STEADY, SLOWER], 0), ([STEADY, OTHER], 1)])
def test_runs_that_disagree_fail_the_script(monkeypatch, tmp_path: Path, runs: list[Fresh], code: int) -> None:
    """On a real machine, and on the fake where fewer than nineteen of twenty agree; the report is written first."""
    monkeypatch.setattr(
        repeatability, "run_afresh", lambda count, options, noise=0.0: runs if not noise else [STEADY] * 3
    )
    assert repeatability.main(["2"]) == code
    monkeypatch.setattr(repeatability, "run_afresh", lambda count, options, noise=0.0: runs if noise else [STEADY] * 3)
    assert repeatability.main(["2", "--report", str(tmp_path / "new" / "report.md")]) == code
    assert "## The fake with injected noise" in (tmp_path / "new" / "report.md").read_text(encoding="utf-8")


def test_the_report_is_regenerated_in_small(tmp_path: Path) -> None:
    """Fresh runs by the command itself: the known rates without noise, near them with it, and a checkout is enough."""
    out = tmp_path / "report.md"
    env = {name: value for name, value in os.environ.items() if name not in {"PYTHONPATH", "BENCH_FAKE_NOISE"}}
    command = [sys.executable, "-m", "benchmarks.repeatability", "2", "--report", str(out), "--fake-runs", "3"]
    command += ["--backend", "fake", "--precision", "fp16", "--device", "cpu"]
    done = subprocess.run(
        command, cwd=ROOT, check=True, capture_output=True, text=True, env={**env, "BENCH_CACHE": str(tmp_path)}
    )
    first, second, pair, fake = done.stdout.splitlines()
    assert all("prefill 2000.0 [2000.0, 2000.0], decode 40.0 [40.0, 40.0] tokens/s" in line for line in (first, second))
    assert (pair, fake) == ("runs 1 and 2: agree", "fake with 8% of noise: 2 of 2 neighbours agree")
    page = out.read_text(encoding="utf-8")
    real, noisy = page.split("## The fake with injected noise")
    assert "fake fake-fp16, standard profile, threads 1" in real
    assert "**1 of 1**; of all pairs 1 of 1. Highest median above the lowest: prefill 0.0%, decode 0.0%." in real
    rows = [line.split(" | ")[3] for line in noisy.splitlines() if line.startswith(("| 1 ", "| 2 ", "| 3 "))]
    assert len(set(rows)) == 3
    assert "(prefill 2000, decode 40): 6 of 6." in noisy
