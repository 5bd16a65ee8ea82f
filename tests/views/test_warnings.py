# SPDX-License-Identifier: Apache-2.0
"""Warnings grouped by what they mean, marked where they apply, at most five lines of them."""

from __future__ import annotations

import pytest
from builders import make_cell, make_record, memory_samples, quality_samples, speed_samples

from bench.judge.rows import Row, newest
from bench.records.record import Caveat
from bench.views.columns import COLUMNS, VIEWS
from bench.views.table import people
from bench.views.warnings import MOST, Warnings, every

MEASURED = {"memory": memory_samples(), "throughput": speed_samples(), "quality": quality_samples({"a": [1.0, 0.0]})}


def rows(*given: tuple[str, str, str, str]) -> list[Row]:
    """Rows whose records carry these warnings: precision, suite, kind, text."""
    return newest(
        make_record(
            make_cell(suite, precision), measurements=MEASURED[suite],
            warnings=[Caveat(kind=kind, text=text) for p, s, kind, text in given if (p, s) == (precision, suite)],
        )
        for precision in ("fp16", "int8")
        for suite in MEASURED
    )  # fmt: skip


def test_one_line_for_each_meaning_with_the_rows_it_concerns() -> None:
    """Two kinds that make speed unsure are one line; what concerns most rows comes first."""
    found = Warnings(
        rows=rows(
            ("fp16", "throughput", "noisy", "prefill: the interval is 12% of the median"),
            ("fp16", "throughput", "busy_machine", "load was 1.6"),
            ("int8", "throughput", "busy_machine", "load was 1.9"),
            ("int8", "memory", "peak_disputed", "two counters disagree"),
        ),
        columns=VIEWS["default"],
    )
    first, last = found.lines()
    assert first == (
        "(a) speed is unsure: other programs ran as the run began (all rows); "
        "repeats still differ after the last (fake-fp16)"
    )
    assert last == "(b) memory is unsure: two counters disagree (fake-int8). In full: --warnings"


def test_a_mark_stands_in_the_cells_that_a_warning_concerns() -> None:
    """A wide interval of prefill says nothing of decode; what is said of the weights stands behind the precision."""
    given = rows(
        ("fp16", "throughput", "noisy", "prefill: the interval is 12% of the median"),
        ("int8", "quality", "low_bit_source", "made from Q4_1"),
    )
    half, eight = people(given, VIEWS["default"]).rows
    titles = ["model", "precision", "scheme", *(COLUMNS[name].title for name in VIEWS["default"])]
    marked = {title for title, cell in zip(titles, half, strict=True) if "(a)" in cell}
    assert marked == {"prefill tok/s"}
    assert [title for title, cell in zip(titles, eight, strict=True) if "(b)" in cell] == ["precision"]


def test_a_view_says_only_what_concerns_its_columns() -> None:
    """Other programs say nothing of memory, and a further point's interval nothing of the main point."""
    given = rows(
        ("fp16", "memory", "busy_machine", "load was 2"),
        ("fp16", "throughput", "noisy", "prefill at batch 16, prompt 128: the interval is 17% of the median"),
    )
    assert Warnings(rows=given, columns=VIEWS["default"]).lines() == []
    assert every(given) == [
        "warning, tiny fp16 (memory): busy machine: load was 2",
        "warning, tiny fp16 (throughput): noisy: prefill at batch 16, prompt 128: the interval is 17% of the median",
    ]


@pytest.mark.parametrize("most", [1, 3, MOST])
def test_never_more_lines_than_there_is_room_for(most: int) -> None:
    """A dozen kinds of unsure speed: what has no room is counted."""
    given = [("fp16", "throughput", f"kind_{i}", f"something happened number {i}, in many words") for i in range(12)]
    lines = Warnings(rows=rows(*given), columns=VIEWS["default"]).lines(most)
    assert sum(-(-len(line) // 100) for line in lines) <= most
    assert " more" in lines[-1]


def test_one_kind_raised_in_several_suites_says_of_which_it_is() -> None:
    """Two cells ran at two moments. What is said of the weights holds for every suite that read them."""
    given = rows(
        ("fp16", "memory", "swapping", "swapped 2 MiB"),
        ("int8", "memory", "swapping", "swapped 3 MiB"),
        ("fp16", "throughput", "swapping", "swapped 4 MiB"),
        ("int8", "memory", "peak_disputed", "two counters disagree"),
        ("int8", "memory", "low_bit_source", "made from Q4_1"),
        ("int8", "quality", "low_bit_source", "made from Q4_1"),
    )
    first, last = Warnings(rows=given, columns=VIEWS["default"]).lines()
    assert first == (
        "(a) memory is unsure: the machine swapped meanwhile (memory of all rows; throughput of fake-fp16); "
        "two counters disagree (fake-int8)"
    )
    assert last.startswith("(b) the weights: quantized before, and what that lost stays lost at every precision (fake-")


def test_one_kind_that_says_two_things_says_of_which_suite_each_is() -> None:
    """`not_measured` of the speed and of the quality are two gaps."""
    given = rows(
        ("fp16", "throughput", "not_measured", "batch 16 does not fit"),
        ("fp16", "quality", "not_measured", "one task is missing"),
        ("int8", "quality", "not_measured", "one task is missing"),
    )
    (line,) = Warnings(rows=given, columns=VIEWS["default"]).lines()
    assert line == (
        "(a) less than asked: one task is missing (quality of all rows); "
        "batch 16 does not fit (throughput of fake-fp16). In full: --warnings"
    )
