# SPDX-License-Identifier: Apache-2.0
"""One task's verdict: by which instrument, on which items, and over how many looks."""

from __future__ import annotations

import numpy as np
import pytest
from builders import sample

from bench.judge.decisions import Instrument, decide, match, together, without_choices
from bench.judge.differences import score_difference
from bench.judge.sequential import ladder, level
from bench.judge.stats import Verdict
from bench.records.record import Measurement, Unit


def names(count: int, start: int = 0) -> str:
    """Hashes of items."""
    return "".join(f"{index:010x}" for index in range(start, start + count))


def chosen(margins: list[float], *, start: int = 0, **labels: object) -> list[Measurement]:
    """A task of two choices whose right one leads by so many nats."""
    about = {"task": "t", "digest": f"{start}-{len(margins)}", "chance": 0.5, "output_type": "multiple_choice"}
    flat = [value for margin in margins for value in (margin, 0.0)]
    right = [float(margin > 0) for margin in margins]
    return [
        sample("acc", right, Unit.FRACTION, **about, item_hashes=names(len(margins), start), **labels),
        sample("choice_loglikelihood", flat, Unit.NAT, task="t", digest="d", choices=2, right=[0] * len(margins)),
    ]


MARGINS = np.random.default_rng(0).normal(1.0, 2.0, 400).tolist()


def test_a_task_of_choices_is_decided_by_the_probability_of_the_right_one_and_has_its_accuracy_beside_it():
    """A loss of 0.2 nats everywhere shows in every probability, and flips few answers."""
    by_choice, by_accuracy = decide(chosen([m - 0.2 for m in MARGINS]), chosen(MARGINS), "t")
    assert (by_choice.instrument, by_choice.verdict) == (Instrument.CHOICE, Verdict.WORSE)
    assert by_accuracy.instrument is Instrument.ACCURACY
    assert by_choice.difference.half_width < by_accuracy.difference.half_width / 3
    assert by_choice.items == by_accuracy.items == 400
    assert by_choice.margin == 0.01


def test_a_model_that_is_the_same_is_equivalent():
    """Within one point of probability."""
    jitter = np.random.default_rng(1).normal(0.0, 0.1, 400)
    found = decide(chosen([m + j for m, j in zip(MARGINS, jitter, strict=True)]), chosen(MARGINS), "t")
    assert found[0].verdict is Verdict.EQUIVALENT and found[0].settled


def test_rows_of_different_length_pair_on_the_items_both_have():
    """By hash, wherever they stand: a row that stopped at 40 items, and a reference that begins elsewhere."""
    ours, theirs = chosen(MARGINS[:40]), chosen(MARGINS[10:], start=10)
    assert [d.items for d in decide(ours, theirs, "t")] == [30, 30]
    assert decide(ours, theirs, "t")[0].difference.value == 0.0
    assert decide(ours, chosen(MARGINS[:40], start=1000), "t") == []
    assert decide(ours, theirs, "another") == []


def test_answers_of_two_filters_in_one_are_no_pair():
    """Records from before filters were kept apart hold every item twice."""
    doubled = sample("acc", [1.0, 0.0], Unit.FRACTION, task="t", digest="e", item_hashes=names(1) * 2)
    assert match(doubled, chosen(MARGINS)[0]).mine == ()


def test_how_decision_margins_moved_stands_beside_the_probability() -> None:
    """Half of every margin of one nat is left, and one of twenty turned."""
    decided = decide(chosen([0.5] * 19 + [-0.5]), chosen([1.0] * 20), "t")[0]
    assert decided.margins is not None
    assert (round(decided.margins.factor, 6), decided.margins.lost, decided.margins.gained) == (0.5, 1, 0)


def test_a_task_that_was_looked_at_is_judged_at_the_level_of_all_looks():
    """Both instruments' intervals are wider, by what `level` says, and p is over all looks."""
    looks = list(ladder(400))
    once = decide(chosen([m - 0.02 for m in MARGINS]), chosen(MARGINS), "t")
    often = decide(chosen([m - 0.02 for m in MARGINS], looks=looks), chosen(MARGINS), "t")
    for one, several in zip(once, often, strict=True):
        assert several.difference.half_width > one.difference.half_width
        assert several.p_value >= one.p_value
    assert often[0].looks == tuple(looks) and level(tuple(looks)) < 0.01


