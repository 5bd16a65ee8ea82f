# SPDX-License-Identifier: Apache-2.0
"""Do the printed intervals hold what they promise? Each is made from simulated samples whose truth is known.

`python -m benchmarks.simulations [--trials 2000] [--report FILE]` draws every case anew in each trial, makes the
interval by the very function that the tables use, and counts how often it holds the truth: 94 to 96 of a hundred, or
more where order statistics allow no closer interval; up to five samples the interval is their range, 94 % of five at
best, and to stop as soon as it is narrow costs one more at most. Proportions are discrete, and a single true share is
covered by luck now above and now below 95 %; so their truth is drawn anew in each trial too. Beside the intervals stand
error rates: how often `equivalent` is said of a model that has lost just the margin, how often any of six tasks is said
to differ where none does, how often McNemar's test rejects where nothing has changed. Both are also counted of
comparisons that are looked at while they grow and left when they are settled (`benchmarks.looking`). Exit 1 if a rate
is out of its bounds. A case marked "naive" is one that the project does not print: what the same samples give where
their clusters, or their looks, are forgotten.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import mean

import numpy as np
from numpy.typing import NDArray

from bench.judge.aggregate import Answers, recovery, together
from bench.judge.figures import mean_of_tasks
from bench.judge.stats import (
    Estimate,
    Verdict,
    clustered_mean,
    mcnemar,
    mean_estimate,
    median_estimate,
    paired_difference,
    proportion,
    ratio_of_medians,
)
from bench.records.record import How, Measurement, Unit
from benchmarks import looking
from benchmarks.looking import Law
from suites.repeats import NOISY

Draw = np.random.Generator
CHANCE = 0.25
MARGIN = 0.01
TRIALS = 2000


@dataclass(frozen=True, kw_only=True)
class Case:
    """What is counted, and between which bounds its rate must lie; `judged` is false for what nobody prints."""

    name: str
    setting: str
    trial: Callable[[Draw], bool]
    low: float = 0.94
    high: float = 0.96
    judged: bool = True
    long: bool = False
    """Whether a trial takes so long that only the whole of it counts it, not the tests."""

    def rate(self, trials: int, seed: int = 20260101) -> float:
        """Share of trials in which it happens."""
        draw = np.random.default_rng(seed)
        return mean(self.trial(draw) for _ in range(trials))


def holds(estimate: Estimate, truth: float) -> bool:
    """Whether the interval holds the truth."""
    assert estimate.low is not None
    assert estimate.high is not None
    return estimate.low <= truth <= estimate.high


def median_of(n: int, skew: float) -> Callable[[Draw], bool]:
    """Repeats of a time that is sometimes much longer, never much shorter."""
    return lambda draw: holds(median_estimate(np.exp(skew * draw.normal(size=n)).tolist()), 1.0)


def median_until_narrow(least: int, most: int) -> Callable[[Draw], bool]:
    """Repeats as the throughput suite adds them: while the interval is wider than its share of the median."""

    def trial(draw: Draw) -> bool:
        samples: list[float] = []
        while len(samples) < most:
            samples.append(float(np.exp(0.04 * draw.normal())))
            found = median_estimate(samples)
            if len(samples) >= least and 2 * (found.half_width or 0.0) <= NOISY * found.value:
                break
        return holds(median_estimate(samples), 1.0)

    return trial


def mean_of(n: int) -> Callable[[Draw], bool]:
    """Windows of a text: differences of their nats a token."""
    return lambda draw: holds(mean_estimate(draw.normal(0.3, 0.1, n).tolist()), 0.3)


def distances(draw: Draw, windows: int, tokens: int) -> NDArray[np.float64]:
    """KL of tokens, log-normal with a long tail, the windows of a text differing among each other; mean exp(0.77)."""
    of_window = draw.normal(0.0, 0.2, (windows, 1))
    return np.exp(of_window + draw.normal(0.0, 1.225, (windows, tokens)))


KLD = math.exp((0.2**2 + 1.225**2) / 2)
RMS = math.exp(0.2**2 + 1.225**2)


def kld_of(windows: int, tokens: int, *, naive: bool = False) -> Callable[[Draw], bool]:
    """Mean KL a token."""
    cluster = 1 if naive else tokens
    return lambda draw: holds(clustered_mean(distances(draw, windows, tokens).ravel().tolist(), cluster), KLD)


def share_of(n: int) -> Callable[[Draw], bool]:
    """Independent items of a task of any difficulty."""

    def trial(draw: Draw) -> bool:
        truth = draw.uniform(0.05, 0.95)
        return holds(proportion((draw.random(n) < truth).astype(float).tolist()), truth)

    return trial


def subjects(draw: Draw, clusters: int, size: int, rate: NDArray[np.float64] | float) -> NDArray[np.bool_]:
    """Yes or no for items that come in subjects; a subject's own rate varies around the whole one (beta, rho = 1/6)."""
    own = draw.beta(5 * np.asarray(rate), 5 * (1 - np.asarray(rate)), clusters)
    return draw.random((clusters, size)) < own[:, None]


