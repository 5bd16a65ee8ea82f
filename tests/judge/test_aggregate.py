# SPDX-License-Identifier: Apache-2.0
"""Several tasks together: Holm, the share of the score that is left, clustered errors; all proven by simulation."""

from __future__ import annotations

import math
from statistics import mean

import numpy as np
import pytest
import scipy.stats
from scipy.stats import binomtest

from bench.judge.aggregate import Answers, holm, recovery, together
from bench.judge.stats import (
    Verdict,
    clustered_error,
    design_effect,
    mcnemar,
    paired_difference,
    proportion,
    tango_interval,
)


@pytest.mark.parametrize(
    ("p_values", "expected"),
    [
        ([0.01, 0.04, 0.03], [0.03, 0.06, 0.06]),
        ([0.01, 0.02, 0.03, 0.04, 0.05], [0.05, 0.08, 0.09, 0.09, 0.09]),
        ([0.5], [0.5]),
        ([0.9, 0.8], [1.0, 1.0]),
        ([], []),
    ],
)
def test_holm_is_what_a_hand_computes(p_values: list[float], expected: list[float]) -> None:
    """The smallest p times their number, the next times one fewer, never below the one before, never above 1."""
    assert holm(p_values) == pytest.approx(expected)


def flipped(lost: int, gained: int, n: int = 400, right: int = 300) -> list[float]:
    """What a model answers that lost and gained so many of `reference`."""
    return [0.0] * lost + [1.0] * (right - lost + gained) + [0.0] * (n - right - gained)


REFERENCE = [1.0] * 300 + [0.0] * 100


def test_one_difference_among_many_tasks_is_not_enough() -> None:
    """P = 0.03 is worse alone and undecided among six tasks; how many more items would decide is said."""
    found = paired_difference(flipped(14, 4), REFERENCE, 0.25)
    none = paired_difference(flipped(5, 5), REFERENCE, 0.25)
    assert found.verdict is Verdict.WORSE and 0.01 < found.p_value < 0.05
    assert together([found])[0].verdict is Verdict.WORSE
    judged = together([found, *[none] * 5])
    assert judged[0].verdict is Verdict.UNDECIDED
    assert judged[0].holm_p == pytest.approx(6 * found.p_value)
    assert judged[0].more_items is not None and 1 < judged[0].more_items < 1000


def test_what_cannot_be_measured_is_no_member_of_the_family() -> None:
    """A task at chance neither gets a corrected p nor costs the others theirs."""
    chance = paired_difference(REFERENCE, REFERENCE, 0.75)
    found = together([paired_difference(flipped(14, 4), REFERENCE, 0.25), chance])
    assert found[0].holm_p == found[0].p_value
    assert (found[1].verdict, found[1].holm_p) == (Verdict.NOT_MEASURABLE, None)


@pytest.mark.parametrize("counts", [(14, 4), (0, 6), (30, 30), (1, 0), (7, 19)])
def test_mcnemar_is_half_the_point_below_scipys_exact_test(counts: tuple[int, int]) -> None:
    """Mid-p is the exact binomial p less the probability of just what was seen."""
    lost, gained = counts
    exact = binomtest(lost, lost + gained, 0.5).pvalue
    seen = math.comb(lost + gained, lost) / 2 ** (lost + gained)
    assert mcnemar(lost, gained) == pytest.approx(min(1.0, exact - seen) if lost != gained else 1.0)


def test_clustered_errors_are_those_of_a_reference_computation() -> None:
    """The sandwich estimator of a regression on a constant, with the correction G / (G - 1), written with matrices."""
    draw = np.random.default_rng(3)
    clusters = np.repeat(np.arange(30), draw.integers(1, 9, 30))
    values = draw.normal(size=30)[clusters] + draw.normal(size=len(clusters))
    ones = np.ones((len(values), 1))
    bread = np.linalg.inv(ones.T @ ones)
    residuals = values - values.mean()
    meat = sum(
        (ones[clusters == g].T @ np.outer(residuals[clusters == g], residuals[clusters == g]) @ ones[clusters == g])
        for g in range(30)
    )
    expected = math.sqrt(float((bread @ meat @ bread)[0, 0]) * 30 / 29)
    assert clustered_error(values.tolist(), clusters.tolist()) == pytest.approx(expected, rel=1e-12)
    assert design_effect(values.tolist(), clusters.tolist()) > 2


