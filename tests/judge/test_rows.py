# SPDX-License-Identifier: Apache-2.0
"""Records become rows: the newest comparable record of each suite, and why there is none."""

from __future__ import annotations

import pytest
from builders import (
    failed,
    make_cell,
    make_record,
)

from bench.judge.reasons import NOT_MEASURED, Missing
from bench.judge.rows import Row, newest, with_any
from bench.records.cell import Weights
from bench.records.record import Ending, Outcome, Record


def only(rows: list[Row]) -> Row:
    (row,) = rows
    return row


VERSION = make_cell().suite_version


OLD = make_record(make_cell(profile="smoke"), started="2026-01-05T00:00:00Z")


BETTER = {
    "a newer suite version": failed(make_cell(suite_version=VERSION + 1), started="2026-01-01T00:00:00Z"),
    "a larger profile": make_record(make_cell(profile="standard"), started="2026-01-01T00:00:00Z"),
    "a later start": make_record(make_cell(), started="2026-01-06T00:00:00Z"),
}


WORSE = {
    "a failure, though later": failed(make_cell(), started="2026-01-09T00:00:00Z"),
    "a failure of a larger profile": failed(make_cell(profile="full"), started="2026-01-09T00:00:00Z"),
    "an unknown profile": make_record(make_cell(profile="own"), started="2026-01-09T00:00:00Z"),
    "an older suite version": make_record(
        make_cell(suite_version=VERSION - 1, profile="full"), started="2026-01-09T00:00:00Z"
    ),
}


@pytest.mark.parametrize("other", BETTER.values(), ids=BETTER)
def test_views_prefer(other: Record) -> None:
    """Newer suite versions, then measured before not, then larger profiles, then the latest."""
    for records in ([OLD, other], [other, OLD]):
        assert only(newest(records)).records["memory"] is other


@pytest.mark.parametrize("other", WORSE.values(), ids=WORSE)
def test_views_do_not_prefer(other: Record) -> None:
    """What is worse in an earlier respect stays out, however good it is in later ones."""
    for records in ([OLD, other], [other, OLD]):
        assert only(newest(records)).records["memory"] is OLD


def test_a_row_is_one_loaded_model() -> None:
    """Suites share a row; devices, models, weights, backends and schemes have their own, in reading order."""
    cells = [
        make_cell(precision="int4"),
        make_cell(precision="fp16"),
        make_cell("quality", precision="fp16"),
        make_cell(precision="fp32"),
        make_cell(precision="int8"),
        make_cell(model="other"),
        make_cell(weights=Weights.HUB),
        make_cell(device="cuda-test"),
    ]
    rows = newest(make_record(cell) for cell in cells)
    assert [(r.device, r.model, str(r.weights), r.precision) for r in rows] == [
        ("cpu-test", "other", "random", "fp16"),
        ("cpu-test", "tiny", "hub", "fp16"),
        ("cpu-test", "tiny", "random", "fp32"),
        ("cpu-test", "tiny", "random", "fp16"),
        ("cpu-test", "tiny", "random", "int8"),
        ("cpu-test", "tiny", "random", "int4"),
        ("cuda-test", "tiny", "random", "fp16"),
    ]
    assert set(rows[3].records) == {"memory", "quality"}


def test_a_reason_is_kept_word_for_word() -> None:
    """Only the ending is written with spaces; a name in the reason can be searched for and typed."""
    row = only(newest([failed(make_cell(), Ending.DOES_NOT_FIT, "no module lm_eval")]))
    assert row.missing("memory") == Missing("does not fit", "no module lm_eval")
    assert row.missing("quality") == NOT_MEASURED
    assert only(newest([make_record()])).missing("memory") is None


def test_of_failures_the_latest_is_shown() -> None:
    """Where nothing was measured, the last reason counts."""
    first = failed(make_cell(), reason="first", started="2026-01-01T00:00:00Z")
    second = make_record(
        make_cell(), outcome=Outcome(ending=Ending.KILLED, reason="second"), started="2026-01-02T00:00:00Z"
    )
    assert only(newest([second, first])).missing("memory") == Missing("killed", "second")


def test_a_row_that_no_shown_suite_has_measured_is_left_out() -> None:
    """What only capacity has measured says nothing in a table of memory and speed."""
    rows = newest(
        [make_record(make_cell("memory")), make_record(make_cell("capacity", scheme="fake-int8", precision="int8"))]
    )
    assert [row.scheme for row in with_any(rows, {"memory", "throughput"})] == ["fake-fp16"]
    assert [row.scheme for row in with_any(rows, {"capacity", "memory"})] == ["fake-fp16", "fake-int8"]


def test_ways_of_computing_are_rows_of_their_own() -> None:
    """What flash attention measured stands beside what plain attention did, and is compared with its like."""
    cells = [
        make_cell(precision=precision, settings={**make_cell().settings, "attention": way})
        for way in ("flash", "plain")
        for precision in ("fp16", "int4")
    ]
    rows = newest([make_record(cell) for cell in cells])
    assert [(row.precision, row.way) for row in rows] == [
        ("fp16", "attention flash"),
        ("fp16", "attention plain"),
        ("int4", "attention flash"),
        ("int4", "attention plain"),
    ]
    assert rows[0].loaded_as == rows[2].loaded_as
    assert rows[0].loaded_as != rows[1].loaded_as