def test_worse_needs_holms_p_over_the_tasks_that_are_read_together():
    """Of twenty tasks one differs by chance."""
    rng = np.random.default_rng(3)
    moved = [m - 0.25 + j for m, j in zip(MARGINS, rng.normal(0, 1.5, 400), strict=True)]
    found = decide(chosen(moved), chosen(MARGINS), "t")[0]
    assert found.verdict is Verdict.WORSE and 0.0025 < found.p_value < 0.05
    nothing = decide(chosen(MARGINS), chosen([m + j for m, j in zip(MARGINS, rng.normal(0, 2, 400), strict=True)]), "t")
    (alone,) = together([found])
    assert (alone.verdict, alone.holm_p) == (Verdict.WORSE, found.p_value)
    beside = together([found, *[nothing[0]] * 19])
    assert beside[0].verdict is Verdict.UNDECIDED and beside[0].holm_p > 0.05


def test_a_reference_at_chance_has_nothing_to_lose():
    """Nothing is measurable, whatever the difference."""
    guess = np.random.default_rng(0).normal(0.0, 1.0, 200).tolist()
    found = decide(chosen([m - 1 for m in guess]), chosen(guess), "t")
    assert {d.verdict for d in found} == {Verdict.NOT_MEASURABLE}


def scored(name: str, values: list[float], **labels: object) -> Measurement:
    """Any metric of a task."""
    return sample(name, values, Unit.FRACTION, task="t", digest="d", item_hashes=names(len(values)), **labels)


def test_generated_answers_are_their_own_instrument():
    """A task that generates has no choices; its score is named after what it is made of."""
    right = [float(i % 3 > 0) for i in range(300)]
    lost = [value * (i % 4 > 0) for i, value in enumerate(right)]
    tokens = sample("answer_tokens", [3.0] * 300, Unit.TOKEN, task="t", digest="d")
    ours = [scored("exact_match", lost, output_type="generate_until"), tokens]
    theirs = [scored("exact_match", right, output_type="generate_until"), tokens]
    (found,) = decide(ours, theirs, "t")
    assert (found.instrument, found.verdict) == (Instrument.GENERATED, Verdict.WORSE)
    assert without_choices(ours, theirs, "t") == ""


def test_a_share_of_an_item_that_moves_a_little_is_not_an_item_lost():
    """A metric between 0 and 1, every item 0.001 lower: no 100 points."""
    shares = np.random.default_rng(0).uniform(0.3, 0.9, 60).tolist()
    (found,) = decide([scored("acc", [s - 1e-3 for s in shares])], [scored("acc", shares)], "t")
    assert found.difference.value == pytest.approx(-1e-3)
    assert found.difference.half_width < 1e-6


def test_a_rolling_task_is_decided_by_its_perplexity():
    """Nats a word, the ratio of sums: 5 % worse on every text is worse, on the same texts with the same words."""
    words = [float(n) for n in (100, 200, 50, 400, 300, 250, 120, 80)]
    base = [-3.0 * n for n in words]
    this = [one - 0.05 * n for one, n in zip(base, words, strict=True)]
    labels = {"output_type": "loglikelihood_rolling", "item_weights": words}
    ours, theirs = ([scored("word_perplexity", values, **labels)] for values in (this, base))
    (found,) = decide(ours, theirs, "t")
    assert (found.instrument, found.verdict) == (Instrument.PERPLEXITY, Verdict.WORSE)
    assert found.difference.value == pytest.approx(-0.05)
    assert found.items == 8


def test_old_records_are_compared_by_accuracy_alone_and_say_so():
    """Which side is old is named; two new ones need no word."""
    old = [sample("acc", [1.0, 0.0] * 20, Unit.FRACTION, task="t", digest="d", item_hashes=names(40))]
    new = chosen(MARGINS[:40])
    assert [d.instrument for d in decide(new, old, "t")] == [Instrument.ACCURACY]
    said = without_choices(new, old, "t")
    assert said == ("compared by accuracy alone: the reference was measured before choices' log-likelihoods were kept")
    assert without_choices(new, new, "t") == ""
    bare = [scored("acc", [1.0], output_type="multiple_choice")]
    assert "by its own score alone" in without_choices(bare, bare, "t")


def test_how_many_more_items_would_decide_is_said_at_the_level_of_the_looks():
    """Fourteen lost and four gained of 200 are a difference at one look, and not yet over seven."""
    reference = [1.0] * 150 + [0.0] * 50
    these = [0.0] * 14 + [1.0] * 136 + [1.0] * 4 + [0.0] * 46
    once = score_difference(these, reference, 0.25)
    often = score_difference(these, reference, 0.25, looks=ladder(200))
    assert (once.verdict, once.more_items) == (Verdict.WORSE, None)
    assert often.verdict is Verdict.UNDECIDED and 20 < often.more_items < 200
