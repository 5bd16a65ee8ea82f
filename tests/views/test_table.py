# SPDX-License-Identifier: Apache-2.0
"""Records become rows and rows become text: the newest comparable record, and a reason for every empty cell."""

from __future__ import annotations

import csv
import io
import json

import pytest
from builders import (
    divergence_samples,
    failed,
    make_cell,
    make_record,
    memory_samples,
    quality_samples,
    sample,
    speed_samples,
)

from bench.judge.rows import newest
from bench.judge.stats import Estimate
from bench.records.cell import Weights
from bench.records.record import Caveat, Ending, Prediction, Unit
from bench.views import fields
from bench.views.cells import written
from bench.views.columns import COLUMNS, PREDICTED, VIEWS
from bench.views.footnotes import footnotes
from bench.views.formats import Flat, Table, markdown, to_json
from bench.views.table import FIGURES, IDENTITY, flat, people, to_csv
from bench.views.warnings import every


def test_every_empty_cell_has_its_reason() -> None:
    """Failures point to a footnote, what was never asked says so, the reference has no distance to itself."""
    rows = newest(
        [
            make_record(make_cell("memory"), measurements=memory_samples()),
            make_record(make_cell("divergence"), measurements=(sample("nll_nat", [2.0, 3.0], Unit.NAT),)),
            failed(make_cell("memory", "int8"), Ending.DOES_NOT_FIT, "out of memory: in load"),
            failed(make_cell("throughput", "int8"), Ending.FAILED, "it broke"),
            failed(make_cell("quality", "int8"), Ending.FAILED, "it broke"),
        ]
    )
    table = people(rows, VIEWS["default"])
    assert table.titles[:3] == ["model", "precision", "scheme"]
    assert [len(row) for row in table.rows] == [len(table.titles)] * 2
    fp16, int8 = (dict(zip(table.titles, row, strict=True)) for row in table.rows)
    assert fp16["weights"] == "500 B"
    assert fp16["peak memory"] == "640 B"
    assert (fp16["KL, nats"], fp16["accuracy"]) == ("reference", "not measured")
    assert int8["weights"] == int8["peak memory"] == "does not fit [1]"
    assert int8["prefill tok/s"] == int8["decode tok/s"] == int8["accuracy"] == "failed [2]"
    assert int8["KL, nats"] == "not measured"
    assert table.notes == ["does not fit: out of memory: in load", "failed: it broke"]
    assert all(cell for row in table.rows for cell in row)


def test_a_figure_that_a_measured_suite_lacks_is_not_empty() -> None:
    """An int8 row measured without a reference has no distance, and says why."""
    record = make_record(make_cell("divergence", "int8"), measurements=(sample("nll_nat", [2.0], Unit.NAT),))
    table = people(newest([record]), ("kld",))
    assert table.rows[0][3:] == ["n/a [1]"]
    assert table.notes == ["measured without the distributions of its 16-bit row"]


def test_random_weights_and_devices_are_named() -> None:
    """Random values are honest for memory and speed alone, so the row says what it is."""
    rows = newest([make_record(make_cell(weights=Weights.RANDOM)), make_record(make_cell(weights=Weights.HUB))])
    table = people(rows, ("weights",), name_device=True)
    assert [row[0] for row in table.rows] == ["tiny", "tiny (random weights)"]
    assert table.titles == ["model", "precision", "scheme", "device", "weights"]
    assert table.rows[0][3] == "cpu-test"


def test_predictions_stand_beside_what_was_found() -> None:
    """With the error in percent, or unknown where nothing was predicted."""
    told = make_record(measurements=memory_samples(weights=500), predicted=Prediction(weights_bytes=550))
    mute = make_record(make_cell(precision="int8"), measurements=memory_samples(), predicted=Prediction())
    table = people(newest([told, mute]), VIEWS["predicted"])
    assert [row[4] for row in table.rows] == ["550 B (+10.0%)", "unknown"]
    assert [row[6] for row in table.rows] == ["unknown", "unknown"]


