# SPDX-License-Identifier: Apache-2.0
"""One task's verdict, by the sharpest instrument that both rows hold of it, at whichever look it was stopped. Pure.

A task of choices is decided by the probability of the right choice, any other by its own score or perplexity. What is
judged are stored measurements of the same items, paired by their hashes; so the suite that decides whether to go on and
the view that reads records later come to the same verdict. Where a task was looked at while it was scored, its records
say so (label `looks`), and intervals, p values and verdicts are those of all its looks together.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from bench.judge import choices
from bench.judge.aggregate import holm
from bench.judge.choices import (
    Change,
    ItemChoices,
    MarginChange,
    choices_of,
    margin_change,
    mean_change,
    probability_margin,
)
from bench.judge.differences import at_chance, chance_of, on_scale, score_difference
from bench.judge.moments import mean
from bench.judge.scores import WHOLE, aggregation, compared, is_metric, weights
from bench.judge.scores import clusters as clusters_of
from bench.judge.sequential import ERROR, level, overall
from bench.judge.stats import MARGIN, Estimate, Verdict, mcnemar, verdict_of
from bench.records.record import Measurement
from bench.records.scored import PERPLEXITIES


class Instrument(StrEnum):
    """What a verdict was made by."""

    PERPLEXITY = "perplexity ratio"
    CHOICE = "choice probability"
    ACCURACY = "accuracy"
    GENERATED = "generated answers"
    SHARES = "mean score"
    """A metric of which each item has a share or an amount, not right or wrong."""


STOPPING = {Instrument.CHOICE, Instrument.ACCURACY, Instrument.GENERATED}
"""Instruments whose error rates at early looks are simulated (`benchmarks/simulations.py`): these may end a task."""


@dataclass(frozen=True, kw_only=True)
class Decision:
    """What one instrument says of one task against the reference's answers to the same items."""

    task: str
    instrument: Instrument
    difference: Estimate
    """This minus the reference: of probabilities and shares of right items; of a metric on a scale of its own as a
    share of the reference's mean; of a perplexity ln of the ratio. Below zero is worse everywhere: where less is better
    the sign is turned. The interval holds at 95 % over all looks."""
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
    margins: MarginChange | None = None
    """How the decision margins of a task with choices moved, None of other instruments."""
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
    names, others = hashes(ours), hashes(theirs)
    if len({*names}) < len(names) or len({*others}) < len(others):  # answers of several filters in one
        return Pairs(mine=(), yours=())
    if ours.labels.get("digest") == theirs.labels.get("digest") and len(ours.values) == len(theirs.values):
        every = tuple(range(len(ours.values)))
        return Pairs(mine=every, yours=every)
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
    found: list[Decision] = []
    metrics = [m for m in of_task(ours, task) if is_metric(m) and m.name in yours and WHOLE not in m.labels]
    if not metrics:
        return []
    score = compared(metrics)
    other = yours[score.name]
    pairs, looks = match(score, other), looks_of(score)
    if not pairs.mine:
        return []
    groups = clusters_of(score)
    clusters = [groups[i] for i in pairs.mine] if groups else None
    if choices.NAME in mine and choices.NAME in yours:
        this, base = choices_of(mine[choices.NAME]), choices_of(yours[choices.NAME])
        picked = [this[i] for i in pairs.mine], [base[i] for i in pairs.yours]
        by_choices = _by_choices(task, *picked, clusters, looks, margin)
        found.append(replace(by_choices, margins=margin_change(*picked)))
    our_values, their_values = score.values, other.values
    values = [our_values[i] for i in pairs.mine], [their_values[i] for i in pairs.yours]
    if aggregation(score) in PERPLEXITIES:
        of_items = weights(score)
        found.append(_by_perplexity(task, *values, [of_items[i] for i in pairs.mine], looks, margin))
    else:
        found.append(_by_score(task, score, *values, clusters, looks, margin, generated="answer_tokens" in mine))
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


def _by_score(
    task: str, score: Measurement, these: Sequence[float], reference: Sequence[float],
    clusters: Sequence[int] | None, looks: tuple[int, ...], margin: float, *, generated: bool,
) -> Decision:  # fmt: skip
    after, before = on_scale(score, these, reference)
    found = score_difference(after, before, chance_of(score), margin=margin, clusters=clusters, looks=looks)
    p_value, right = found.p_value, found.lost is not None
    if found.lost is not None and found.gained is not None and found.design > 1:  # as many as their clusters are worth
        p_value = overall(mcnemar(round(found.lost / found.design), round(found.gained / found.design)), looks)
    by = Instrument.GENERATED if generated else Instrument.ACCURACY
    return Decision(
        task=task,
        instrument=by if right else Instrument.SHARES,
        difference=found.difference,
        reference=mean(reference),
        margin=found.margin,
        items=found.items,
        p_value=p_value,
        verdict=found.verdict,
        looks=looks,
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
