# SPDX-License-Identifier: Apache-2.0
"""One task's verdict, by the sharpest instrument that both rows hold of it, at whichever look it was stopped. Pure.

A task of choices is decided by the probability of the right choice, any other by its own score. What is judged are
stored measurements of the same items, paired by their hashes; so the suite that decides whether to go on and the view
that reads records later come to the same verdict. Where a task was looked at while it was scored, its records say so
(label `looks`), and intervals, p values and verdicts are those of all its looks together.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from statistics import mean

from bench.judge import choices
from bench.judge.aggregate import holm
from bench.judge.choices import Change, ItemChoices, choices_of, mean_change, probability_margin
from bench.judge.figures import ACCURACY
from bench.judge.sequential import ERROR, level, overall
from bench.judge.stats import (
    MARGIN,
    Estimate,
    PairedDifference,
    Verdict,
    mcnemar,
    paired_difference,
    verdict_of,
)
from bench.records.record import Measurement

AT_CHANCE = 2.0
"""A reference this many standard errors above chance or fewer has nothing to lose."""


HALF = 0.5
"""From here on a share of an item that is lost counts as an item lost."""


class Instrument(StrEnum):
    """What a verdict was made by."""

    PERPLEXITY = "perplexity ratio"
    CHOICE = "choice probability"
    ACCURACY = "accuracy"
    GENERATED = "generated answers"
    SHARES = "mean score"
    """A metric that is a share of each item, not right or wrong."""


STOPPING = {Instrument.CHOICE, Instrument.ACCURACY, Instrument.GENERATED}
"""Instruments whose error rates at early looks are simulated (`benchmarks/simulations.py`): these may end a task."""


@dataclass(frozen=True, kw_only=True)
class Decision:
    """What one instrument says of one task against the reference's answers to the same items."""

    task: str
    instrument: Instrument
    difference: Estimate
    """This minus the reference: of probabilities and shares of right items; of a rolling task ln of the perplexity
    ratio, sign turned, so that below zero is worse everywhere. The interval holds at 95 % over all looks."""
    reference: float
    """The reference's own mean on these items; of a rolling task 0."""
    margin: float
    """The difference that still counts as equivalent."""
    items: int
    p_value: float
    """For no difference at all, over all looks."""
    verdict: Verdict
    looks: tuple[int, ...] = ()
    """Numbers of items at which it was, or would have been, looked at; empty where it was scored in one go."""
    holm_p: float | None = None
    """The same p after Holm over the tasks that are read side by side, None if it stands alone."""

    @property
    def settled(self) -> bool:
        """Whether more items would change nothing."""
        return self.verdict in {Verdict.WORSE, Verdict.BETTER, Verdict.EQUIVALENT}


@dataclass(frozen=True, kw_only=True)
class Pairs:
    """Which items of two measurements are the same ones."""

    mine: tuple[int, ...]
    yours: tuple[int, ...]


def match(ours: Measurement, theirs: Measurement) -> Pairs:
    """Places of the items that both answered, in the order of `ours`: by their hashes, or all where digests agree.

    Records from before hashes were kept pair as a whole or not at all.
    """
    if ours.labels.get("digest") == theirs.labels.get("digest") and len(ours.values) == len(theirs.values):
        every = tuple(range(len(ours.values)))
        return Pairs(mine=every, yours=every)
    names, others = hashes(ours), hashes(theirs)
    if len({*names}) < len(names) or len({*others}) < len(others):  # answers of several filters in one
        return Pairs(mine=(), yours=())
    places = {name: index for index, name in enumerate(others)}
    mine = [(index, places[name]) for index, name in enumerate(names) if name in places]
    return Pairs(mine=tuple(index for index, _ in mine), yours=tuple(index for _, index in mine))


def hashes(measurement: Measurement) -> list[str]:
    """Each item's name, from its place, document and prompt; empty in records from before they were kept."""
    whole, width = str(measurement.labels.get("item_hashes", "")), 10
    return [whole[i : i + width] for i in range(0, len(whole), width)]


def of_task(found: Sequence[Measurement], task: str) -> list[Measurement]:
    """What a record holds of one task."""
    return [measurement for measurement in found if measurement.labels.get("task") == task]


