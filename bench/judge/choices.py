# SPDX-License-Identifier: Apache-2.0
"""Choice tasks judged by the probability of the right choice, a sharper instrument than right or wrong. Pure.

An item's choices have log-likelihoods; their softmax is what the model believes of each, and its likeliest choice is
the answer that accuracy counts. Accuracy sees a change only where the answer flips. The probability of the right choice
moves at every item, so the paired difference of its mean has a standard error that is two to three times smaller on the
same items (`results/validation/deciding.md`). The decision margin, right choice minus best wrong one in nats, says the
same without the softmax: below zero the answer is wrong.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from bench.judge.moments import student
from bench.judge.stats import Estimate, clustered_error
from bench.records.record import Measurement

NAME = "choice_loglikelihood"
"""The measurement that holds the choices' log-likelihoods."""
MOST_OF_SKILL = 10
"""The margin in probability is at most so many times the share of what the reference has above chance."""


@dataclass(frozen=True, kw_only=True)
class ItemChoices:
    """One item's choices."""

    log_likelihoods: tuple[float, ...]
    """Nats, in the task's order."""
    right: int
    """Index of the right one."""

    @property
    def probability(self) -> float:
        """Of the right choice, by the softmax over the choices."""
        highest = max(self.log_likelihoods)
        weights = [math.exp(value - highest) for value in self.log_likelihoods]
        return weights[self.right] / math.fsum(weights)

    @property
    def margin(self) -> float:
        """The right choice minus the best wrong one, nats: below 0 the answer is wrong."""
        wrong = (value for index, value in enumerate(self.log_likelihoods) if index != self.right)
        return self.log_likelihoods[self.right] - max(wrong)


def choices_of(measurement: Measurement) -> list[ItemChoices]:
    """The items of a stored measurement: flat values, cut by the label `choices` (one number, or one for each item)."""
    right, counts = measurement.labels["right"], measurement.labels["choices"]
    assert isinstance(right, list)
    sizes = counts if isinstance(counts, list) else [counts] * len(right)
    found, start, values = [], 0, measurement.values
    for size, index in zip(sizes, right, strict=True):
        end = start + int(str(size))
        found.append(ItemChoices(log_likelihoods=values[start:end], right=int(str(index))))
        start = end
    return found


def probability_margin(margin: float, reference: float, chance: float) -> float:
    """The change of the mean probability that still counts as equivalent.

    With a margin of 1 % that is one point of probability (0.01), and at most a tenth of what the reference has above
    chance: where it has little, a point would be half of it. A hundredth of that, which accuracy's margin is, would
    take 4,000 items of ARC-easy and 15,000 of PIQA to prove for LLM.int8() on the default model: more than there are.
    """
    return min(margin, MOST_OF_SKILL * margin * (reference - chance))


@dataclass(frozen=True, kw_only=True)
class Change:
    """A paired difference of means: what every item's change comes to."""

    difference: Estimate
    p_value: float
    """Student's test of no difference, two-sided."""


def mean_change(changes: Sequence[float], clusters: Sequence[int] | None, level: float) -> Change:
    """The mean of paired changes with Student's interval at the two-sided `level`, by clusters where there are some.

    A cluster's items are never taken for more than as many independent ones. No interval with fewer than two items.
    """
    from scipy.special import stdtr

    n = len(changes)
    middle = math.fsum(changes) / n
    if n < 2:
        return Change(difference=Estimate(middle), p_value=1.0)
    error = math.sqrt(math.fsum((change - middle) ** 2 for change in changes) / (n - 1) / n)
    freedom = n - 1
    if clusters:
        freedom = max(1, len(set(clusters)) - 1)
        error = max(error, _clustered(changes, middle, clusters))
    if error == 0.0:
        return Change(difference=Estimate(middle, middle, middle), p_value=float(middle == 0.0))
    if math.isinf(error):
        return Change(difference=Estimate(middle), p_value=1.0)
    half = -student(level / 2, freedom) * error
    p_value = float(2 * stdtr(freedom, -abs(middle) / error))
    return Change(difference=Estimate(middle, middle - half, middle + half), p_value=p_value)


def _clustered(changes: Sequence[float], middle: float, clusters: Sequence[int]) -> float:
    return clustered_error([change - middle for change in changes], clusters)


@dataclass(frozen=True, kw_only=True)
class MarginChange:
    """How decision margins moved, item by item."""

    factor: float
    """Median of this margin divided by the reference's: 1 if nothing moved, below 1 where decisions come closer."""
    lost: int
    """Items whose margin fell from above zero to zero or below: right to wrong."""
    gained: int
    """Items whose margin rose above zero: wrong to right."""


def margin_change(these: Sequence[ItemChoices], reference: Sequence[ItemChoices]) -> MarginChange:
    """The decision margins of the same items, pair by pair. Raises ValueError where there is no pair."""
    pairs = [(this.margin, base.margin) for this, base in zip(these, reference, strict=True)]
    if not pairs:
        raise ValueError("no item was answered by both")
    return MarginChange(
        factor=median(this / base for this, base in pairs if base) if any(base for _, base in pairs) else 1.0,
        lost=sum(this <= 0 < base for this, base in pairs),
        gained=sum(base <= 0 < this for this, base in pairs),
    )
