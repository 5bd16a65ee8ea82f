# SPDX-License-Identifier: Apache-2.0
"""Statistics against textbook figures, hand computation and exact or simulated coverage."""

from __future__ import annotations

import math
import random
from fractions import Fraction
from statistics import median
from typing import Any

import numpy as np
import pytest
from scipy.stats import binom, bootstrap

from bench.judge.stats import (
    Estimate,
    Verdict,
    clustered_mean,
    mcnemar,
    mean_estimate,
    median_estimate,
    paired_difference,
    proportion,
    quantile,
    ratio_of_medians,
)


@pytest.mark.parametrize(
    ("n", "low", "high"), [(2, 1, 2), (5, 1, 5), (6, 1, 6), (10, 2, 9), (20, 6, 15), (100, 40, 61)]
)
def test_the_interval_of_a_median_has_the_textbook_ranks(n: int, low: int, high: int) -> None:
    """Order statistics of the narrowest symmetric interval of at least 95 %, the whole range where none is."""
    samples = [float(rank) for rank in range(1, n + 1)]
    random.Random(0).shuffle(samples)
    assert median_estimate(samples) == Estimate((n + 1) / 2, low, high)


@pytest.mark.parametrize("n", range(6, 60))
def test_the_interval_of_a_median_covers_at_least_its_confidence_and_not_one_rank_more(n: int) -> None:
    """The exact coverage of ranks k and n + 1 - k is 1 - 2 P(X < k); the next narrower pair covers less than 95 %."""
    found = median_estimate([float(rank) for rank in range(1, n + 1)])
    assert found.low is not None
    rank = int(found.low)
    below = sum(math.comb(n, i) for i in range(rank))
    assert 1 - Fraction(2 * below, 2**n) >= Fraction(95, 100)
    assert 1 - Fraction(2 * (below + math.comb(n, rank)), 2**n) < Fraction(95, 100)


def test_thousands_of_samples_have_an_interval() -> None:
    """Ten repeats of 128 tokens leave 1,270 gaps; the ranks are n/2 less 0.98 roots of n, as in the normal law."""
    found = median_estimate([float(rank) for rank in range(1, 5001)])
    assert (found.low, found.high) == (2431.0, 2570.0)


def test_one_sample_has_no_interval() -> None:
    """Nothing is known of its error."""
    assert median_estimate([3.0]) == mean_estimate([3.0]) == Estimate(3.0)
    assert Estimate(3.0).half_width is None
    assert Estimate(3.0, 2.0, 5.0).half_width == 1.5


def coverage(samples: int, interval: str, draws: int = 2000) -> float:
    """Share of simulated intervals that hold the truth, 0."""
    draw = random.Random(20260101)
    estimate = {"median": median_estimate, "mean": mean_estimate}[interval]
    hits = 0
    for _ in range(draws):
        found = estimate([draw.gauss(0, 1) for _ in range(samples)])
        assert found.low is not None and found.high is not None
        hits += found.low <= 0 <= found.high
    return hits / draws


@pytest.mark.parametrize("n", [6, 10, 20])
def test_the_interval_of_a_median_covers_the_truth(n: int) -> None:
    """At least 95 % of 2,000 simulated intervals, less three standard errors of the simulation."""
    assert coverage(n, "median") > 0.935


@pytest.mark.parametrize("n", [6, 18, 96])
def test_the_interval_of_a_mean_covers_the_truth(n: int) -> None:
    """95 % at the window counts of the profiles too, within three standard errors of the simulation."""
    assert coverage(n, "mean") == pytest.approx(0.95, abs=0.015)


def test_the_mean_of_clusters_takes_its_error_from_their_means() -> None:
    """Three runs of two with means 1, 2 and 3: the same interval as of these three, wider than of all six."""
    samples = [0.5, 1.5, 1.5, 2.5, 2.5, 3.5]
    assert clustered_mean(samples, 2) == mean_estimate([1.0, 2.0, 3.0])
    apart = clustered_mean(samples, 1).half_width
    together = clustered_mean(samples, 2).half_width
    assert apart is not None and together is not None
    assert together > apart