def numbers(clusters: int, size: int) -> list[int]:
    """Each item's subject."""
    return np.repeat(np.arange(clusters), size).tolist()


def clustered_share_of(clusters: int, size: int, *, naive: bool = False) -> Callable[[Draw], bool]:
    """Items of subjects."""
    of_items = None if naive else numbers(clusters, size)

    def trial(draw: Draw) -> bool:
        truth = draw.uniform(0.2, 0.8)
        return holds(proportion(subjects(draw, clusters, size, truth).ravel().astype(float).tolist(), of_items), truth)

    return trial


Pair = tuple[list[float], list[float]]


def answered(draw: Draw, n: int, right: float, lost: float, gained: float) -> Pair:
    """Right and wrong of this and of the reference, with such shares of items lost and gained."""
    at = draw.random(n)
    reference = at < right
    these = (reference & (at >= lost)) | ((at >= right) & (at < right + gained))
    return these.astype(float).tolist(), reference.astype(float).tolist()


def answered_by_subject(draw: Draw, clusters: int, size: int, right: float, lost: float, gained: float) -> Pair:
    """The same with subjects of their own: in some, many right items are lost, and many wrong ones gained."""
    reference = subjects(draw, clusters, size, right)
    flipped_right = subjects(draw, clusters, size, lost / right)
    flipped_wrong = subjects(draw, clusters, size, gained / (1 - right))
    these = np.where(reference, ~flipped_right, flipped_wrong)
    return these.ravel().astype(float).tolist(), reference.ravel().astype(float).tolist()


def difference_of(n: int) -> Callable[[Draw], bool]:
    """Share lost and gained, both drawn."""

    def trial(draw: Draw) -> bool:
        lost, gained = draw.uniform(0.01, 0.15), draw.uniform(0.01, 0.1)
        return holds(paired_difference(*answered(draw, n, 0.7, lost, gained), CHANCE).difference, gained - lost)

    return trial


def clustered_difference_of(clusters: int, size: int, *, naive: bool = False) -> Callable[[Draw], bool]:
    """The same by subject."""
    of_items = None if naive else numbers(clusters, size)

    def trial(draw: Draw) -> bool:
        lost, gained = draw.uniform(0.05, 0.2), draw.uniform(0.02, 0.1)
        these, reference = answered_by_subject(draw, clusters, size, 0.7, lost, gained)
        return holds(paired_difference(these, reference, CHANCE, clusters=of_items).difference, gained - lost)

    return trial


RIGHT = (0.6, 0.7, 0.8)
LOST, GAINED = 0.10, 0.04
LEFT = 1 + (GAINED - LOST) / (mean(RIGHT) - CHANCE)
"""What of the score above chance is left, over three tasks of the same chance."""


def recovery_of(n: int) -> Callable[[Draw], bool]:
    """Three tasks of independent items."""

    def trial(draw: Draw) -> bool:
        tasks = [answered(draw, n, right, LOST, GAINED) for right in RIGHT]
        found = recovery([Answers(these=t, reference=r, chance=CHANCE) for t, r in tasks], MARGIN)
        return found is not None and holds(found.share, LEFT)

    return trial


def clustered_recovery_of(clusters: int, size: int) -> Callable[[Draw], bool]:
    """Three tasks of subjects."""
    of_items = numbers(clusters, size)

    def trial(draw: Draw) -> bool:
        tasks = [answered_by_subject(draw, clusters, size, right, LOST, GAINED) for right in RIGHT]
        answers = [Answers(these=t, reference=r, chance=CHANCE, clusters=of_items) for t, r in tasks]
        found = recovery(answers, MARGIN)
        return found is not None and holds(found.share, LEFT)

    return trial


def accuracy_of(n: int) -> Callable[[Draw], bool]:
    """Mean over three tasks."""

    def trial(draw: Draw) -> bool:
        tasks = [
            Measurement(
                name="acc", unit=Unit.FRACTION, how=How.MEASURED, counter=None, labels={},
                values=tuple((draw.random(n) < right).astype(float).tolist()),
            )
            for right in RIGHT
        ]  # fmt: skip
        return holds(mean_of_tasks(tasks), mean(RIGHT))

    return trial


def ratio_of(n: int) -> Callable[[Draw], bool]:
    """Speeds of two rows, each with 5 % of noise."""

    def trial(draw: Draw) -> bool:
        this, other = 2 * np.exp(0.05 * draw.normal(size=n)), np.exp(0.05 * draw.normal(size=n))
        return holds(ratio_of_medians(this.tolist(), other.tolist()), 2.0)

    return trial