def test_items_that_share_a_subject_have_wider_intervals() -> None:
    """Ten subjects all right or all wrong are worth ten items, not a hundred; others are worth themselves."""
    answers = [float(item // 10 < 6) for item in range(100)]
    subjects = [item // 10 for item in range(100)]
    alone, clustered, ten = proportion(answers), proportion(answers, subjects), proportion([1.0] * 6 + [0.0] * 4)
    assert alone.half_width is not None and clustered.half_width is not None and ten.half_width is not None
    assert clustered.half_width > 2.5 * alone.half_width
    assert clustered.half_width >= ten.half_width
    assert design_effect(answers, list(range(100))) == pytest.approx(1.0, abs=0.05)


def test_a_clustered_loss_is_not_decided_by_its_items() -> None:
    """All lost items in one of ten subjects: worse by items, undecided by subjects."""
    reference = [1.0] * 200
    these = [0.0] * 12 + [1.0] * 188
    subjects = [item // 20 for item in range(200)]
    assert paired_difference(these, reference, 0.25).verdict is Verdict.WORSE
    assert paired_difference(these, reference, 0.25, clusters=subjects).verdict is Verdict.UNDECIDED


def test_an_empty_pairing_is_an_error_of_the_caller() -> None:
    """There is no difference of nothing."""
    with pytest.raises(ValueError, match="no item was answered by both"):
        paired_difference([], [], 0.5)


TRIALS = 2000


def draws(seed: int, n: int, right: float, lost: float, gained: float) -> tuple[np.ndarray, np.ndarray]:
    """Right and wrong answers of reference and other, (trials, n), with these rates of flips among all items."""
    draw = np.random.default_rng(seed).random((TRIALS, n))
    reference = draw < right
    these = (reference & (draw >= lost)) | ((draw >= right) & (draw < right + gained))
    return reference, these


def flips(reference: np.ndarray, these: np.ndarray) -> list[tuple[int, int]]:
    """Lost and gained items of each trial."""
    lost, gained = (reference & ~these).sum(axis=1), (these & ~reference).sum(axis=1)
    return list(zip(lost.tolist(), gained.tolist(), strict=True))


@pytest.mark.parametrize(("lost", "gained"), [(0.05, 0.05), (0.08, 0.02), (0.15, 0.10)])
def test_the_interval_of_a_paired_difference_covers_95_percent(lost: float, gained: float) -> None:
    """94 to 96 % of 2,000 simulated intervals of 400 items hold the true difference."""
    reference, these = draws(1, 400, 0.7, lost, gained)
    pairs = flips(reference, these)
    intervals = {pair: tango_interval(*pair, 400) for pair in set(pairs)}
    covered = [intervals[pair].low <= gained - lost <= intervals[pair].high for pair in pairs]
    assert mean(covered) == pytest.approx(0.95, abs=0.01)


@pytest.mark.parametrize("right", [0.3, 0.5, 0.8])
def test_the_interval_of_a_proportion_covers_95_percent(right: float) -> None:
    """94 to 96 % of 2,000 simulated Wilson intervals of 250 items hold the true share."""
    counts = np.random.default_rng(2).binomial(250, right, TRIALS).tolist()
    intervals = {count: proportion([1.0] * count + [0.0] * (250 - count)) for count in set(counts)}
    assert mean(intervals[c].low <= right <= intervals[c].high for c in counts) == pytest.approx(0.95, abs=0.012)


@pytest.mark.parametrize(("lost", "gained", "n"), [(0.15, 0.05, 250), (0.10, 0.08, 250), (0.05, 0.02, 500)])
def test_the_interval_of_the_recovery_covers_95_percent(lost: float, gained: float, n: int) -> None:
    """94 to 96 % of 2,000 simulated intervals over three tasks hold the true share of the score that is left."""
    tasks = [draws(seed, n, right, lost, gained) for seed, right in ((4, 0.6), (5, 0.7), (6, 0.8))]
    base = mean((right - 0.25) / 0.75 for right in (0.6, 0.7, 0.8))
    truth = 1 + (gained - lost) / 0.75 / base
    covered = 0
    for trial in range(TRIALS):
        found = recovery(
            [Answers(these=t[trial].tolist(), reference=r[trial].tolist(), chance=0.25) for r, t in tasks], 0.01
        )
        assert found is not None and found.share.low is not None and found.share.high is not None
        covered += found.share.low <= truth <= found.share.high
    assert covered / TRIALS == pytest.approx(0.95, abs=0.01)


@pytest.mark.parametrize("n", [1000, 4000])
def test_equivalent_is_wrong_in_fewer_than_5_percent(n: int) -> None:
    """A model that truly loses just the margin, with flips both ways, is called equivalent in fewer than 5 %."""
    margin = 0.01 * (0.8 - 0.25)
    reference, these = draws(7, n, 0.8, 0.005 + margin, 0.005)
    counts = flips(reference, these)
    intervals = {pair: tango_interval(*pair, n) for pair in set(counts)}
    wrong = mean(-margin < intervals[pair].low and intervals[pair].high < margin for pair in counts)
    assert wrong < 0.05


def test_recovery_is_the_share_of_the_score_above_chance() -> None:
    """Half of what stood above chance is left of one task, all of the other; no flips still leave an interval."""
    half = Answers(these=[1.0] * 50 + [0.0] * 50, reference=[1.0] * 75 + [0.0] * 25, chance=0.25)
    whole = Answers(these=[1.0] * 75 + [0.0] * 25, reference=[1.0] * 75 + [0.0] * 25, chance=0.25)
    found, same = recovery([half, whole], 0.01), recovery([whole], 0.01)
    assert found is not None and found.share.value == pytest.approx(0.75)
    assert found.verdict is Verdict.WORSE
    assert same is not None and same.share.value == 1.0 and same.verdict is Verdict.UNDECIDED
    assert same.share.half_width is not None and same.share.half_width > 0.02
    assert recovery([], 0.01) is None


def test_each_task_counts_by_its_own_chance() -> None:
    """Half of two choices' room lost, nothing of ten choices': (0.2 / 0.5) and (0.6 / 0.9) make the weights."""
    two = Answers(these=[1.0] * 60 + [0.0] * 40, reference=[1.0] * 70 + [0.0] * 30, chance=0.5)
    ten = Answers(these=[1.0] * 70 + [0.0] * 30, reference=[1.0] * 70 + [0.0] * 30, chance=0.1)
    found = recovery([two, ten], 0.01)
    assert found is not None
    assert found.share.value == pytest.approx((0.1 / 0.5 + 0.6 / 0.9) / (0.2 / 0.5 + 0.6 / 0.9))


def test_recovery_is_as_uncertain_as_its_subjects() -> None:
    """Twelve items lost within one subject of ten are worth one loss, not twelve."""
    subjects = [item // 20 for item in range(200)]
    these, reference = [0.0] * 12 + [1.0] * 148 + [0.0] * 40, [1.0] * 160 + [0.0] * 40
    alone = recovery([Answers(these=these, reference=reference, chance=0.25)], 0.01)
    clustered = recovery([Answers(these=these, reference=reference, chance=0.25, clusters=subjects)], 0.01)
    assert alone is not None and clustered is not None
    assert alone.share.value == clustered.share.value
    assert alone.share.half_width is not None and clustered.share.half_width is not None
    assert clustered.share.half_width > 1.5 * alone.share.half_width
    assert (alone.verdict, clustered.verdict) == (Verdict.WORSE, Verdict.UNDECIDED)


def test_much_more_than_the_reference_is_not_equivalent() -> None:
    """Equivalence is two-sided: a better model is better."""
    gained = Answers(these=[1.0] * 350 + [0.0] * 50, reference=[1.0] * 300 + [0.0] * 100, chance=0.25)
    unsure = Answers(these=[1.0] * 302 + [0.0] * 98, reference=[1.0] * 300 + [0.0] * 100, chance=0.25)
    better, undecided = recovery([gained], 0.01), recovery([unsure], 0.011)
    assert better is not None and better.verdict is Verdict.BETTER
    assert undecided is not None and undecided.verdict is Verdict.UNDECIDED
    assert undecided.share.low is not None and undecided.share.low > 1 - 0.011


def test_a_design_effect_has_the_degrees_of_freedom_of_its_clusters() -> None:
    """Ten clusters have nine, whatever their items; clusters more alike than chance never narrow an interval."""
    values = [float(item // 10 < 6) for item in range(100)]
    subjects = [item // 10 for item in range(100)]
    alone = np.std(values, ddof=1) / 10
    student = scipy.stats.t.ppf(0.975, 9) / scipy.stats.norm.ppf(0.975)
    assert design_effect(values, subjects) == pytest.approx((clustered_error(values, subjects) / alone * student) ** 2)
    assert design_effect([1.0, 0.0] * 50, subjects) == 1.0


def test_recovery_of_nothing_is_not_measurable() -> None:
    """A reference at chance has nothing of which a share could be left."""
    guess = Answers(these=[1.0] * 60 + [0.0] * 40, reference=[1.0] * 30 + [0.0] * 70, chance=0.25)
    found = recovery([guess], 0.01)
    assert found is not None and found.verdict is Verdict.NOT_MEASURABLE
