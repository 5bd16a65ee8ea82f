# SPDX-License-Identifier: Apache-2.0
"""Statistics on reading: medians, intervals, paired differences, verdicts. Pure functions of samples."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from fractions import Fraction
from functools import lru_cache
from statistics import median

from bench.judge.moments import mean, stdev, student

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

    def widened(self, share: float) -> Estimate:
        """The same with an independent error of that share of the value, added in squares; no interval stays none."""
        if self.low is None or self.high is None:
            return self
        below, above = (math.hypot(end - self.value, share * self.value) for end in (self.low, self.high))
        return Estimate(self.value, self.value - below, self.value + above)

    def exponential(self) -> Estimate:
        """The exponential of value and interval; infinite where it overflows, no interval where its end does."""
        low, high = self.low, self.high
        value = _exp(self.value)
        if low is None or high is None or math.isinf(_exp(high)):
            return Estimate(value)
        return Estimate(value, _exp(low), _exp(high))


def _exp(nats: float) -> float:
    try:
        return math.exp(nats)
    except OverflowError:
        return math.inf


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
    """The smallest k with P(X <= k) >= share for n fair coins; exact, and without SciPy, for workers time with it.

    Whole numbers throughout: 2**n does not fit a float beyond 1,023 samples.
    """
    part = Fraction(share)
    wanted = part.numerator * 2**n
    k, below, term = 0, 1, 1
    while below * part.denominator < wanted:
        term = term * (n - k) // (k + 1)
        k, below = k + 1, below + term
    return k


def mean_estimate(samples: Sequence[float]) -> Estimate:
    """Mean with Student's 95 % interval: with six windows the normal one covers 89 %."""
    value, n = mean(samples), len(samples)
    if n < 2:
        return Estimate(value)
    half = student((1 + CONFIDENCE) / 2, n - 1) * stdev(samples) / math.sqrt(n)
    return Estimate(value, value - half, value + half)


def clustered_mean(samples: Sequence[float], cluster: int) -> Estimate:
    """Mean of samples that come in equal runs of `cluster`, its interval from the runs' means.

    Tokens of one window are not independent; windows nearly are.
    """
    means = [mean(samples[i : i + cluster]) for i in range(0, len(samples), cluster)]
    return mean_estimate(means)


def clustered_error(samples: Sequence[float], clusters: Sequence[int]) -> float:
    """Standard error of a mean whose samples come in clusters: sqrt(G / (G - 1) sum_g (sum of residuals)^2) / n.

    Infinite with one cluster. Liang and Zeger, Biometrika 73 (1986), with the usual correction for few clusters.
    """
    middle = mean(samples)
    sums: dict[int, float] = {}
    for sample, cluster in zip(samples, clusters, strict=True):
        sums[cluster] = sums.get(cluster, 0.0) + sample - middle
    count = len(sums)
    return math.sqrt(sum(s * s for s in sums.values()) * count / (count - 1)) / len(samples) if count > 1 else math.inf


def design_effect(samples: Sequence[float], clusters: Sequence[int] | None) -> float:
    """By how much clustering widens the squared interval of a mean: n / this is the effective number of samples.

    Student's quantile for few clusters included; never below 1, and 1 without clusters or without any spread.
    """
    n = len(samples)
    spread = stdev(samples) / math.sqrt(n) if n > 1 else 0.0
    if not clusters or not spread:
        return 1.0
    count = len(set(clusters))
    if count < 2:
        return float(n)
    wider = clustered_error(samples, clusters) / spread * student((1 + CONFIDENCE) / 2, count - 1) / Z
    return min(float(n), max(1.0, wider**2))


def quantile(samples: Sequence[float], share: float) -> float:
    """The sample quantile, linear between order statistics."""
    ordered = sorted(samples)
    place = share * (len(ordered) - 1)
    low = math.floor(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)


def proportion(right: Sequence[float], clusters: Sequence[int] | None = None) -> Estimate:
    """Share of right items with the Wilson 95 % interval, honest at 0 and 1 too.

    With clusters (subjects), the interval of as many independent items as these are worth.
    """
    share = mean(right)
    n = len(right) / design_effect(right, clusters)
    middle, below = share + Z * Z / (2 * n), 1 + Z * Z / n
    half = Z * math.sqrt(share * (1 - share) / n + Z * Z / (4 * n * n)) / below
    return Estimate(share, max(0.0, middle / below - half), min(1.0, middle / below + half))


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
    BELOW_FLOOR = "below its noise floor"
    """The difference is no larger than what another batch, or generating, makes of the same weights."""