def wrongly_equivalent(n: int) -> Callable[[Draw], bool]:
    """A model that has lost just the margin."""
    margin = MARGIN * (0.8 - CHANCE)
    return lambda draw: (
        paired_difference(*answered(draw, n, 0.8, 0.005 + margin, 0.005), CHANCE).verdict is Verdict.EQUIVALENT
    )


def wrongly_different(tasks: int, n: int) -> Callable[[Draw], bool]:
    """Any task called worse or better where as many items are lost as gained."""

    def trial(draw: Draw) -> bool:
        found = together([paired_difference(*answered(draw, n, 0.7, 0.05, 0.05), CHANCE) for _ in range(tasks)])
        return any(result.verdict in {Verdict.WORSE, Verdict.BETTER} for result in found)

    return trial


def wrongly_rejected(n: int) -> Callable[[Draw], bool]:
    """McNemar's p at most 5 % where as many items are lost as gained."""

    def trial(draw: Draw) -> bool:
        lost = int(draw.binomial(n, 0.1))
        kept = int(draw.binomial(lost, 0.5))
        return mcnemar(kept, lost - kept) <= 0.05

    return trial


def equivalent_by_recovery(n: int) -> Callable[[Draw], bool]:
    """Three tasks together that have lost just the margin."""
    margin = MARGIN * (mean(RIGHT) - CHANCE)

    def trial(draw: Draw) -> bool:
        tasks = [answered(draw, n, right, 0.005 + margin, 0.005) for right in RIGHT]
        found = recovery([Answers(these=t, reference=r, chance=CHANCE) for t, r in tasks], MARGIN)
        return found is not None and found.verdict is Verdict.EQUIVALENT

    return trial


def rms_of(windows: int, tokens: int) -> Callable[[Draw], bool]:
    """Root mean square of a change that is small for most tokens."""

    def trial(draw: Draw) -> bool:
        squares = (draw.normal(0.0, 0.1, (windows, tokens)) * np.exp(draw.normal(0.0, 0.2, (windows, 1)))) ** 2
        return holds(clustered_mean(squares.ravel().tolist(), tokens), 0.01 * math.exp(2 * 0.2**2))

    return trial


