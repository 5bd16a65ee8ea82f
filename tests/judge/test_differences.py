# SPDX-License-Identifier: Apache-2.0
"""Two rows' scores of the same items: right and wrong items are counted, everything else is measured."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from builders import make_cell, make_record, memory_samples, sample
from scipy import stats as scipy_stats

from bench.judge.aggregate import Answers, recovery
from bench.judge.answer import answers
from bench.judge.compare import compare
from bench.judge.decisions import Instrument
from bench.judge.differences import more_of_mean, score_difference
from bench.judge.rows import newest
from bench.judge.score_per_byte import score_per_byte
from bench.judge.stats import Estimate, Verdict
from bench.records.record import Measurement, Record, Unit
from bench.views import comparison as view
from bench.views.answer import sentences

DRAW = np.random.default_rng(5)
SHARES = DRAW.uniform(0.3, 0.9, 200).tolist()
LOWER = [share - 1e-3 for share in SHARES]


def metric(name: str, values: list[float], **labels: Any) -> Measurement:
    """A metric as the quality suite stores it."""
    hashes = "".join(f"{index:010x}" for index in range(len(values)))
    told = {"task": "t", "digest": "d", "item_hashes": hashes} | labels
    return sample(name, values, Unit.SCORE, **told).model_copy(update={"counter": "lm-eval"})


def quality(precision: str, *measurements: Measurement) -> Record:
    return make_record(make_cell("quality", precision), measurements=measurements)


def one(these: list[Measurement], reference: list[Measurement]) -> Any:
    """The comparison of an int8 row with its 16-bit row."""
    (found,), _ = compare(newest([quality("int8", *these), quality("fp16", *reference)]))
    return found


def test_two_hundred_shares_each_a_little_lower_are_no_loss_of_100_points() -> None:
    """The mean change and its own interval; no item is lost, and no test of flips is made."""
    found = one([metric("acc", LOWER)], [metric("acc", SHARES)])
    result = found.tasks[0].result
    assert result.difference.value == pytest.approx(-1e-3) and result.difference.half_width < 1e-9
    assert (result.verdict, result.lost, result.gained) == (Verdict.EQUIVALENT, None, None)
    assert found.recovery.share.value == pytest.approx(1 - 1e-3 / np.mean(SHARES), abs=1e-9)
    assert found.recovery.verdict is Verdict.EQUIVALENT and found.recovery.share.half_width < 1e-4
    flat = next(row for row in view.flats(answers([found])) if row["task"] == "t")
    assert (flat["lost"], flat["gained"], flat["mcnemar_p"], flat["metric"]) == (None, None, None, "acc")
    assert flat["decided_by"] == "mean score"
    (cells,) = view.task_table([found]).rows
    assert cells[3:] == ["t", "equivalent", "mean score", "-0.1 [-0.1, -0.1]", "-", "-", "-", "200", "0"]


def test_the_interval_of_shares_is_students_of_the_paired_changes() -> None:
    """As SciPy's paired t test says."""
    noise = DRAW.normal(-0.004, 0.02, 200)
    moved = [share + float(step) for share, step in zip(SHARES, noise, strict=True)]
    found = score_difference(moved, SHARES, 0.25)
    test = scipy_stats.ttest_rel(moved, SHARES)
    low, high = test.confidence_interval(0.95)
    assert (found.difference.low, found.difference.high) == pytest.approx((low, high))
    assert found.p_value == pytest.approx(test.pvalue)


def test_right_and_wrong_items_are_counted_as_before() -> None:
    """Zeros and ones are flips, whatever the metric's name."""
    right, lost = [1.0] * 80 + [0.0] * 20, [0.0] * 40 + [1.0] * 40 + [0.0] * 20
    found = one([metric("f1_of_item", lost)], [metric("f1_of_item", right)])
    assert (found.tasks[0].result.lost, found.tasks[0].result.gained) == (40, 0)
    assert found.recovery is None  # a metric that is no accuracy has no score above chance


@pytest.mark.parametrize(("lower_is_better", "verdict"), [(False, Verdict.WORSE), (True, Verdict.BETTER)])
def test_a_scale_of_its_own_is_read_in_percent_of_the_reference_and_worse_is_below_zero(
    lower_is_better: bool, verdict: Verdict
) -> None:
    """Twenty sentences of BLEU 30, each three less: ten percent, and better where less is better."""
    scores = [30.0 + index % 7 for index in range(40)]
    labels = {"lower_is_better": True} if lower_is_better else {}
    fewer = [score - 0.1 * np.mean(scores) for score in scores]
    found = one([metric("sentence_bleu", fewer, **labels)], [metric("sentence_bleu", scores, **labels)])
    (task,) = found.tasks
    assert task.result.difference.value == pytest.approx(0.1 if lower_is_better else -0.1)
    assert (task.result.verdict, task.result.margin) == (verdict, pytest.approx(0.01))
    assert (task.metric, task.decision.instrument) == ("sentence_bleu", Instrument.SHARES)
    (cells,) = view.task_table([found]).rows
    assert cells[3] == "t (sentence_bleu)" and cells[6].startswith("+10.0" if lower_is_better else "-10.0")
    (answer,) = answers([found])
    assert (answer.verdict, answer.decided_by.instrument) == (verdict, Instrument.SHARES)


