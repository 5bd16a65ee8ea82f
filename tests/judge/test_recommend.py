# SPDX-License-Identifier: Apache-2.0
"""Which rows satisfy a user's limits, which one of a model is taken, and what the others miss."""

from __future__ import annotations

import math
from typing import Any

import pytest
from builders import make_cell, make_record, memory_samples, sample
from judged import FLOOR, FP16, INT4, INT8, row

from bench.judge.recommend import Candidate, Limits, What, best_of_models, candidates, near_misses
from bench.judge.rows import newest
from bench.judge.stats import Verdict
from bench.records.record import Record, Unit

BITS = {"fp16": 16.0, "int8": 8.0, "int4": 4.5}


def counted(record: Record) -> Record:
    """The same with the bits of its precision, where all had 16."""
    bits = sample("linear_bits", BITS[record.cell.precision], Unit.BIT)
    same = (bits if m.name == "linear_bits" and m.values == (16.0,) else m for m in record.measurements)
    return record.model_copy(update={"measurements": tuple(same)})


def found(limits: Limits, *records: list[Record] | Record, longest: int | None = None) -> dict[str, Candidate]:
    """Candidates by scheme."""
    flat = [counted(one) for given in records for one in (given if isinstance(given, list) else [given])]
    return {one.row.scheme: one for one in candidates(newest(flat), limits, lambda model: longest)}


def test_without_limits_the_smallest_row_that_loses_nothing_is_taken() -> None:
    """16 bits need 2,000 bytes with the process, int8 1,600 and is equivalent, int4 1,400 and is worse."""
    every = found(Limits(), FP16, INT8, INT4)
    assert {scheme: one.need.bytes for scheme, one in every.items() if one.need} == {
        "fake-fp16": 2000, "fake-int8": 1600, "fake-int4": 1400,
    }  # fmt: skip
    (taken,) = best_of_models(list(every.values()))
    assert (taken.row.scheme, taken.verdict) == ("fake-int8", Verdict.EQUIVALENT)


def test_what_is_worse_is_taken_only_where_nothing_better_fits() -> None:
    """1,500 bytes hold int4 alone; with at most 1 % of loss nothing is left."""
    every = found(Limits(memory_bytes=1500), FP16, INT8, INT4)
    assert [one.row.scheme for one in best_of_models(list(every.values()))] == ["fake-int4"]
    strict = found(Limits(memory_bytes=1500, max_loss=0.01), FP16, INT8, INT4)
    assert best_of_models(list(strict.values())) == []
    (near,) = near_misses(list(strict.values()), [])
    assert near.row.scheme == "fake-int8"
    (miss,) = near.misses
    assert (miss.what, miss.over) == (What.MEMORY, pytest.approx(1600 / 1500 - 1))


def test_a_loss_is_judged_at_the_margin_that_was_asked_for() -> None:
    """26 % of perplexity are worse at 1 % and within 30 %."""
    assert found(Limits(max_loss=0.01), FP16, INT4)["fake-int4"].verdict is Verdict.WORSE
    assert found(Limits(max_loss=0.3), FP16, INT4)["fake-int4"].fits


def test_undecided_quality_does_not_satisfy_a_limit_of_loss() -> None:
    """A row that its own noise moves by more than it lost: nothing is proved."""
    noisy = row("int8", weights=460, ln_ratio=0.02, more=[FLOOR])
    one = found(Limits(max_loss=0.01), FP16, noisy)["fake-int8"]
    assert [(miss.what, miss.over, miss.text) for miss in one.misses] == [(What.QUALITY, 0.0, "quality undecided")]


def test_quality_that_nobody_measured_is_no_quality() -> None:
    """Memory and speed alone: it satisfies what asks for these, and no limit of loss."""
    bare = [record for record in row("int8", weights=460, ln_ratio=0.0) if record.cell.suite != "divergence"]
    assert found(Limits(memory_bytes=1600), FP16, bare)["fake-int8"].fits
    (miss,) = found(Limits(max_loss=0.01), FP16, bare)["fake-int8"].misses
    assert (miss.what, miss.over, miss.text) == (What.QUALITY, None, "quality not measured")


def test_a_speed_satisfies_a_limit_only_with_its_whole_interval() -> None:
    """Two repeats of 10 tokens a second prove 10 and not 10.1."""
    assert found(Limits(min_decode=10.0), FP16)["fake-fp16"].fits
    (miss,) = found(Limits(min_decode=12.5), FP16)["fake-fp16"].misses
    assert (miss.what, miss.over) == (What.DECODE, pytest.approx(0.2))


def test_a_longer_context_adds_its_cache_and_says_that_it_is_computed() -> None:
    """10 positions hold 40 bytes; 4 bytes for each of 90 more."""
    need = found(Limits(context_tokens=100), FP16)["fake-fp16"].need
    assert need is not None
    assert (need.bytes, need.tokens, need.computed) == (2360, 100, 360)


def test_a_context_beyond_what_a_model_was_made_for_is_missed() -> None:
    """2,048 positions and no more."""
    (miss,) = found(Limits(context_tokens=4096), FP16, longest=2048)["fake-fp16"].misses
    assert (miss.what, miss.over) == (What.CONTEXT, 1.0)


def test_a_row_that_ran_under_the_limit_is_proved() -> None:
    """A hard limit of 1,900 bytes: its peak with the process is 2,000, and yet it ran."""
    settings = dict(make_cell("memory").settings) | {"memory_limit_bytes": 1900}
    limited = make_record(make_cell("memory", settings=settings), measurements=memory_samples(weights=860))
    one = found(Limits(memory_bytes=1900), limited)["fake-fp16"]
    assert one.proved
    assert one.fits


@pytest.mark.parametrize(("bits", "refused"), [(4.5, ""), (5.53, ""), (16.0, "asked for int4, found 16 bits")])
def test_a_precision_that_was_not_found_is_refused(bits: float, refused: str) -> None:
    """A 4-bit row of 5.5 bits is one, a 4-bit row of 16 bits is none."""
    samples = (*memory_samples()[:-1], sample("linear_bits", bits, Unit.BIT))
    record = make_record(make_cell("memory", "int4"), measurements=samples)
    (one,) = candidates(newest([record]), Limits())
    assert one.refused.startswith(refused)
    assert bool(one.refused) == bool(refused)
    assert one.fits != bool(refused)


def test_near_misses_stand_in_the_order_of_what_they_miss_and_unknown_ones_last() -> None:
    """10 % too much, 60 % too much, and one whose memory nobody measured."""

    def of(name: str, **more: Any) -> list[Record]:
        return [make_record(make_cell("memory", model=name), measurements=memory_samples(**more))]

    unknown = make_record(make_cell("throughput", model="c"), measurements=())
    every = candidates(newest([*of("b", weights=2060), *of("a", weights=1060), unknown]), Limits(memory_bytes=2000))
    near = near_misses(every, best_of_models(every))
    assert [(one.row.model, [miss.over for miss in one.misses]) for one in near] == [
        ("a", [pytest.approx(0.1)]), ("b", [pytest.approx(0.6)]), ("c", [None]),
    ]  # fmt: skip
    assert math.isinf(near[-1].distance)