ORDER = {"low": 0.94, "high": 1.0}
"""Order statistics: at least 95 %."""
ERROR = {"low": 0.0, "high": 0.05}
DIFFERENT = {Verdict.WORSE, Verdict.BETTER}
CASES = (
    *(Case(name="median", setting=f"{n} repeats", trial=median_of(n, 0.5), **ORDER) for n in (6, 10, 20, 100)),
    *(
        Case(name="median, repeats until narrow", setting=f"{a} to {b} repeats", trial=median_until_narrow(a, b),
             low=0.92, high=1.0)
        for a, b in ((5, 10), (10, 30))
    ),
    *(Case(name="mean, ln perplexity ratio", setting=f"{n} windows", trial=mean_of(n)) for n in (6, 18, 96)),
    *(Case(name="mean KL, by windows", setting=f"{n} x 255 tokens", trial=kld_of(n, 255)) for n in (18, 96)),
    Case(name="mean KL, naive", setting="18 x 255 tokens", trial=kld_of(18, 255, naive=True), judged=False),
    Case(name="RMS of the true token's change", setting="18 x 255 tokens", trial=rms_of(18, 255)),
    *(Case(name="share right (Wilson)", setting=f"{n} items", trial=share_of(n)) for n in (60, 300)),
    *(
        Case(name="share right, by subject", setting=f"{c} x {s} items", trial=clustered_share_of(c, s))
        for c, s in ((20, 15), (57, 20))
    ),
    Case(
        name="share right, naive", setting="20 x 15 items", trial=clustered_share_of(20, 15, naive=True), judged=False
    ),
    *(Case(name="paired difference (Tango)", setting=f"{n} items", trial=difference_of(n)) for n in (60, 400)),
    *(
        Case(name="paired difference, by subject", setting=f"{c} x {s} items", trial=clustered_difference_of(c, s))
        for c, s in ((20, 15), (57, 20))
    ),
    Case(
        name="paired difference, naive", setting="20 x 15 items", trial=clustered_difference_of(20, 15, naive=True),
        judged=False,
    ),
    *(Case(name="recovery", setting=f"3 x {n} items", trial=recovery_of(n)) for n in (60, 250)),
    Case(name="recovery, by subject", setting="3 x 40 x 10 items", trial=clustered_recovery_of(40, 10)),
    *(Case(name="mean accuracy", setting=f"3 x {n} items", trial=accuracy_of(n)) for n in (60, 300)),
    *(Case(name="ratio of medians (bootstrap)", setting=f"{n} repeats each", trial=ratio_of(n)) for n in (5, 10, 30)),
    *(Case(name="wrongly equivalent", setting=f"{n} items", trial=wrongly_equivalent(n), **ERROR)
      for n in (1000, 4000)),
    Case(name="wrongly equivalent, all tasks", setting="3 x 2000 items", trial=equivalent_by_recovery(2000), **ERROR),
    Case(name="wrongly different, 1 of 6 tasks (Holm)", setting="200 items", trial=wrongly_different(6, 200), **ERROR),
    Case(name="McNemar mid-p rejects", setting="400 items", trial=wrongly_rejected(400), low=0.04, high=0.06),
    *(Case(name="choice probability", setting=f"{n} items", trial=looking.covered(Law(noise=0.5, loss=0.03), n))
      for n in (60, 250)),
    *(Case(name="choice probability, few items move much", setting=f"{n} items",
           trial=looking.covered(Law(noise=0.5, heavy=True, loss=0.03), n)) for n in (60, 250)),
    Case(name="choice probability, by subject", setting="20 x 15 items",
         trial=looking.covered(Law(noise=0.5, size=15, loss=0.03), 300)),
    *(Case(name="choice probability, at the stop", setting=f"up to {n} items, {what}", low=0.94, high=1.0,
           trial=looking.covered_at_the_stop(law, n))
      for n in (60, 600) for what, law in (("no loss", Law(noise=0.5)), ("loss", Law(noise=0.5, loss=0.03)))),
    Case(name="choice probability, at the stop, naive", setting="up to 600 items, no loss", judged=False,
         trial=looking.covered_at_the_stop(Law(noise=0.5), 600, naive=True)),
    *(Case(name="wrongly worse, stopping", setting=f"up to {n} items, {what}", **ERROR, long=n > 600,
           trial=looking.called({Verdict.WORSE}, law, n))
      for n in (60, 600, 2400)
      for what, law in (("even noise", Law(noise=0.5)), ("few items move much", Law(noise=0.5, heavy=True)),
                        ("by subject", Law(noise=0.5, size=10)))),
    *(Case(name="wrongly equivalent, stopping", setting=f"up to {n} items, {what}", **ERROR, long=n > 600,
           trial=looking.called({Verdict.EQUIVALENT}, law, n))
      for n in (60, 600, 2400)
      for what, law in (("even noise", Law(noise=0.15, loss=MARGIN)),
                        ("few items move much", Law(noise=0.15, loss=MARGIN, heavy=True)),
                        ("by subject", Law(noise=0.15, loss=MARGIN, size=10)))),
    Case(name="wrongly different, 1 of 6 tasks, stopping (Holm)", setting="up to 200 items", **ERROR,
         trial=looking.any_called(6, Law(noise=0.5), 200)),
    *(Case(name="wrongly worse or better, stopping", setting=f"up to {n} items", low=0.0, high=0.06,
           trial=looking.called(DIFFERENT, Law(noise=0.5), n)) for n in (60, 600)),
    *(Case(name="accuracy wrongly worse or better, stopping", setting=f"up to {n} items", low=0.0, high=0.06,
           trial=looking.answers_called(DIFFERENT, n, 0.05, 0.05)) for n in (60, 600)),
    Case(name="accuracy wrongly equivalent, stopping", setting="up to 4000 items", **ERROR, long=True,
         trial=looking.answers_called({Verdict.EQUIVALENT}, 4000, 0.002 + MARGIN * 0.45, 0.002)),
)  # fmt: skip


def main() -> int:
    """Run every case, print the table."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--trials", type=int, default=TRIALS)
    parser.add_argument("--report", type=Path)
    asked = parser.parse_args()
    lines = [
        "# The printed statistics, proven by simulation",
        "",
        (
            f"Written by `python -m benchmarks.simulations`: {asked.trials:,} trials of each case, the truth known. An "
            "interval promises 95 %; order statistics promise at least that. Rates of errors promise at most 5 %. The "
            f"simulation's own error is {1.96 * math.sqrt(0.95 * 0.05 / asked.trials):.1%}. A naive row is "
            "not printed by any table: it shows what the same samples give where their clusters are forgotten."
        ),
        "",
        "| statistic | samples | found | wanted | |",
        "| --- | --- | ---: | ---: | --- |",
    ]
    print("\n".join(lines), flush=True)
    wrong = 0
    for case in CASES:
        start = time.perf_counter()
        rate = case.rate(asked.trials)
        inside = case.low <= rate <= case.high
        wrong += case.judged and not inside
        wanted = f"{case.low:.0%} to {case.high:.0%}" if case.judged else "not printed"
        verdict = ("holds" if inside else "**does not hold**") if case.judged else "naive"
        lines.append(f"| {case.name} | {case.setting} | {rate:.1%} | {wanted} | {verdict} |")
        print(lines[-1], f"{time.perf_counter() - start:.1f} s", flush=True)
    if asked.report:
        asked.report.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