@pytest.mark.parametrize(
    ("share", "expected"), [(0.0, 1.0), (0.25, 1.75), (0.5, 2.5), (0.99, 3.97), (0.999, 3.997), (1.0, 4.0)]
)
def test_a_quantile_is_linear_between_order_statistics(share: float, expected: float) -> None:
    """As numpy's default, whatever the order given."""
    assert quantile([4.0, 2.0, 1.0, 3.0], share) == pytest.approx(expected, abs=1e-12)


def test_a_quantile_of_one_sample_is_that_sample() -> None:
    """There is nothing to interpolate."""
    assert quantile([7.0], 0.99) == 7.0


@pytest.mark.parametrize(
    ("right", "n", "low", "high"),
    [
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
        (20, 20, 0.8389, 1.0),
    ],
)
def test_a_proportion_has_the_published_wilson_interval(right: int, n: int, low: float, high: float) -> None:
    """Newcombe, Statistics in Medicine 17 (1998), table I, method 3; the last row is the third turned round."""
    found = proportion([1.0] * right + [0.0] * (n - right))
    assert found.value == right / n
    assert (found.low, found.high) == (pytest.approx(low, abs=5e-5), pytest.approx(high, abs=5e-5))


@pytest.mark.parametrize(
    ("lost", "gained", "expected"),
    [
        (0, 0, Fraction(1)),
        (1, 0, Fraction(1, 2)),
        (0, 5, Fraction(1, 32)),
        (3, 3, Fraction(1)),
        (1, 7, Fraction(10, 256)),
        (7, 1, Fraction(10, 256)),
        (2, 8, Fraction(2 * (1 + 10) + 45, 1024)),
    ],
)
def test_mcnemar_mid_p_is_what_a_hand_computes(lost: int, gained: int, expected: Fraction) -> None:
    """Twice the tail beyond the smaller count, plus its own probability; (1, 7) is Fagerland's example, 0.039."""
    assert mcnemar(lost, gained) == pytest.approx(float(expected), abs=1e-12)


def items(right: int, n: int) -> list[float]:
    return [1.0] * right + [0.0] * (n - right)


def flipped(reference: list[float], lost: int, gained: int) -> list[float]:
    """`lost` of the right items turned wrong, `gained` of the wrong ones turned right."""
    right = int(sum(reference))
    return [0.0] * lost + [1.0] * (right - lost + gained) + [0.0] * (len(reference) - right - gained)


def test_no_flips_in_many_items_is_equivalent() -> None:
    """2,000 items without a difference exclude a loss of 1 % of what the reference scores above chance."""
    reference = items(1600, 2000)
    found = paired_difference(list(reference), reference, chance=0.25)
    assert found.verdict is Verdict.EQUIVALENT
    assert (found.lost, found.gained, found.p_value, found.more_items) == (0, 0, 1.0, None)
    assert found.margin == pytest.approx(0.01 * (0.8 - 0.25))
    assert found.difference.value == 0.0
    assert found.difference.half_width is not None and 0 < found.difference.half_width < found.margin


def test_no_flips_in_few_items_is_undecided() -> None:
    """60 items say nothing about a margin of half a percent; some hundreds more would."""
    reference = items(48, 60)
    found = paired_difference(list(reference), reference, chance=0.25)
    assert found.verdict is Verdict.UNDECIDED
    assert found.more_items is not None and 200 < found.more_items < 5000


@pytest.mark.parametrize(("lost", "gained", "verdict"), [(40, 5, Verdict.WORSE), (5, 40, Verdict.BETTER)])
def test_a_clear_difference_has_its_verdict_and_direction(lost: int, gained: int, verdict: Verdict) -> None:
    """The difference is this minus the reference; flips are counted apart."""
    reference = items(200, 300)
    found = paired_difference(flipped(reference, lost, gained), reference, chance=0.25)
    assert found.verdict is verdict
    assert (found.lost, found.gained, found.more_items) == (lost, gained, None)
    assert found.difference.value == pytest.approx((gained - lost) / 300)
    assert found.p_value < 1e-6


