# SPDX-License-Identifier: Apache-2.0
"""Looking several times: where the looks are, and the level that keeps all of them together at 5 %."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import norm

from bench.judge.sequential import crossing, ladder, level, overall


@pytest.mark.parametrize(
    ("items", "looks"),
    [
        (15, ()),
        (16, (16,)),
        (19, (19,)),
        (60, (16, 24, 32, 48, 60)),
        (250, (16, 24, 32, 48, 64, 96, 128, 192, 250)),
        (1838, (16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024, 1838)),
    ],
)
def test_looks_are_planned_from_sixteen_items_to_all(items, looks):
    """Each step is a third or a half more; a last look close behind another takes its place."""
    assert ladder(items) == looks


@pytest.mark.parametrize(
    ("looks", "bound"),
    [((1,), 1.960), ((1, 2), 2.178), ((1, 2, 3), 2.289), ((1, 2, 3, 4, 5), 2.413), (tuple(range(1, 11)), 2.555)],
)
def test_the_level_is_that_of_pococks_table(looks, bound):
    """Equal steps: C. Jennison and B. W. Turnbull, Group Sequential Methods (2000), table 2.1, alpha = 0.05."""
    assert norm.isf(level(looks) / 2) == pytest.approx(bound, abs=1e-3)


def test_one_look_needs_no_stricter_level():
    """Nor does a comparison that was not looked at before its end."""
    assert level(()) == level((60,)) == pytest.approx(0.05)
    assert overall(0.03, ()) == overall(0.03, (60,)) == 0.03


def test_the_chance_of_crossing_is_what_simulation_finds():
    """A random walk looked at on the ladder of 250 items, at a level of 1 % each."""
    looks = ladder(250)
    draw = np.random.default_rng(0)
    sums = np.cumsum(draw.normal(size=(40_000, 250)), axis=1)[:, [look - 1 for look in looks]]
    crossed = (np.abs(sums) / np.sqrt(looks) >= norm.isf(0.005)).any(axis=1).mean()
    assert crossing(looks, 0.01) == pytest.approx(crossed, abs=0.005)


@pytest.mark.parametrize("items", [60, 250, 10_042])
def test_a_p_value_over_all_looks_is_5_percent_where_the_level_is_reached(items):
    """So Holm over tasks, each by such a p, agrees with each task's interval."""
    looks = ladder(items)
    assert overall(level(looks), looks) == pytest.approx(0.05, rel=1e-2)
    values = [overall(p, looks) for p in (0.0, 1e-15, 1e-9, 1e-4, 0.01, 0.3, 1.0)]
    assert values == sorted(values)
    assert values[0] == 0.0 and values[-1] == pytest.approx(1.0, abs=0.05)
