# SPDX-License-Identifier: Apache-2.0
"""Several tasks of one comparison together: Holm over their tests, and the share of the score that is left. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from bench.judge.differences import more_of_mean, right_or_wrong
from bench.judge.moments import mean, student
from bench.judge.stats import CONFIDENCE, Estimate, PairedDifference, Verdict, Z, design_effect, more_items

AT_CHANCE = 2.0
"""A reference this many standard errors above chance or fewer has nothing to lose."""


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjusted p values of a family of tests. S. Holm, Scandinavian Journal of Statistics 6 (1979)."""
    adjusted = [1.0] * len(p_values)
    highest = 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = highest
    return adjusted


def together(results: Sequence[PairedDifference]) -> list[PairedDifference]:
    """The verdicts of tasks that are read side by side.

    Of many tasks one differs by chance: worse and better need a p of at most 5 % after Holm over those that
    are measurable, else they are undecided. Equivalence needs no correction for a claim about one task.
    """
    family = [i for i, result in enumerate(results) if result.verdict is not Verdict.NOT_MEASURABLE]
    adjusted = dict(zip(family, holm([results[i].p_value for i in family]), strict=True))
    found = list(results)
    for index, p_value in adjusted.items():
        result = replace(results[index], holm_p=p_value)
        if result.verdict in {Verdict.WORSE, Verdict.BETTER} and p_value > 1 - CONFIDENCE:
            result = replace(result, verdict=Verdict.UNDECIDED, more_items=_more(result, len(family)))
        found[index] = result
    return found


def _more(result: PairedDifference, family: int) -> int | None:
    if result.lost is None or result.gained is None:
        return more_of_mean(result.difference, result.items, result.margin, family=family)
    return more_items(
        result.lost, result.gained, result.items, result.margin, design=result.design, family=family, z=result.z
    )


@dataclass(frozen=True, kw_only=True)
class Answers:
    """Right (1), wrong (0) and partly right answers of two models to one task's items, pair by pair."""

    these: Sequence[float]
    reference: Sequence[float]
    chance: float
    clusters: Sequence[int] | None = None


@dataclass(frozen=True, kw_only=True)
class Recovery:
    """What of the reference's score above chance is left, over all tasks."""

    share: Estimate
    """1 is all of it."""
    verdict: Verdict


def recovery(tasks: Sequence[Answers], margin: float) -> Recovery | None:
    """Mean over tasks of (score - chance) / (1 - chance), divided by the reference's; None without a task.

    The interval is the delta method's for a ratio of dependent means, with one lost and one gained item added over all
    tasks of right and wrong answers together (as Bonett and Price do for one table, Journal of Educational and
    Behavioral Statistics 37, 2012), so that no flips do not mean no error; of items that are a part right the change
    has a spread of its own, and nothing is added. Not measurable where the reference's own score is within two standard
    errors of chance.
    """
    if not tasks:
        return None
    share_of = 1 / len(tasks)
    flipping = [right_or_wrong(task.these, task.reference) for task in tasks]
    base = difference = of_base = of_difference = of_both = 0.0
    least = math.inf  # degrees of freedom of the shortest task whose spread is its own
    for task, flips in zip(tasks, flipping, strict=True):
        weight = share_of / (1 - task.chance)
        n, right = len(task.reference), mean(task.reference)
        changes = [new - old for new, old in zip(task.these, task.reference, strict=True)]
        change = mean(changes)
        effective = n / design_effect(changes, task.clusters)
        added = 2 / sum(flipping) if flips else 0.0
        counted = effective + added
        squares = (math.fsum(c * c for c in changes) * effective / n + added) / counted
        moved = math.fsum(changes) * effective / n / counted
        base += weight * (right - task.chance)
        difference += weight * change
        freedom = counted if flips else counted - 1
        of_difference += weight**2 * (squares - moved**2) / freedom if freedom > 0 else math.inf
        least = least if flips else min(least, freedom)
        effective = n / design_effect(task.reference, task.clusters)
        spread = math.fsum(old * old for old in task.reference) / n - right * right
        both = math.fsum(c * old for c, old in zip(changes, task.reference, strict=True)) / n - change * right
        of_base += weight**2 * spread / effective
        of_both += weight**2 * both / effective
    if base <= AT_CHANCE * math.sqrt(of_base):
        return Recovery(share=Estimate(math.nan), verdict=Verdict.NOT_MEASURABLE)
    change = difference / base
    quantile = Z if math.isinf(least) else -student((1 - CONFIDENCE) / 2, max(least, 1.0))
    half = quantile * math.sqrt(max(of_difference - 2 * change * of_both + change**2 * of_base, 0.0)) / base
    if math.isinf(half):  # of one item nothing is known of its spread
        return Recovery(share=Estimate(1 + change), verdict=Verdict.UNDECIDED)
    low, high = change - half, change + half
    share = Estimate(1 + change, 1 + low, 1 + high)
    return Recovery(share=share, verdict=_verdict(low, high, margin))


def _verdict(low: float, high: float, margin: float) -> Verdict:
    if -margin < low and high < margin:
        return Verdict.EQUIVALENT
    if high < 0:
        return Verdict.WORSE
    return Verdict.BETTER if low > 0 else Verdict.UNDECIDED
