# SPDX-License-Identifier: Apache-2.0
"""Speed behind a text that has been read: llama-bench's tests, at exactly the fake's rates."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from builders import engine_of, make_cell, make_record, suite_run

from bench.judge.figures import figures
from bench.suite import SuiteRun
from suites import depths, throughput

ASKED: dict[str, Any] = {"depths": [0, 1024], "depth_prompt_tokens": 512, "depth_decode_tokens": 32, "depth_repeats": 3}


def run_of(tmp_path: Path, **changes: Any) -> SuiteRun:
    """A run of the throughput suite with depths."""
    run = suite_run("throughput", engine_of("fake-fp16"), tmp_path)
    run.cell = run.cell.model_copy(update={"settings": {**run.cell.settings, **ASKED, **changes}})
    return run


def test_both_tests_stand_at_each_depth_in_llama_benchs_words(tmp_path: Path) -> None:
    """The fake reads 2,000 and generates 40 tokens a second at every depth."""
    run = run_of(tmp_path)
    record = make_record(make_cell("throughput"), measurements=tuple(depths.measure(run)))
    rates = {name: value.value for name, value in figures(record).items()}
    assert rates == pytest.approx(
        {
            "tokens_per_s:pp512@d0": 2000.0,
            "tokens_per_s:tg32@d0": 40.0,
            "tokens_per_s:pp512@d1024": 2000.0,
            "tokens_per_s:tg32@d1024": 40.0,
        }
    )
    assert not run.caveats


def test_what_is_timed_is_what_comes_behind_the_cache(tmp_path: Path) -> None:
    """Three repeats, the round before them left out; filling the cache is in none of them."""
    found = {(m.name, m.labels["depth"]): m for m in depths.measure(run_of(tmp_path))}
    assert found["depth_prefill_s", 1024].values == pytest.approx((512 / 2000,) * 3)
    assert found["depth_decode_s", 1024].values == pytest.approx((32 / 40,) * 3)


def test_a_depth_beyond_the_context_is_left_out_with_its_reason(tmp_path: Path) -> None:
    """The fake has 4,096 positions."""
    run = run_of(tmp_path, depths=[1024, 4096])
    assert {m.labels["depth"] for m in depths.measure(run)} == {1024}
    assert [c.text for c in run.caveats] == [
        "throughput at depth 4096: 4608 tokens are more than this model's context of 4096"
    ]


def test_a_spent_share_leaves_depths_out(tmp_path: Path) -> None:
    """With the caveat by which a later call knows that something is left."""
    run = run_of(tmp_path)
    run.spent = lambda ahead_s=0.0: True
    assert depths.measure(run) == []
    assert {c.kind for c in run.caveats} == {"cut_by_budget"}


def test_predicted_and_found_work_are_the_same(tmp_path: Path) -> None:
    """Both count the round before the repeats, and every cache that was filled."""
    run = run_of(tmp_path)
    assert depths.done(depths.measure(run)) == depths.work(run.settings)


def test_the_full_profile_alone_asks_for_depths() -> None:
    """They take minutes."""
    assert [name for name, settings in throughput.PROFILES.items() if "depths" in settings] == ["full"]