def decide(
    ours: Sequence[Measurement], theirs: Sequence[Measurement], task: str, margin: float = MARGIN
) -> list[Decision]:
    """Every instrument's verdict on one task, the one that decides first; empty where nothing pairs.

    `ours` and `theirs` are measurements of two rows, of this task or of several. `margin` is what may be lost and still
    count as equivalent: a share of the reference's accuracy above chance, the change of a probability
    (`probability_margin`), the share by which a rolling task's perplexity may grow.
    """
    mine, yours = ({m.name: m for m in reversed(of_task(found, task))} for found in (ours, theirs))
    found = []
    score = next((name for name in ACCURACY if name in mine and name in yours), None)
    named = score or next((name for name in mine if name in yours and "item_weights" in mine[name].labels), None)
    if named is None:
        return []
    pairs, looks = match(mine[named], yours[named]), looks_of(mine[named])
    if not pairs.mine:
        return []
    groups = mine[named].labels.get("clusters")
    clusters = [int(str(groups[i])) for i in pairs.mine] if isinstance(groups, list) else None
    if choices.NAME in mine and choices.NAME in yours:
        this, base = choices_of(mine[choices.NAME]), choices_of(yours[choices.NAME])
        picked = [this[i] for i in pairs.mine], [base[i] for i in pairs.yours]
        found.append(_by_choices(task, *picked, clusters, looks, margin))
    values = [mine[named].values[i] for i in pairs.mine], [yours[named].values[i] for i in pairs.yours]
    if score is None:
        weights = mine[named].labels["item_weights"]
        assert isinstance(weights, list)
        found.append(_by_perplexity(task, *values, [float(str(weights[i])) for i in pairs.mine], looks, margin))
    else:
        chance = mine[named].labels.get("chance")
        generated = Instrument.GENERATED if "answer_tokens" in mine else Instrument.ACCURACY
        by_score = _by_accuracy(
            task, *values, float(chance) if isinstance(chance, int | float) else 0.0, clusters, looks, margin
        )
        found.append(by_score if by_score.instrument is Instrument.SHARES else replace(by_score, instrument=generated))
    return found


def looks_of(measurement: Measurement) -> tuple[int, ...]:
    """When this task was looked at while it was scored; empty where it was not."""
    looks = measurement.labels.get("looks")
    return tuple(int(str(look)) for look in looks) if isinstance(looks, list) else ()


def without_choices(ours: Sequence[Measurement], theirs: Sequence[Measurement], task: str) -> str:
    """Why a task that both answered is not decided by the probability of the right choice; empty if it is, or has none.

    Records say since this is kept how a task is answered (label `output_type`), older ones do not.
    """
    sides = {"this row": of_task(ours, task), "the reference": of_task(theirs, task)}
    kinds = {str(m.labels["output_type"]) for found in sides.values() for m in found if "output_type" in m.labels}
    if kinds - {"multiple_choice"}:
        return ""
    old = [side for side, found in sides.items() if not any("output_type" in m.labels for m in found)]
    if old:
        return f"compared by accuracy alone: {' and '.join(old)} was measured before choices' log-likelihoods were kept"
    lacking = [side for side, found in sides.items() if not any(m.name == choices.NAME for m in found)]
    return "compared by its own score alone: more than one choice is right, or it is scored its own way" * bool(lacking)


def together(decisions: Sequence[Decision]) -> list[Decision]:
    """The verdicts of tasks that are read side by side: worse and better need a p of at most 5 % after Holm.

    Each p is valid at the look where its task stopped, so Holm over them is too; what it has let pass stays so while
    other tasks go on.
    """
    family = [i for i, decision in enumerate(decisions) if decision.verdict is not Verdict.NOT_MEASURABLE]
    adjusted = dict(zip(family, holm([decisions[i].p_value for i in family]), strict=True))
    found = list(decisions)
    for index, p_value in adjusted.items():
        decision = replace(decisions[index], holm_p=p_value)
        if decision.verdict in {Verdict.WORSE, Verdict.BETTER} and p_value > ERROR:
            decision = replace(decision, verdict=Verdict.UNDECIDED)
        found[index] = decision
    return found


def _by_choices(
    task: str, these: Sequence[ItemChoices], reference: Sequence[ItemChoices], clusters: Sequence[int] | None,
    looks: tuple[int, ...], margin: float,
) -> Decision:  # fmt: skip
    after, before = ([item.probability for item in items] for items in (these, reference))
    chance = math.fsum(1 / len(item.log_likelihoods) for item in reference) / len(reference)
    return by_probability(task, after, before, chance, clusters=clusters, looks=looks, margin=margin)


