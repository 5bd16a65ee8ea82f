# SPDX-License-Identifier: Apache-2.0
"""The README's table of engines by scheme: which model and rows stand there, and that a stale one is found."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from builders import failed, make_cell, make_record, memory_samples, speed_samples
from engine_rows import LLAMA, TORCH, reference_rows, rows

from bench.judge.rows import newest
from bench.records.cell import Precision, Weights
from bench.records.record import Ending, Record
from bench.views import engine_table
from bench.views.publish import marker, publish_readme

TWO = [*reference_rows(), *rows("int8", "gguf-q8_0", **LLAMA), *rows("int4", "bnb-nf4", **TORCH)]


def lines(records: list[Record]) -> list[list[str]]:
    """The table's lines as cells, without its titles and rule."""
    found = [line for line in engine_table.block(newest(records)).splitlines() if line.startswith("| ")]
    return [line.strip("| ").split(" | ") for line in found[2:]]


def test_every_engine_and_scheme_has_a_line_of_six_figures() -> None:
    """Weights, peak, both speeds, distance and verdict, precisions from wide to narrow."""
    text = engine_table.block(newest(TWO))
    assert text.startswith("tiny on cpu-test:\n\n| precision | engine | scheme | weights | peak memory |")
    shown = lines(TWO)
    assert [row[:3] for row in shown] == [
        ["fp32", "transformers", "fp32"], ["fp16", "transformers", "bf16"], ["int8", "llamacpp", "gguf-q8_0"],
        ["int4", "transformers", "bnb-nf4"],
    ]  # fmt: skip
    assert shown[0][3:] == ["500 B", "640 B", "200 ±150", "7.50 ±2.50", "reference", "perplexity +65 % [65, 65]: worse"]
    assert shown[2][7].startswith("0.4 ±")
    assert shown[1][8] == "reference"


@pytest.mark.parametrize(
    "beside",
    [
        {"settings": {"memory_limit_bytes": 1 << 30}}, {"settings": {"kv": "int8"}}, {"weights": Weights.RANDOM},
        {"precision": Precision.SERVED, "backend": "served", "scheme": "server"},
    ],
    ids=["under a limit", "another cache", "random weights", "a server"],
)  # fmt: skip
def test_rows_that_belong_elsewhere_are_left_out(beside: dict[str, Any]) -> None:
    """A limit, a cache of fewer bits, random weights and servers are tables of their own."""
    plain = make_cell("memory", "int8", **{**LLAMA, "scheme": "other"})
    kept = lines([*TWO, make_record(plain, measurements=memory_samples())])
    assert [row[2] for row in kept] == ["fp32", "bf16", "gguf-q8_0", "other", "bnb-nf4"]
    added = make_record(plain.model_copy(update=beside), measurements=memory_samples())
    assert lines([*TWO, added]) == lines(TWO)


def test_of_several_ways_to_compute_one_scheme_the_newest_row_stands_there() -> None:
    """Each engine and scheme has one line, whatever attention older rows had."""
    made = []
    for month, attention, prefill in ((1, "flash", 1.0), (3, "plain", 0.1), (2, "flash", 0.5)):
        cell = make_cell("throughput", "int4", scheme="gguf-q4_k_m", settings={"attention": attention}, **LLAMA)
        speed = speed_samples(prefill_s=[prefill] * 3)
        made.append(make_record(cell, measurements=speed, started=f"2026-0{month}-01T00:00:00Z"))
    (line,) = [row for row in lines([*TWO, *made]) if row[2] == "gguf-q4_k_m"]
    assert line[5].split(" ")[0] == "1000"


def test_the_model_that_most_engines_measured_on_one_device_is_shown() -> None:
    """Not the one with most rows, and never rows of two devices in one table."""
    other = {**LLAMA, "device": "elsewhere"}
    many = [one for scheme in ("a", "b", "c", "d", "e") for one in rows("int8", scheme, **other)]
    many += rows("int4", "x", **{**other, "backend": "openvino"})
    third = rows("int8", "ov-int8", **{**LLAMA, "backend": "openvino"})
    assert {row[1] for row in lines([*TWO, *third, *many])} == {"transformers", "llamacpp", "openvino"}
    assert len(lines([*TWO, *third, *many])) == 5
    assert len(lines([*TWO, *many])) == 6


def test_a_figure_that_is_not_there_has_its_reason() -> None:
    """What did not fit says so, with a note beneath."""
    cell = make_cell("throughput", "int8", scheme="gguf-q8_0", **LLAMA)
    speed = failed(cell, Ending.DOES_NOT_FIT, "too large")
    found = [*reference_rows(), *rows("int8", "gguf-q8_0", **LLAMA)[:1], speed]
    assert lines(found)[-1][5:8] == ["does not fit [1]", "does not fit [1]", "not measured"]
    assert "[1] does not fit: too large" in engine_table.block(newest(found))


def test_what_is_not_the_same_in_all_rows_is_said_beneath() -> None:
    """As `bench compare --across backend` says it."""
    assert "Beware" not in engine_table.block(newest(TWO))
    uneven = [*TWO, *rows("int4", "gguf-q4_k_m", threads=4, **LLAMA)]
    assert "\nBeware:\n\n- threads differ (1 and 4: llamacpp gguf-q4" in engine_table.block(newest(uneven))


def test_one_engine_alone_makes_no_table() -> None:
    """A sentence with what would change it."""
    assert engine_table.block(newest(reference_rows())) == engine_table.NOTHING


def test_a_stale_table_in_the_readme_is_found_and_renewed(tmp_path: Path) -> None:
    """A new row makes it stale; a README without the block is left alone."""
    path = tmp_path / "README.md"
    path.write_text(f"# Mine\n{marker('engines', 'begin')}{marker('engines', 'end')}\nthe end\n")
    assert publish_readme(path, newest(TWO), "results/plots", check=False)
    assert not publish_readme(path, newest(TWO), "results/plots", check=True)
    more = newest([*TWO, *rows("int4", "gguf-q4_k_m", **LLAMA)])
    assert publish_readme(path, more, "results/plots", check=True)
    assert "gguf-q4\\_k\\_m" not in path.read_text()
    assert publish_readme(path, more, "results/plots", check=False)
    assert "| gguf-q4" in path.read_text() and path.read_text().endswith("\nthe end\n")