@pytest.mark.parametrize(
    ("estimate", "unit", "text"),
    [
        (Estimate(1536 * 1024**2), fields.Unit.BYTES, "1.50 GiB"),
        (Estimate(75.0), fields.Unit.SECONDS, "1 min 15 s"),
        (Estimate(0.0123), fields.Unit.SECONDS, "12.3 ms"),
        (Estimate(0.765, 0.745, 0.785), fields.Unit.SHARE, "76.5% ±2.0"),
        (Estimate(0.765), fields.Unit.SHARE, "76.5%"),
        (Estimate(123.4, 120.0, 126.0), fields.Unit.RATE, "123 ±3"),
        (Estimate(12.34, 12.0, 12.6), fields.Unit.RATE, "12.3 ±0.3"),
        (Estimate(1.234, 1.2, 1.26), fields.Unit.RATE, "1.23 ±0.03"),
        (Estimate(0.012345, 0.0118, 0.0128), fields.Unit.COUNT, "0.0123 ±0.0005"),
        (Estimate(300.0), fields.Unit.COUNT, "300"),
    ],
)
def test_a_figure_is_written_as_people_write_it(estimate: Estimate, unit: fields.Unit, text: str) -> None:
    """Value, unit and half its 95 % interval."""
    assert written(estimate, unit) == text


def test_every_column_shows_a_figure_that_flat_rows_have() -> None:
    """Titles are unique, views name columns, and what a table shows can be exported."""
    assert len({column.title for column in COLUMNS.values()}) == len(COLUMNS)
    assert {column.figure for column in COLUMNS.values()} <= set(FIGURES)
    assert {name for view in VIEWS.values() for name in view} <= {*COLUMNS, *PREDICTED}


def test_footnotes_define_the_columns_and_name_the_warnings_once() -> None:
    """The same warning of several rows is one line with the rows it concerns."""
    caveat = Caveat(kind="low_bit_grid", text="few values")
    rows = newest(
        make_record(
            make_cell("quality", precision), warnings=(caveat,), measurements=quality_samples({"a": [1.0, 0.0]})
        )
        for precision in ("fp16", "int4")
    )
    lines = footnotes(rows)
    assert lines[-1] == (
        "(a) the weights: quantized before, and what that lost stays lost at every precision (all rows)"
    )
    text = " ".join(lines)
    assert all(word in text for word in ("95 %", "prefill:", "decode:", "KL:", "accuracy:"))
    assert footnotes([]) == lines[:-1]
    assert every(rows) == ["warning, tiny fp16 (quality), tiny int4 (quality): low bit grid: few values"]


def test_footnotes_are_those_of_the_columns_that_are_shown() -> None:
    """Speed explains its shares and says nothing of divergence; warnings are those of the suites shown."""
    rows = newest(
        make_record(make_cell(suite), warnings=(Caveat(kind=f"of_{suite}", text="x"),), measurements=measurements)
        for suite, measurements in (
            ("memory", memory_samples()),
            ("throughput", speed_samples()),
            ("divergence", divergence_samples()),
        )
    )
    speed, energy, all_of_them = (footnotes(rows, VIEWS[name]) for name in ("speed", "energy", "memory"))
    assert [line.split(":")[0] for line in speed] == [
        "± is half of the 95 % interval.", "prefill", "of bandwidth", "of matrix rate",
        "What the device can do, before and after each run", "(a) speed is unsure",
    ]  # fmt: skip
    assert speed[-1] == "(a) speed is unsure: x (fake-fp16). In full: --warnings"
    assert [line.split(":")[0] for line in energy][1:3] == ["prefill", "J/token"]
    assert all_of_them[0].startswith("± is half of the 95 % interval. Memory is")
    assert all_of_them[-1] == "(a) memory is unsure: x (fake-fp16). In full: --warnings"


def test_markdown_is_a_table_with_its_footnotes() -> None:
    """Text left, numbers right, notes below; a line break in a cell cannot break the table."""
    table = Table(["model", "precision", "weights"], [["tiny", "int8", "failed [1]"]], ["failed: a\nb"])
    assert markdown(table) == (
        "| model | precision | weights |\n| --- | --- | ---: |\n| tiny | int8 | failed [1] |\n\n[1] failed: a b\n"
    )
    assert markdown(Table(["model"], [["tiny"]])) == "| model |\n| --- |\n| tiny |\n"