@dataclass(frozen=True, kw_only=True)
class PairedDifference:
    """Scores of two models on the same items."""

    difference: Estimate
    """Share right (or mean score) of this minus the reference."""
    lost: int | None
    """Items right with the reference and wrong with this; None where items are not right or wrong."""
    gained: int | None
    """Items wrong with the reference and right with this; None where items are not right or wrong."""
    items: int
    """Pairs."""
    p_value: float
    """Exact McNemar test, mid-p, 1 where no item flipped; Student's test where items are not right or wrong."""
    verdict: Verdict
    more_items: int | None
    """About how many more items would decide, None if decided or unknowable."""
    margin: float
    """The difference that still counts as equivalent."""
    design: float = 1.0
    """How many of these items are worth one independent item: above 1 where items come in clusters."""
    holm_p: float | None = None
    """The same p after Holm over the tasks compared, None if it stands alone."""
    z: float = Z
    """The normal quantile of its interval: wider where the task was looked at several times."""


def paired_difference(
    these: Sequence[float], reference: Sequence[float], chance: float, *, margin: float = MARGIN,
    clusters: Sequence[int] | None = None, z: float = Z,
) -> PairedDifference:  # fmt: skip
    """Compare two models item by item.

    Equivalent means that the 95 % interval of the difference lies within ± the margin, that share of what the
    reference scores above chance; worse and better mean that it lies below or above zero and reaches beyond the
    margin. With the reference within two standard errors of chance nothing can be lost, so nothing is measurable.
    Items of one cluster (a subject, a passage) are not independent: then the intervals are those of as many
    independent items as these are worth. Raises ValueError where there is no pair.
    """
    pairs = list(zip(these, reference, strict=True))
    if not pairs:
        raise ValueError("no item was answered by both")
    n = len(pairs)
    lost = sum(new < old for new, old in pairs)
    gained = sum(new > old for new, old in pairs)
    share = mean(reference)
    width = margin * (share - chance)
    effective = n / design_effect(reference, clusters)
    error = math.sqrt(max(share * (1 - share), 1e-12) / effective)
    design = design_effect([new - old for new, old in pairs], clusters)
    estimate = tango_interval(lost / design, gained / design, n / design, z)
    verdict = Verdict.NOT_MEASURABLE if share - chance < 2 * error else verdict_of(estimate, width)
    return PairedDifference(
        difference=estimate,
        lost=lost,
        gained=gained,
        items=n,
        p_value=mcnemar(lost, gained),
        verdict=verdict,
        more_items=more_items(lost, gained, n, width, design=design, z=z) if verdict is Verdict.UNDECIDED else None,
        z=z,
        margin=width,
        design=design,
    )


def verdict_of(estimate: Estimate, margin: float) -> Verdict:
    """What an interval of a difference says, given the margin that still counts as equivalent."""
    assert estimate.low is not None
    assert estimate.high is not None
    if -margin < estimate.low and estimate.high < margin:
        return Verdict.EQUIVALENT
    if estimate.high < 0:
        return Verdict.WORSE
    if estimate.low > 0:
        return Verdict.BETTER
    return Verdict.UNDECIDED


def more_items(
    lost: int, gained: int, n: int, margin: float, *, design: float = 1.0, family: int = 1, z: float = Z
) -> int | None:
    """About how many more items at the same rates would decide; None if a thousand times as many would not.

    In a family of several tasks a difference is decided when its McNemar p, times their number, is at most 5 %.
    """

    def decided(times: float) -> bool:
        share = times / design
        verdict = verdict_of(tango_interval(lost * share, gained * share, n * share, z), margin)
        if verdict in {Verdict.WORSE, Verdict.BETTER}:
            return family == 1 or mcnemar(round(lost * times), round(gained * times)) * family <= 1 - CONFIDENCE
        return verdict is Verdict.EQUIVALENT

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


@lru_cache(maxsize=4096)
def tango_interval(lost: float, gained: float, n: float, z: float = Z) -> Estimate:
    """Difference of two paired proportions, (gained - lost) / n, with Tango's score interval, 95 % unless told.

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
        return float(distance**2 - z**2 * max(variance, 1e-300))

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