def test_a_small_difference_is_undecided_and_says_how_many_items_would_decide() -> None:
    """5 lost and 3 gained of 300: that many more items at the same rates do decide."""
    reference = items(200, 300)
    found = paired_difference(flipped(reference, 5, 3), reference, chance=0.25)
    assert found.verdict is Verdict.UNDECIDED
    assert found.more_items is not None and found.more_items > 300
    times = math.ceil((300 + found.more_items) / 300)
    larger = items(200 * times, 300 * times)
    verdict = paired_difference(flipped(larger, 5 * times, 3 * times), larger, chance=0.25).verdict
    assert verdict is not Verdict.UNDECIDED


@pytest.mark.parametrize("right", [20, 25, 32])
def test_nothing_is_measurable_at_chance(right: int) -> None:
    """A reference that guesses has nothing to lose, whatever this one answers."""
    reference = items(right, 100)
    for these in (items(0, 100), list(reference), items(100, 100)):
        found = paired_difference(these, reference, chance=0.25)
        assert (found.verdict, found.more_items) == (Verdict.NOT_MEASURABLE, None)


def test_items_must_be_the_same() -> None:
    """Lists of different lengths are never paired."""
    with pytest.raises(ValueError, match="zip"):
        paired_difference([1.0, 0.0], [1.0], chance=0.0)


@pytest.mark.parametrize("n", [400, 700, 1000, 2000])
def test_a_loss_of_the_whole_margin_is_rarely_called_equivalent(n: int) -> None:
    """Rule 4: with a true loss of exactly the margin and no gains, at most 2.5 % of samples say equivalent (exact)."""
    reference = items(round(0.8 * n), n)
    margin = paired_difference(list(reference), reference, chance=0.25).margin
    wrongly = sum(
        float(binom.pmf(lost, n, margin))
        for lost in range(30)
        if paired_difference(flipped(reference, lost, 0), reference, chance=0.25).verdict is Verdict.EQUIVALENT
    )
    assert wrongly <= 0.025


@pytest.mark.parametrize("rate", [0.003, 0.007, 0.03])
def test_the_interval_of_a_paired_difference_covers_the_truth(rate: float) -> None:
    """300 items, items lost at this rate and none gained: the exact coverage is 95 %, give or take discreteness."""
    reference, n = items(240, 300), 300
    covered = 0.0
    for lost in range(40):
        found = paired_difference(flipped(reference, lost, 0), reference, chance=0.25).difference
        assert found.low is not None and found.high is not None
        covered += float(binom.pmf(lost, n, rate)) * (found.low <= -rate <= found.high)
    assert covered >= 0.93


def test_the_ratio_of_medians_is_deterministic_and_holds_its_value() -> None:
    """A fixed seed: the same samples give the same interval for ever."""
    draw = random.Random(0)
    above, below = [draw.gauss(12, 1) for _ in range(20)], [draw.gauss(5, 1) for _ in range(20)]
    found = ratio_of_medians(above, below)
    assert found == ratio_of_medians(above, below)
    assert found.value == median(above) / median(below)
    assert found.low is not None and found.high is not None
    assert min(above) / max(below) < found.low < found.value < found.high < max(above) / min(below)


def test_the_interval_of_a_ratio_is_scipys_percentile_bootstrap() -> None:
    """95 %, not 90: within 7 % of the width that five times as many resamples give there."""
    draw = np.random.default_rng(5)
    above, below = np.exp(0.1 * draw.normal(size=60)), np.exp(0.1 * draw.normal(size=60))

    def ratio(one: Any, other: Any, axis: int) -> Any:
        return np.median(one, axis=axis) / np.median(other, axis=axis)

    theirs = bootstrap((above, below), ratio, method="percentile", n_resamples=10_000, rng=1).confidence_interval
    found = ratio_of_medians(above.tolist(), below.tolist())
    assert found.half_width == pytest.approx((theirs.high - theirs.low) / 2, rel=0.07)


def test_the_ratio_of_single_samples_has_no_interval() -> None:
    """Nothing is known of their spread."""
    assert ratio_of_medians([6.0], [4.0, 4.0]) == Estimate(1.5)
    assert ratio_of_medians([6.0, 6.0], [4.0]) == Estimate(1.5)
