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
    memory_samples,
    speed_samples,
)
from engine_rows import LLAMA, TORCH, only, reference_rows, rows

from bench.judge.cross_engine import engines_side_by_side, front, tied
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
    """Other settings, other threads, another fp32 row; the rows that stand apart are named."""
    plain = [*rows("int8", "bnb-int8", **TORCH), *rows("int8", "q8_0", **LLAMA)]
    assert only(plain).cautions == ()
    full = make_record(
        make_cell("throughput", "int4", scheme="q4", profile="full", settings={"prompt_tokens": 7}, **LLAMA),
        measurements=speed_samples(),
    )
    (caution,) = only([*plain, full]).cautions
    assert caution == (
        "speeds were measured with different settings (full: llamacpp q4; smoke: the others): "
        "measure all with one profile"
    )
    asked = make_record(
        make_cell("throughput", "int4", scheme="q4", settings={"prompt_tokens": 7}, **LLAMA),
        measurements=speed_samples(),
    )
    (caution,) = only([*plain, asked]).cautions
    assert "(smoke asked otherwise: llamacpp q4; smoke: the others)" in caution
    (caution,) = only([*plain, *rows("int4", "q4", threads=4, **LLAMA)]).cautions
    assert caution == "threads differ (1 and 4: llamacpp q4; 1: the others): give all the same --threads"
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


def speeds(scheme: str, decode: list[float], where: dict[str, Any], *, weights: int = 500, kld: float = 0.4) -> Any:
    """Records of an int8 row with decode of these seconds a token."""
    memory, _, distance = rows("int8", scheme, kld=kld, **where)
    timed = make_cell("throughput", "int8", scheme=scheme, **where)
    return [
        make_record(memory.cell, measurements=memory_samples(weights=weights)), distance,
        make_record(timed, measurements=speed_samples(itl_s=decode)),
    ]  # fmt: skip


FAST, SLOW = [0.01] * 6, [0.02] * 6
"""100 and 50 tokens/s, every repeat alike."""


def test_rows_of_one_precision_are_tied_where_intervals_overlap() -> None:
    """Equal rates of two engines, the fastest among them; one engine's own rows tie with nobody."""
    found = only([*speeds("a", FAST, LLAMA), *speeds("b", FAST, TORCH), *speeds("c", SLOW, TORCH)])
    ties = tied(found.rows, "decode_tokens_per_s")
    assert [row.scheme for row in found.rows if id(row) in ties] == ["a", "b"]
    apart = only([*speeds("a", FAST, LLAMA), *speeds("b", SLOW, TORCH), *speeds("c", FAST, LLAMA)])
    assert tied(apart.rows, "decode_tokens_per_s") == set()
    wide = only([*speeds("a", FAST, LLAMA), *speeds("b", [0.009, 0.009, 0.02, 0.02], TORCH)])
    assert len(tied(wide.rows, "decode_tokens_per_s")) == 2


@pytest.mark.parametrize(
    ("other", "on_front"),
    [
        ({"decode": SLOW}, ["a"]),
        ({"weights": 600}, ["a"]),
        ({"kld": 30.0}, ["a"]),
        ({}, ["a", "b"]),
        ({"decode": SLOW, "weights": 400}, ["a", "b"]),
        ({"weights": 600, "kld": 0.11}, ["a", "b"]),
        ({"decode": [0.01, 0.01, 0.0102, 0.0102]}, ["a", "b"]),
    ],
    ids=["slower", "larger", "further", "equal", "smaller and slower", "nearer and larger", "hardly slower"],
)
def test_the_front_is_what_no_row_beats(other: dict[str, Any], on_front: list[str]) -> None:
    """Worse in one and better in none, beyond the intervals, is not on it."""
    second = {"decode": FAST, **other}
    found = only([*speeds("a", FAST, LLAMA), *speeds("b", second.pop("decode"), TORCH, **second)])
    best = front(found.rows)
    assert [row.scheme for row in found.rows if id(row) in best] == on_front


def test_the_reference_has_no_distance_from_itself_and_a_row_without_one_is_not_judged() -> None:
    """fp32 stands on the front; what lacks a figure neither stands there nor beats another."""
    slow = [one for one in rows("int8", "x", **LLAMA) if one.cell.suite != "divergence"]
    found = only([*reference_rows(), *slow])
    assert [row.scheme for row in found.rows if id(row) in front(found.rows)] == ["fp32", "bf16"]
