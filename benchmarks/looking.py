# SPDX-License-Identifier: Apache-2.0
"""Simulated comparisons of choice tasks, looked at once or while they grow: what `benchmarks.simulations` counts.

An item's choices have log-likelihoods as wide apart as a small model's on ARC-easy. Two rows see them through noise of
their own, of the same law: then neither is better, whatever the noise. One that loses has its right choice pulled down
by so many nats; how much probability that costs is found from a large sample of the same law.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq

from bench.judge.decisions import Decision, by_probability, together
from bench.judge.differences import score_difference
from bench.judge.sequential import ladder
from bench.judge.stats import Estimate, Verdict

Draw = np.random.Generator
Floats = NDArray[np.float64]
CHOICES = 4
CHANCE = 1 / CHOICES
SPREAD = 3.0
"""Nats by which choices of an item differ (standard deviation)."""
LEAD = 2.0
"""Nats by which the right one leads on average."""
MARGIN = 0.01
LARGE = 400_000
"""Items of the sample that truths are found from."""


@dataclass(frozen=True, kw_only=True)
class Law:
    """How two rows of a task differ."""

    noise: float
    """Nats (standard deviation) that each row adds to each log-likelihood."""
    heavy: bool = False
    """Whether the noise has Student's tails, three degrees of freedom: most items hardly move, a few do a lot."""
    size: int = 0
    """Items of a subject, which share half of the variance of the noise; 0 without subjects."""
    loss: float = 0.0
    """Mean probability that this row loses."""

    def rows(self, draw: Draw, items: int) -> tuple[Floats, Floats]:
        """Probabilities of the right choice: this row's and the reference's."""
        return self.drawn(draw, items, pull(self))

    def drawn(self, draw: Draw, items: int, nats: float) -> tuple[Floats, Floats]:
        """The same with this row's right choice pulled down by so many nats."""
        shared = SPREAD * draw.normal(size=(items, CHOICES))
        shared[:, 0] += LEAD
        after, before = shared + self._noise(draw, items), shared + self._noise(draw, items)
        after[:, 0] -= nats
        return probability(after), probability(before)

    def _noise(self, draw: Draw, items: int) -> Floats:
        shape = (items, CHOICES)
        own = draw.standard_t(3, shape) / np.sqrt(3) if self.heavy else draw.normal(size=shape)
        if not self.size:
            return self.noise * own
        subjects = draw.normal(size=(-(-items // self.size), CHOICES)).repeat(self.size, axis=0)[:items]
        return self.noise * (own + subjects) / np.sqrt(2)

    def clusters(self, items: int) -> list[int] | None:
        """Each item's subject."""
        return [index // self.size for index in range(items)] if self.size else None


def probability(log_likelihoods: Floats) -> Floats:
    """Of the first choice, by the softmax."""
    weights = np.exp(log_likelihoods - log_likelihoods.max(axis=1, keepdims=True))
    return np.asarray(weights[:, 0] / weights.sum(axis=1))


@lru_cache
def pull(law: Law) -> float:
    """Nats by which this row's right choice is pulled down, so that it loses what its law says."""
    if not law.loss:
        return 0.0

    def beyond(nats: float) -> float:
        after, before = law.drawn(np.random.default_rng(7), LARGE, nats)
        return float((after - before).mean()) + law.loss

    return float(brentq(beyond, 0.0, 3.0, xtol=1e-5))


def stopped(
    after: Sequence[float], before: Sequence[float], law: Law, looks: tuple[int, ...], *, naive: bool = False
) -> Decision:
    """The decision at the look where it is settled, else at the last; naive: each look at 95 % of its own."""
    clusters = law.clusters(len(after))
    for look in looks:
        found = by_probability(
            "t", after[:look], before[:look], CHANCE, margin=MARGIN, clusters=clusters[:look] if clusters else None,
            looks=() if naive else looks,
        )  # fmt: skip
        if found.settled:
            break
    return found


def holds(estimate: Estimate, truth: float) -> bool:
    """Whether the interval holds the truth; none at all holds nothing."""
    return estimate.low is not None and estimate.high is not None and estimate.low <= truth <= estimate.high


def covered(law: Law, items: int) -> Callable[[Draw], bool]:
    """A comparison of so many items, judged once."""

    def trial(draw: Draw) -> bool:
        after, before = law.rows(draw, items)
        found = by_probability("t", after.tolist(), before.tolist(), CHANCE, clusters=law.clusters(items))
        return holds(found.difference, -law.loss)

    return trial


def covered_at_the_stop(law: Law, items: int, *, naive: bool = False) -> Callable[[Draw], bool]:
    """The interval where a comparison was settled and left."""

    def trial(draw: Draw) -> bool:
        after, before = (row.tolist() for row in law.rows(draw, items))
        found = stopped(after, before, law, ladder(items), naive=naive)
        return holds(found.difference, -law.loss)

    return trial


def called(verdicts: set[Verdict], law: Law, items: int) -> Callable[[Draw], bool]:
    """Any of these verdicts where a comparison was settled and left."""

    def trial(draw: Draw) -> bool:
        after, before = (row.tolist() for row in law.rows(draw, items))
        return stopped(after, before, law, ladder(items)).verdict in verdicts

    return trial


def any_called(tasks: int, law: Law, items: int) -> Callable[[Draw], bool]:
    """Worse or better of any of several tasks that are looked at in turn, and left when Holm lets them pass."""

    def trial(draw: Draw) -> bool:
        rows = [[row.tolist() for row in law.rows(draw, items)] for _ in range(tasks)]
        looks, decisions = ladder(items), {}
        left: set[int] = set()
        for look in looks:
            for task in set(range(tasks)) - left:
                after, before = (row[:look] for row in rows[task])
                decisions[task] = by_probability("t", after, before, CHANCE, margin=MARGIN, looks=looks)
            for task, found in enumerate(together([decisions[task] for task in range(tasks)])):
                if found.verdict in {Verdict.WORSE, Verdict.BETTER}:
                    return True
                left |= {task} if found.settled else set()
        return False

    return trial


def answers_called(verdicts: set[Verdict], items: int, lost: float, gained: float) -> Callable[[Draw], bool]:
    """Any of these verdicts of right and wrong answers, looked at in the same way."""

    def trial(draw: Draw) -> bool:
        at = draw.random(items)
        reference = at < 0.7
        these = (reference & (at >= lost)) | ((at >= 0.7) & (at < 0.7 + gained))
        after, before = these.astype(float).tolist(), reference.astype(float).tolist()
        looks = ladder(items)
        for look in looks:
            found = score_difference(after[:look], before[:look], CHANCE, margin=MARGIN, looks=looks)
            if found.verdict not in {Verdict.UNDECIDED, Verdict.NOT_MEASURABLE}:
                return found.verdict in verdicts
        return False

    return trial
