# SPDX-License-Identifier: Apache-2.0
"""Statistics on reading: medians, intervals, paired differences, verdicts. Pure functions of samples."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from statistics import mean, median, stdev

CONFIDENCE = 0.95
Z = 1.959963984540054
"""Normal quantile of a two-sided 95 % interval."""
MARGIN = 0.01
"""Non-inferiority margin: this share of the reference's score above chance (MLPerf's 99 % rule)."""
RESAMPLES = 2000
MOST_TIMES = 1000
"""How many times as many items are worth asking for."""


@dataclass(frozen=True)
class Estimate:
    """A value with its 95 % interval; None where the samples cannot give one."""

    value: float
    low: float | None = None
    high: float | None = None

    @property
    def half_width(self) -> float | None:
        """Half the interval, for `value ± half`."""
        return (self.high - self.low) / 2 if self.low is not None and self.high is not None else None

    def scaled(self, factor: float) -> Estimate:
        """The same in another unit: value and interval times a positive factor."""
        low, high = self.low, self.high
        return Estimate(self.value * factor, low and low * factor, high and high * factor)


def median_estimate(samples: Sequence[float]) -> Estimate:
    """Median with the order-statistic interval of at least 95 % coverage.

    With fewer than six samples no pair of order statistics covers 95 %; then the whole range stands for it, and with
    one sample there is no interval. See Conover, Practical Nonparametric Statistics, 3.2.
    """
    ordered = sorted(samples)
    n = len(ordered)
    if n == 1:
        return Estimate(ordered[0])
    low = max(0, _binomial_quantile((1 - CONFIDENCE) / 2, n) - 1)
    return Estimate(median(ordered), ordered[low], ordered[n - 1 - low])


def _binomial_quantile(share: float, n: int) -> int:
    """The smallest k with P(X <= k) >= share for n fair coins; exact, and without SciPy, for workers time with it."""
    k, below = 0, 1
    while below < share * 2**n:
        k += 1
        below += math.comb(n, k)
    return k


def mean_estimate(samples: Sequence[float]) -> Estimate:
    """Mean with Student's 95 % interval: with six windows the normal one covers 89 %."""
    from scipy.stats import t

    value, n = mean(samples), len(samples)
    if n < 2:
        return Estimate(value)
    half = float(t.ppf((1 + CONFIDENCE) / 2, n - 1)) * stdev(samples) / math.sqrt(n)
    return Estimate(value, value - half, value + half)


def clustered_mean(samples: Sequence[float], cluster: int) -> Estimate:
    """Mean of samples that come in equal runs of `cluster`, its interval from the runs' means.

    Tokens of one window are not independent; windows nearly are.
    """
    means = [mean(samples[i : i + cluster]) for i in range(0, len(samples), cluster)]
    return mean_estimate(means)


def quantile(samples: Sequence[float], share: float) -> float:
    """The sample quantile, linear between order statistics."""
    ordered = sorted(samples)
    place = share * (len(ordered) - 1)
    low = math.floor(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)


def proportion(right: Sequence[float]) -> Estimate:
    """Share of right items with the Wilson 95 % interval, honest at 0 and 1 too."""
    from scipy.stats import binomtest

    successes, n = round(sum(right)), len(right)
    interval = binomtest(successes, n).proportion_ci(CONFIDENCE, method="wilson")
    return Estimate(successes / n, float(interval.low), float(interval.high))


