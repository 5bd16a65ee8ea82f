# SPDX-License-Identifier: Apache-2.0
"""Each precision against its 16-bit row as people and machines read it: ratios, verdicts, reasons."""

from __future__ import annotations

from builders import (
    divergence_samples,
    failed,
    make_cell,
    make_record,
    quality_samples,
)
from compared import LOST, RIGHT, memory, only, quality

from bench.records.record import Ending
from bench.views.comparison import details, flats, ratio_table, task_table, task_views


def test_a_failed_suite_gives_no_ratio_and_its_reason() -> None:
    """Whichever of the two rows lacks it."""
    lost = only([memory("fp16", 800), failed(make_cell("memory", "int8"), Ending.DOES_NOT_FIT, "too large")])
    assert ratio_table([lost]).rows[0][3] == "does not fit: too large"
    lost = only([failed(make_cell("memory", "fp16"), Ending.DOES_NOT_FIT, "too large"), memory("int8", 400)])
    assert ratio_table([lost]).rows[0][3] == "does not fit: too large"


def test_the_ratio_table_names_factors_and_distance() -> None:
    """Factors with an x, KL and the same top-1 with their errors."""
    found = only(
        [
            memory("fp16", 800),
            memory("int4", 200),
            make_record(make_cell("divergence", "int4"), measurements=divergence_samples()),
        ]
    )
    table = ratio_table([found])
    assert table.rows[0][:5] == ["tiny", "int4", "fake-int4", "0.25x", "0.36x"]
    assert table.rows[0][5:7] == ["not measured", "not measured"]
    assert table.rows[0][7].startswith("0.3 ±")
    assert table.rows[0][8].startswith("75.0% ±")
    assert ratio_table([only([memory("fp16", 8), memory("int8", 4)])]).rows[0][7:] == ["not measured"] * 2


def test_the_task_table_names_verdict_difference_and_flips() -> None:
    """One line for each task, the reason where there is no verdict."""
    rows = task_table([only([quality("fp16", RIGHT), quality("int8", LOST)])]).rows
    assert rows[0][:5] == ["tiny", "int8", "fake-int8", "task", "worse"]
    assert rows[0][5] == "-40.0 [-49.8, -30.9]"
    assert rows[0][6:9] == ["40", "0", "100"]
    refused = task_table([only([quality("fp16", RIGHT), quality("int8", LOST, digest="d2")])])
    assert refused.rows[0][4].startswith("different items or prompts")
    assert len(refused.rows[0]) == len(refused.titles)


def test_an_undecided_verdict_says_how_many_items_are_missing() -> None:
    """Never "no loss" from a test that could not have found one."""
    few = {"task": [1.0] * 8 + [0.0] * 2}
    (row,) = task_table([only([quality("fp16", few), quality("int8", few)])]).rows
    assert row[4].startswith("undecided (+")
    assert row[4].endswith(" items)")


def test_a_reference_at_chance_is_said_where_the_verdict_stands() -> None:
    """Task by task and over all of them; each comparison has a title of its own that tells engines apart."""
    answers = {name: [1.0] * 30 + [0.0] * 70 for name in ("a", "b")}
    base, this = (
        make_record(make_cell("quality", p), measurements=quality_samples(answers, chance=0.25))
        for p in ("fp16", "int8")
    )
    (view,) = task_views([only([base, this])], 0.01)
    assert view.title == "tiny int8 (fake-int8) against fake-fp16"
    assert [row[:2] for row in view.table.rows] == [
        ["a", "not measurable (at chance)"], ["b", "not measurable (at chance)"],
        ["all tasks", "not measurable (at chance)"],
    ]  # fmt: skip
    assert any("at chance" in note for note in view.notes)
    assert view.table.rows[0][2] == "+0.0 [-3.7, +3.7]"


def test_flat_comparisons_are_one_row_and_one_for_each_task() -> None:
    """Ratios in the first, verdicts in the others, None where there is none."""
    found = only([memory("fp16", 800), memory("int8", 400), quality("fp16", RIGHT), quality("int8", LOST, digest="d2")])
    whole, one = flats([found])
    assert (whole["scheme"], whole["reference"], whole["task"]) == ("fake-int8", "fake-fp16", None)
    assert whole["weights_bytes_ratio"] == 0.5
    assert whole["prefill_tokens_per_s_ratio"] is None
    assert whole["kld_mean"] is None
    assert (one["task"], one["verdict"], one["mcnemar_p"]) == ("task", None, None)
    assert one["reason"].startswith("different items or prompts")


def test_nothing_to_compare_is_no_view() -> None:
    """Ratios come first; what columns mean stands beneath the last table of tasks alone."""
    assert details([], 0.01) == []
    found = [only([quality("fp16", RIGHT), quality(precision, LOST)]) for precision in ("int8", "int4")]
    ratios, first, last = details(found, 0.01)
    assert ratios.title == "against the model's own 16-bit row"
    assert (first.notes, len(last.notes)) == ((), 6)