def by_probability(
    task: str, after: Sequence[float], before: Sequence[float], chance: float, *, margin: float = MARGIN,
    clusters: Sequence[int] | None = None, looks: tuple[int, ...] = (),
) -> Decision:  # fmt: skip
    """The verdict on the probabilities of the right choice: this row's and the reference's of the same items."""
    change = mean_change([a - b for a, b in zip(after, before, strict=True)], clusters, level(looks))
    found = _decision(
        task,
        Instrument.CHOICE,
        change,
        before,
        probability_margin(margin, math.fsum(before) / len(before), chance),
        looks,
    )
    return replace(found, verdict=Verdict.NOT_MEASURABLE) if at_chance(before, chance, clusters) else found


def _by_accuracy(
    task: str, these: Sequence[float], reference: Sequence[float], chance: float, clusters: Sequence[int] | None,
    looks: tuple[int, ...], margin: float,
) -> Decision:  # fmt: skip
    found = accuracy_difference(these, reference, chance, margin=margin, clusters=clusters, looks=looks)
    p_value = found.p_value
    if found.design > 1:  # as many flips as their clusters are worth
        p_value = overall(mcnemar(round(found.lost / found.design), round(found.gained / found.design)), looks)
    return Decision(
        task=task,
        instrument=Instrument.ACCURACY if _right_or_wrong(these, reference) else Instrument.SHARES,
        difference=found.difference,
        reference=mean(reference),
        margin=found.margin,
        items=found.items,
        p_value=p_value,
        verdict=found.verdict,
        looks=looks,
    )


def _right_or_wrong(these: Sequence[float], reference: Sequence[float]) -> bool:
    return {*these, *reference} <= {0.0, 1.0}


def accuracy_difference(
    these: Sequence[float], reference: Sequence[float], chance: float, *, margin: float = MARGIN,
    clusters: Sequence[int] | None = None, looks: tuple[int, ...] = (),
) -> PairedDifference:  # fmt: skip
    """Right and wrong answers of two models to the same items, at the level of all looks.

    A metric may also be a share of an item (the probability that truthfulqa_mc2 gives to true answers). Then a little
    less of every item is no item lost: the interval is that of the mean change, and an item counts as lost or gained
    where half of it or more is.
    """
    from scipy.stats import norm

    each = level(looks)
    if _right_or_wrong(these, reference):
        z = float(norm.isf(each / 2))
        found = paired_difference(these, reference, chance, margin=margin, clusters=clusters, z=z)
        return replace(found, p_value=overall(found.p_value, looks))
    changes = [new - old for new, old in zip(these, reference, strict=True)]
    change, width = mean_change(changes, clusters, each), margin * (mean(reference) - chance)
    verdict = Verdict.UNDECIDED if change.difference.low is None else verdict_of(change.difference, width)
    return PairedDifference(
        difference=change.difference,
        lost=sum(moved <= -HALF for moved in changes),
        gained=sum(moved >= HALF for moved in changes),
        items=len(changes),
        p_value=overall(change.p_value, looks),
        verdict=Verdict.NOT_MEASURABLE if at_chance(reference, chance, clusters) else verdict,
        more_items=None,
        margin=width,
    )


def _by_perplexity(
    task: str, these: Sequence[float], reference: Sequence[float], weights: Sequence[float],
    looks: tuple[int, ...], margin: float,
) -> Decision:  # fmt: skip
    """Log-likelihoods of whole texts, each of so many words or bytes: nats a word, a ratio of sums over texts."""
    whole, n = math.fsum(weights), len(weights)
    gains = [this - base for this, base in zip(these, reference, strict=True)]
    middle = math.fsum(gains) / whole
    left = [gain - middle * weight for gain, weight in zip(gains, weights, strict=True)]
    scaled = mean_change([middle + one * n / whole for one in left], None, level(looks))
    return _decision(task, Instrument.PERPLEXITY, scaled, [0.0], math.log1p(margin), looks, items=n)


def _decision(
    task: str, instrument: Instrument, change: Change, reference: Sequence[float], margin: float,
    looks: tuple[int, ...], items: int | None = None,
) -> Decision:  # fmt: skip
    open_ended = change.difference.low is None
    return Decision(
        task=task,
        instrument=instrument,
        difference=change.difference,
        reference=math.fsum(reference) / len(reference),
        margin=margin,
        items=items or len(reference),
        p_value=overall(change.p_value, looks),
        verdict=Verdict.UNDECIDED if open_ended else verdict_of(change.difference, margin),
        looks=looks,
    )


def at_chance(reference: Sequence[float], chance: float, clusters: Sequence[int] | None) -> bool:
    """Whether the reference is within two standard errors of a guess, and so has nothing to lose."""
    found = mean_change(reference, clusters, ERROR).difference
    if found.low is None or found.half_width is None:
        return True
    return found.value - chance <= found.half_width