def ratio_of_medians(numerator: Sequence[float], denominator: Sequence[float]) -> Estimate:
    """Ratio of two medians with a percentile bootstrap interval (fixed seed); no interval below two samples each."""
    import numpy as np

    value = median(numerator) / median(denominator)
    if min(len(numerator), len(denominator)) < 2:
        return Estimate(value)
    draw = np.random.default_rng(0)
    above = np.median(draw.choice(np.asarray(numerator), (RESAMPLES, len(numerator))), axis=1)
    below = np.median(draw.choice(np.asarray(denominator), (RESAMPLES, len(denominator))), axis=1)
    low, high = np.quantile(above / below, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return Estimate(value, float(low), float(high))


class Verdict(StrEnum):
    """What a comparison allows one to say."""

    BETTER = "better"
    WORSE = "worse"
    EQUIVALENT = "equivalent"
    UNDECIDED = "undecided"
    NOT_MEASURABLE = "not measurable"


@dataclass(frozen=True, kw_only=True)
class Paired:
    """Right and wrong answers of two models on the same items."""

    difference: Estimate
    """Share right of this minus the reference."""
    lost: int
    """Items right with the reference and wrong with this."""
    gained: int
    """Items wrong with the reference and right with this."""
    p_value: float
    """Exact McNemar test, mid-p; 1 where no item flipped."""
    verdict: Verdict
    more_items: int | None
    """About how many more items would decide, None if decided or unknowable."""
    margin: float
    """The difference that still counts as equivalent."""


def paired(these: Sequence[float], reference: Sequence[float], chance: float) -> Paired:
    """Compare two models item by item.

    Equivalent means that the 95 % interval of the difference lies within ± the margin, 1 % of what the reference
    scores above chance; worse and better mean that it lies below or above zero and reaches beyond the margin. With
    the reference within two standard errors of chance nothing can be lost, so nothing is measurable.
    """
    n = len(these)
    pairs = list(zip(these, reference, strict=True))
    lost = sum(new < old for new, old in pairs)
    gained = sum(new > old for new, old in pairs)
    share = mean(reference)
    margin = MARGIN * (share - chance)
    error = math.sqrt(max(share * (1 - share), 1e-12) / n)
    estimate = paired_difference(lost, gained, n)
    verdict = Verdict.NOT_MEASURABLE if share - chance < 2 * error else _verdict(estimate, margin)
    return Paired(
        difference=estimate,
        lost=lost,
        gained=gained,
        p_value=mcnemar(lost, gained),
        verdict=verdict,
        more_items=_more_items(lost, gained, n, margin) if verdict is Verdict.UNDECIDED else None,
        margin=margin,
    )


def _verdict(estimate: Estimate, margin: float) -> Verdict:
    assert estimate.low is not None
    assert estimate.high is not None
    if -margin < estimate.low and estimate.high < margin:
        return Verdict.EQUIVALENT
    if estimate.high < 0:
        return Verdict.WORSE
    if estimate.low > 0:
        return Verdict.BETTER
    return Verdict.UNDECIDED


def _more_items(lost: int, gained: int, n: int, margin: float) -> int | None:
    """About how many more items at the same rates would decide; None if a thousand times as many would not."""

    def decided(times: float) -> bool:
        return _verdict(paired_difference(lost * times, gained * times, n * times), margin) is not Verdict.UNDECIDED

    enough = 2.0
    while not decided(enough):
        enough *= 2
        if enough > MOST_TIMES:
            return None
    few = enough / 2
    while enough - few > 0.5 / n:
        middle = (few + enough) / 2
        few, enough = (few, middle) if decided(middle) else (middle, enough)
    return max(1, math.ceil(n * (enough - 1)))


def paired_difference(lost: float, gained: float, n: float) -> Estimate:
    """Difference of two paired proportions, (gained - lost) / n, with Tango's 95 % score interval.

    It holds its confidence with few or no flips, where the normal interval collapses to nothing. T. Tango,
    Equivalence test and confidence interval for the difference in proportions for the paired-sample design,
    Statistics in Medicine 17 (1998): every difference that its score test does not reject.
    """
    from scipy.optimize import brentq

    value = (gained - lost) / n

    def score(difference: float) -> float:
        """Squared score statistic at a hypothetical difference, less its critical value."""
        linear = -lost - gained + (2 * n - gained + lost) * difference
        root = math.sqrt(max(linear**2 + 8 * n * lost * difference * (1 - difference), 0.0))
        both = (root - linear) / (4 * n)  # probability of a lost item if the difference were this
        variance = n * (2 * both + difference * (1 - difference))
        distance = gained - lost - n * difference
        return float(distance**2 - Z**2 * max(variance, 1e-300))

    low = -1.0 if score(-1.0) <= 0 else float(brentq(score, -1.0, value, xtol=1e-9))
    high = 1.0 if score(1.0) <= 0 else float(brentq(score, value, 1.0, xtol=1e-9))
    return Estimate(value, low, high)


def mcnemar(lost: int, gained: int) -> float:
    """Two-sided exact McNemar test with the mid-p correction (Fagerland, Lydersen and Laake, 2013)."""
    from scipy.stats import binom

    n, fewer = lost + gained, min(lost, gained)
    if n == 0:
        return 1.0
    exact = 2 * float(binom.cdf(fewer, n, 0.5))
    return min(1.0, exact - float(binom.pmf(fewer, n, 0.5)))
