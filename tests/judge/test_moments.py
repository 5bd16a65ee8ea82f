# SPDX-License-Identifier: Apache-2.0
"""Means and deviations to the last bit of what `statistics` gives: a file of figures does not change with speed."""

from __future__ import annotations

import math
import random
import statistics

import pytest

from bench.judge import moments

DRAWS = {
    "normal": lambda draw: draw.gauss(3, 1),
    "wide": lambda draw: math.exp(draw.gauss(-10, 8)),
    "right or wrong": lambda draw: float(draw.random() < 0.6),
    "bytes": lambda draw: float(draw.randrange(10**13)),
    "signs": lambda draw: draw.choice([-1.0, 1.0]) * draw.random(),
    "nothing": lambda draw: 0.0,
    "beyond": lambda draw: draw.choice([1e-300, 1e300, -1.5, 5e-324]),
    "close": lambda draw: 1e9 + draw.random() * 1e-6,
}


@pytest.mark.parametrize("kind", DRAWS)
def test_equal_to_the_last_bit(kind: str) -> None:
    """Whatever the samples, and however many."""
    draw = random.Random(kind)
    for count in [*range(2, 12), 60, 300, 1000]:
        samples = [DRAWS[kind](draw) for _ in range(count)]
        assert moments.mean(samples) == statistics.mean(samples)
        assert moments.stdev(samples) == statistics.stdev(samples)
    assert moments.mean([DRAWS[kind](random.Random(1))]) == statistics.mean([DRAWS[kind](random.Random(1))])


@pytest.mark.parametrize("function", ["mean", "stdev"])
def test_too_few_samples_are_the_same_error(function: str) -> None:
    """None for a mean, one for a deviation."""
    for samples in ([], [1.0][: function == "stdev"]):
        with pytest.raises(statistics.StatisticsError):
            getattr(moments, function)(samples)


def test_infinities_are_what_they_are() -> None:
    """A perplexity may overflow."""
    assert moments.mean([1.0, math.inf]) == math.inf
    assert math.isnan(moments.mean([-math.inf, math.inf]))