def test_a_perplexity_is_compared_by_its_ratio_and_said_as_one() -> None:
    """Nats a word: 5 % more on every text; the answer's words tell it from the perplexity of the probe text."""
    words = [float(n) for n in (100, 200, 50, 400, 300, 250, 120, 80)]
    base = [-3.0 * n for n in words]
    worse = [one - 0.05 * n for one, n in zip(base, words, strict=True)]
    labels = {"item_weights": words, "aggregation": "weighted_perplexity"}
    found = one([metric("word_perplexity", worse, **labels)], [metric("word_perplexity", base, **labels)])
    (task,) = found.tasks
    assert (task.result, task.decision.verdict) == (None, Verdict.WORSE)
    (cells,) = view.task_table([found]).rows
    assert cells[3:6] == ["t (word_perplexity)", "worse", "perplexity"] and cells[6].startswith("-5.0 [")
    (answer,) = answers([found])
    assert answer.verdict is Verdict.WORSE
    assert "perplexity of tasks +5.1 % [5.1, 5.1]: worse" in sentences(answer)[1]
    assert view.flats([answer])[0]["perplexity_change"] is None


def test_a_figure_of_the_whole_task_is_not_compared_and_says_why() -> None:
    """There are no items to pair."""
    f1 = metric("f1", [0.5], of_items=60, aggregation="f1")
    (task,) = one([f1], [f1]).tasks
    assert task.result is None and task.decision is None
    assert task.reason.startswith("f1 is a figure of the whole task: no items to pair")


def test_other_filters_are_other_metrics() -> None:
    """One row's strict answers are not the other's flexible ones."""
    strict, flexible = (metric("exact_match", [1.0] * 20, filter=name) for name in ("strict", "flexible"))
    (task,) = one([strict], [flexible]).tasks
    assert task.reason == "different metrics: exact_match,strict against exact_match,flexible"


def test_answers_of_two_filters_in_one_are_no_pair_even_where_both_rows_hold_them() -> None:
    """Records from before filters were kept apart pool every item twice: an interval of twice as many is too narrow."""
    doubled = metric("acc", [1.0, 0.0] * 20, item_hashes="".join(f"{index % 20:010x}" for index in range(40)))
    (task,) = one([doubled], [doubled]).tasks
    assert task.result is None


def test_how_many_more_items_decide_a_mean_is_computed() -> None:
    """The interval shrinks with the root of the number, and that many more do decide."""
    noise = DRAW.normal(-0.01, 0.1, 200).tolist()
    moved = [share + step for share, step in zip(SHARES, noise, strict=True)]
    found = score_difference(moved, SHARES, 0.25)
    assert found.verdict is Verdict.UNDECIDED and found.more_items is not None
    times = (200 + found.more_items) / 200
    half = found.difference.half_width / times**0.5
    assert abs(found.difference.value) >= half or abs(found.difference.value) + half <= found.margin
    fewer = found.difference.half_width / ((200 + found.more_items - 2) / 200) ** 0.5
    assert abs(found.difference.value) < fewer and abs(found.difference.value) + fewer > found.margin
    assert more_of_mean(Estimate(0.0, -1.0, 1.0), 10, 0.001) is None
    assert more_of_mean(Estimate(0.1), 10, 0.01) is None


def test_a_recovery_of_shares_has_the_coverage_it_claims() -> None:
    """Of a thousand samples of thirty shares about 95 in 100 intervals hold the truth: none is added to them."""
    draw, held = np.random.default_rng(11), 0
    for _ in range(1000):
        reference = draw.uniform(0.4, 0.8, 30)
        these = reference + draw.normal(-0.02, 0.05, 30)
        found = recovery([Answers(these=these.tolist(), reference=reference.tolist(), chance=0.0)], 0.01)
        held += found.share.low <= 1 - 0.02 / 0.6 <= found.share.high
    assert 930 <= held <= 970
    single = recovery([Answers(these=[0.5], reference=[0.6], chance=0.0)], 0.01)
    assert (single.verdict, single.share.low) == (Verdict.UNDECIDED, None)


def test_rows_without_a_score_above_chance_have_no_score_per_byte() -> None:
    """They are left out with the reason, not ranked at zero; shares are ranked by their mean."""

    def row(model: str, weights: int, *measurements: Measurement) -> list[Record]:
        memory = make_record(make_cell("memory", "fp16", model=model), measurements=memory_samples(weights=weights))
        return [memory, make_record(make_cell("quality", "fp16", model=model), measurements=measurements)]

    small, large = row("small", 500, metric("acc", SHARES)), row("large", 900, metric("acc", LOWER))
    texts = row("texts", 700, metric("rouge1", SHARES))
    (ranking,), (left,) = score_per_byte(newest([*small, *large, *texts]))
    assert [item.row.model for item in ranking.rows] == ["small", "large"]
    assert ranking.rows[1].share.verdict is Verdict.EQUIVALENT and ranking.rows[1].share.share.half_width < 1e-4
    assert (left.reason, [one.model for one in left.rows]) == (
        "no task whose score is a share of right items", ["texts"],
    )  # fmt: skip
    apart = row("apart", 800, metric("acc", SHARES, task="u"))
    rankings, (left,) = score_per_byte(newest([*small, *apart]))
    assert (rankings, left.reason) == ([], "no task that every row of its device has answered")
