# SPDX-License-Identifier: Apache-2.0
"""Engines side by side: what stands in one table, what each cell says, and what a reader is warned of."""

from __future__ import annotations

from typing import Any

import pytest
from builders import (
    ANCHOR,
    anchor_row,
    anchor_samples,
    divergence_samples,
    make_cell,
    make_record,
    speed_samples,
)
from engine_rows import LLAMA, TORCH, only, reference_rows, rows

from bench.judge.cross_engine import engines_side_by_side
from bench.judge.rows import newest
from bench.records.cell import Weights
from bench.views import cross_engine as view


@pytest.mark.parametrize(
    "where", [{"device": "other"}, {"model": "other"}, {"weights": Weights.HUB}], ids=["device", "model", "weights"]
)
def test_what_is_not_the_same_is_not_side_by_side(where: dict[str, Any]) -> None:
    """Another device, model or source of weights: no table, and a line that says with which engine it was measured."""
    groups, alone = engines_side_by_side(
        newest([*rows("int8", "bnb-int8", **TORCH), *rows("int8", "q8_0", **{**LLAMA, **where})])
    )
    assert groups == []
    assert len(alone) == 2
    assert {item.backend for item in alone} == {"transformers", "llamacpp"}
    said = " ".join(view.lines(alone))
    assert "tiny (package weights, cpu-test): measured with transformers alone" in said
    assert "measured with llamacpp alone; measure another engine with --backend" in said


def test_a_reader_is_warned_of_what_is_not_equal() -> None:
    """Other settings, other threads, another fp32 row."""
    plain = [*rows("int8", "bnb-int8", **TORCH), *rows("int8", "q8_0", **LLAMA)]
    assert only(plain).cautions == ()
    full = make_record(
        make_cell("throughput", "int4", scheme="q4", profile="full", settings={"prompt_tokens": 7}, **LLAMA),
        measurements=speed_samples(),
    )
    (caution,) = only([*plain, full]).cautions
    assert caution == (
        "speeds were measured with different settings (profiles full, smoke): measure all with one profile"
    )
    (caution,) = only([*plain, *rows("int4", "q4", threads=4, **LLAMA)]).cautions
    assert caution.startswith("threads differ: llamacpp 1/4; transformers 1: ")
    other = make_record(
        make_cell("divergence", "int4", scheme="q4", **LLAMA),
        measurements=(*divergence_samples(), *anchor_samples(anchor="another")),
    )
    (caution,) = only([*plain, other]).cautions
    assert caution == f"distances are from different fp32 rows (another, {ANCHOR}): measure them again"
    assert view.views([only([*plain, other])])[0].notes[-1] == f"caution: {caution}"


def test_a_distance_of_another_16_bit_cell_is_not_lent() -> None:
    """The fp32 row measured another profile's 16-bit row: nothing is shown rather than that."""
    other = make_cell("divergence", "fp16", scheme="bf16", profile="full", **TORCH)
    records = [*reference_rows()[:3], anchor_row(other, scheme="fp32", **TORCH)]
    fp16 = next(row for row in newest(records) if row.precision == "fp16")
    assert fp16.held_by_fp32_row("divergence") == {}