def test_a_footnote_is_made_once() -> None:
    """The same text has the same mark."""
    table = Table(["a"])
    assert [table.note("x"), table.note("y"), table.note("x")] == ["[1]", "[2]", "[1]"]


def test_a_flat_row_is_identity_then_figures() -> None:
    """Base units under the names of design.md, None where there is none, intervals beside."""
    row = flat(make_record(make_cell("quality", "int8"), measurements=quality_samples({"a": [1.0, 0.0]})))
    assert tuple(row)[: len(IDENTITY) + len(FIGURES)] == (*IDENTITY, *FIGURES)
    assert [row[name] for name in IDENTITY] == [
        "tiny", "fake", "fake-int8", "int8", "quality", "cpu-test", "random", "ok", None, None, None,
    ]  # fmt: skip
    assert (row["acc"], row["acc_a"], row["items"]) == (0.5, 0.5, 2.0)
    assert row["acc_low"] < 0.5 < row["acc_high"]
    assert row["weights_bytes"] is row["kld_mean"] is row["prefill_tokens_per_s_low"] is row["warnings"] is None
    assert row["predicted_weights_bytes"] == 100


def test_a_flat_row_of_a_failure_has_its_reason_and_no_figure() -> None:
    """Null is not zero."""
    row = flat(failed(make_cell(), Ending.DOES_NOT_FIT, "too large"))
    assert (row["outcome"], row["reason"]) == ("does_not_fit", "too large")
    assert all(row[name] is None for name in FIGURES)


def rows_of_two_suites() -> list[Flat]:
    return [
        flat(make_record(make_cell("throughput"), measurements=speed_samples())),
        flat(make_record(make_cell("quality"), measurements=quality_samples({"a": [1.0]}))),
        flat(make_record(make_cell("divergence", "int4"), measurements=divergence_samples())),
    ]


def test_csv_has_one_header_and_is_empty_where_null() -> None:
    """Every row has every column, the ones of other rows too."""
    rows = list(csv.DictReader(io.StringIO(to_csv(rows_of_two_suites()))))
    assert [row["suite"] for row in rows] == ["throughput", "quality", "divergence"]
    assert [row["prefill_tokens_per_s"] for row in rows] == ["300.0", "", ""]
    assert [row["acc_a"] for row in rows] == ["", "1.0", ""]
    assert to_csv([]).splitlines() == [",".join([*IDENTITY, *FIGURES])]


def test_json_has_every_key_in_every_row() -> None:
    """Null where there is none, numbers as numbers."""
    rows = json.loads(to_json(rows_of_two_suites()))
    assert len({tuple(row) for row in rows}) == 1
    assert [row["acc_a"] for row in rows] == [None, 1.0, None]
    assert [row["prefill_tokens_per_s"] for row in rows] == [300.0, None, None]
    assert to_json([]) == "[]\n"


def test_a_row_of_random_weights_says_why_it_has_no_quality() -> None:
    """Built from its architecture, its empty cells point to the reason; a masked model's decode to another."""
    cell = make_cell("memory").model_copy(update={"source": "random", "weights": Weights.RANDOM})
    speed = make_cell("throughput").model_copy(
        update={"source": "random", "weights": Weights.RANDOM, "settings": {"objective": "masked"}}
    )
    timed = sample("prefill_s", [1.0, 2.0], Unit.SECOND, prompt_tokens=100, batch=1)
    rows = newest([make_record(cell, measurements=memory_samples()), make_record(speed, measurements=(timed,))])
    table = people(rows, ("prefill", "decode", "kld", "acc"))
    assert table.rows[0][3:][0].startswith("75")
    assert table.rows[0][4:] == ["n/a [1]", "n/a [2]", "n/a [2]"]
    assert table.notes == [
        "masked models fill blanks, they do not generate",
        "n/a: random weights say nothing about quality",
    ]
