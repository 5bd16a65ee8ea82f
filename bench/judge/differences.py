# SPDX-License-Identifier: Apache-2.0
"""The difference of two models' scores over the same items, whatever the metric. Pure.

Right and wrong answers are two paired proportions: lost and gained items, Tango's interval, McNemar's test. Any other
value of an item (the probability that truthfulqa_mc2 gives to true answers, an F1 of words) is a number: the interval
is Student's of the mean paired difference, and no item is lost or gained.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from bench.judge.choices import mean_change
from bench.judge.moments import mean
from bench.judge.scores import is_skill, lower_is_better
from bench.judge.sequential import ERROR, level, overall
from bench.judge.stats import (
    MARGIN,
    MOST_TIMES,
    Estimate,
    PairedDifference,
    Verdict,
    Z,
    paired_difference,
    verdict_of,
)
from bench.records.record import Measurement


def right_or_wrong(these: Sequence[float], reference: Sequence[float]) -> bool:
    """Whether every item is either right or wrong."""
    return {*these, *reference} <= {0.0, 1.0}


def chance_of(measurement: Measurement) -> float | None:
    """What a guess scores, 0 where its task does not say; None for a metric that is no share of what could be right."""
    if not is_skill(measurement):
        return None
    chance = measurement.labels.get("chance")
    return float(chance) if isinstance(chance, int | float) else 0.0


def on_scale(
    measurement: Measurement, these: Sequence[float], reference: Sequence[float]
) -> tuple[list[float], list[float]]:
    """Both sides' values as differences are taken of them: more is better, and a difference is a share.

    Shares of what could be right, and items that are right or wrong, stay as they are. A metric on a scale of its own
    (BLEU of a sentence from 0 to 100, an error that should be small) is divided by the reference's mean, so that a
    hundredth of it is one percent.
    """
    if is_skill(measurement) or (right_or_wrong(these, reference) and not lower_is_better(measurement)):
        return list(these), list(reference)
    scale = abs(mean(reference)) or 1.0
    if lower_is_better(measurement):
        scale = -scale
    return [value / scale for value in these], [value / scale for value in reference]


def score_difference(
    these: Sequence[float], reference: Sequence[float], chance: float | None, *, margin: float = MARGIN,
    clusters: Sequence[int] | None = None, looks: tuple[int, ...] = (),
) -> PairedDifference:  # fmt: skip
    """Two models' scores of the same items, at the level of all looks; `chance` None where no guess has a score."""
    from scipy.special import ndtri

    each = level(looks)
    if right_or_wrong(these, reference):
        z = -float(ndtri(each / 2))
        found = paired_difference(these, reference, chance or 0.0, margin=margin, clusters=clusters, z=z)
        return replace(found, p_value=overall(found.p_value, looks))
    changes = [new - old for new, old in zip(these, reference, strict=True)]
    change, width = mean_change(changes, clusters, each), margin * abs(mean(reference) - (chance or 0.0))
    verdict = Verdict.UNDECIDED if change.difference.low is None else verdict_of(change.difference, width)
    if chance is not None and at_chance(reference, chance, clusters):
        verdict = Verdict.NOT_MEASURABLE
    undecided = verdict is Verdict.UNDECIDED
    return PairedDifference(
        difference=change.difference,
        lost=None,
        gained=None,
        items=len(changes),
        p_value=overall(change.p_value, looks),
        verdict=verdict,
        more_items=more_of_mean(change.difference, len(changes), width) if undecided else None,
        margin=width,
    )


def more_of_mean(difference: Estimate, n: int, margin: float, *, family: int = 1) -> int | None:
    """About how many more items would decide a mean change; None if a thousand times as many would not.

    The interval shrinks with the root of their number. In a family of tasks one that is worse or better must be so at
    5 % divided by their number, as in `more_items`.
    """
    from scipy.special import ndtri

    half, middle = difference.half_width, abs(difference.value)
    if half is None:
        return None
    stricter = -float(ndtri(ERROR / 2 / family)) / Z
    ways = [(half * stricter / middle) ** 2] if middle else []
    ways += [(half / (margin - middle)) ** 2] if middle < margin else []
    times = min(ways, default=math.inf)
    return max(1, math.ceil(n * (times - 1))) if times <= MOST_TIMES else None


def at_chance(reference: Sequence[float], chance: float, clusters: Sequence[int] | None) -> bool:
    """Whether the reference is within two standard errors of a guess, and so has nothing to lose."""
    found = mean_change(reference, clusters, ERROR).difference
    if found.low is None or found.half_width is None:
        return True
    return found.value - chance <= found.half_width
