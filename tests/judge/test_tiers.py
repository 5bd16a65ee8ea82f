# SPDX-License-Identifier: Apache-2.0
"""Models by quality in tiers that their items can tell apart, the front, and duels."""

from __future__ import annotations

from builders import make_cell, make_record, memory_samples, quality_samples, speed_samples

from bench.judge.recommend import Candidate, Limits, candidates
from bench.judge.rows import newest
from bench.judge.stats import Verdict
from bench.judge.tiers import duel, ranked
from bench.records.record import Record


def model(
    name: str, right: int, *, weights: int = 500, itl_s: float = 0.1, precision: str = "fp16", items: int = 400
) -> list[Record]:
    """One row that answers the first `right` of so many items."""
    answers = {"task": [1.0] * right + [0.0] * (items - right)}
    return [
        make_record(make_cell("memory", precision, model=name), measurements=memory_samples(weights=weights)),
        make_record(make_cell("throughput", precision, model=name), measurements=speed_samples(itl_s=[itl_s] * 4)),
        make_record(make_cell("quality", precision, model=name), measurements=quality_samples(answers)),
    ]


def of(*records: list[Record]) -> list[Candidate]:
    return candidates(newest(record for given in records for record in given), Limits())


def test_rows_that_the_items_cannot_separate_share_a_tier_the_smaller_first() -> None:
    """300 against 299 of 400 right cannot be told apart, 240 can be told from both."""
    places = ranked(of(model("a", 300, weights=600), model("b", 299, weights=500), model("c", 240)))
    assert [(place.candidate.row.model, place.tier) for place in places] == [("b", 1), ("a", 1), ("c", 2)]


def test_a_chain_of_pairs_that_cannot_be_separated_is_one_tier() -> None:
    """320 and 312, 312 and 304 cannot be told apart: nobody stands above another of them, though 320 beats 304."""
    found = of(model("a", 320), model("b", 317), model("c", 314), model("d", 240))
    tiers = {place.candidate.row.model: place.tier for place in ranked(found)}
    assert tiers == {"a": 1, "b": 1, "c": 1, "d": 2}


def test_a_row_without_answers_has_no_tier() -> None:
    """Memory and speed alone: it stands last, and nothing is guessed."""
    silent = [record for record in model("b", 1) if record.cell.suite != "quality"]
    places = ranked(of(model("a", 300), silent))
    assert [(p.candidate.row.model, p.tier, p.score) for p in places] == [("a", 1, 0.5), ("b", None, None)]


def test_only_what_is_proved_no_worse_takes_a_row_off_the_front() -> None:
    """`small` is smaller and as fast: it dominates `poor`, which is worse, and not `alike`, which may be better."""
    places = ranked(
        of(model("small", 300, weights=400), model("poor", 240, weights=500), model("alike", 301, weights=500))
    )
    front = {place.candidate.row.model: place.on_front for place in places}
    assert front == {"small": True, "poor": False, "alike": True}


def test_a_larger_model_at_4_bits_meets_a_smaller_one_at_16_on_the_same_items() -> None:
    """340 of 400 against 300: more of the score above chance, decided; their memory is nearest to each other's."""
    found = of(
        model("big", 345, weights=2000), model("big", 340, weights=560, precision="int4"),
        model("small", 300, weights=500), model("tiny", 250, weights=100),
    )  # fmt: skip
    fought = duel(found)
    assert fought is not None
    assert (fought.larger.row.model, fought.larger.row.scheme) == ("big", "fake-int4")
    assert (fought.smaller.row.model, fought.smaller.row.scheme) == ("small", "fake-fp16")
    assert (fought.items, fought.tasks, fought.result.verdict) == (400, 1, Verdict.BETTER)
    assert round(fought.result.share.value, 3) == 1.4


def test_there_is_no_duel_without_a_larger_model_at_4_bits() -> None:
    """The 4-bit row is the smaller model's."""
    assert duel(of(model("big", 300, weights=2000), model("small", 300, weights=100, precision="int4"))) is None
