# SPDX-License-Identifier: Apache-2.0
"""Looking at a comparison several times while it grows, at the error rate of looking once. Pure.

A test that is repeated after every few items, and stopped as soon as it rejects, rejects too often: with ten looks a
95 % interval misses the truth at one of them in about 19 of 100 comparisons. So the looks are planned before the first
item is scored (a ladder whose steps grow with what is there), and all of them share one stricter level, such that the
chance of missing the truth at any look is 5 % together (S. J. Pocock, Biometrika 64, 1977). The intervals at that level
are repeated confidence intervals: they hold at whichever look one stops and for whatever reason (C. Jennison and
B. W. Turnbull, Journal of the Royal Statistical Society B 51, 1989). The level is found by the recursive integration of
P. Armitage, C. K. McPherson and B. C. Rowe (Journal of the Royal Statistical Society A 132, 1969).

Pocock's flat boundary is chosen because nobody knows how large the effect is: some precisions differ at once and some
hardly ever. O'Brien and Fleming's allows almost nothing early. An asymptotic confidence sequence (I. Waudby-Smith,
D. Arbour, R. Sinha, E. H. Kennedy and A. Ramdas, Annals of Statistics 52, 2024) needs no plan, but is a tenth wider at
its best place and a fifth elsewhere, which is a fifth to a half more items. Samples that share a subject grow by less
than their number says, so that neighbouring looks agree more than assumed here and the rate is below 5 %.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from itertools import pairwise
from typing import Any

from bench.judge.stats import CONFIDENCE

ERROR = 1 - CONFIDENCE
"""How often any look may miss the truth."""
FIRST = 16
"""Items of the first look: with fewer, Student's interval of a skewed change misses too often (simulated)."""
CLOSE = 1.2
"""A last look that has less than so many times the items of the one before takes its place."""
NODES = 96
"""Points of the integration: levels change by less than 1e-6 beyond."""


def ladder(items: int) -> tuple[int, ...]:
    """When to look at a comparison of `items` items: 16, 24, 32, 48, 64, 96 … and at all of them; none below 16.

    Steps of about the square root of two: with wider ones more items are scored in vain after the verdict, with closer
    ones each look must be stricter, and the sum of both is flat between steps of 1.25 and 1.5.
    """
    rungs, rung = [], FIRST
    while rung * CLOSE < items:
        rungs.append(rung)
        rung = rung * 3 // 2 if rung & (rung - 1) == 0 else rung // 3 * 4
    return (*rungs, items) if items >= FIRST else ()


@lru_cache(maxsize=256)
def level(looks: tuple[int, ...], error: float = ERROR) -> float:
    """The two-sided level at each look that makes `error` over all of them; `error` itself without a plan."""
    from scipy.optimize import brentq

    if len(looks) < 2:
        return error
    return float(brentq(lambda each: crossing(looks, each) - error, error / len(looks), error, xtol=1e-9))


def crossing(looks: Sequence[int], each: float) -> float:
    """How often any of the looks rejects at level `each` where there is nothing to find."""
    from scipy.stats import norm

    bound = float(norm.isf(each / 2))
    nodes, weights = _nodes()
    places, weights = nodes * bound, weights * bound
    density = norm.pdf(places)
    for before, now in pairwise(looks):
        share = (before / now) ** 0.5
        spread = (1 - before / now) ** 0.5
        density = norm.pdf((places[:, None] - share * places[None, :]) / spread) / spread @ (density * weights)
    return float(1 - (density * weights).sum())


@lru_cache
def _nodes() -> tuple[Any, Any]:
    """Places and weights of Gauss and Legendre's integration from -1 to 1: finding them takes as long as using them."""
    import numpy as np

    return np.polynomial.legendre.leggauss(NODES)


@lru_cache(maxsize=64)
def _table(looks: tuple[int, ...]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Logarithms of levels at one look, and of what they come to over all looks."""
    import numpy as np

    each = np.logspace(-12, 0, 49)
    return tuple(np.log(each)), tuple(np.log([crossing(looks, float(value)) for value in each]))


def overall(p_value: float, looks: tuple[int, ...]) -> float:
    """What a p value found at one of the planned looks is worth over all of them: valid at whichever one stops."""
    import numpy as np

    if len(looks) < 2 or p_value <= 0:
        return p_value
    each, total = _table(looks)
    if np.log(p_value) <= each[0]:
        return p_value * len(looks)
    return float(min(1.0, np.exp(np.interp(np.log(p_value), each, total))))
