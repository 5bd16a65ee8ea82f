# SPDX-License-Identifier: Apache-2.0
"""Every printed interval and error rate, simulated in small: the whole of it is `python -m benchmarks.simulations`."""

from __future__ import annotations

import math

import pytest

from benchmarks.simulations import CASES, Case

TRIALS = 300


SHORT = [case for case in CASES if not case.long]


@pytest.mark.parametrize("case", SHORT, ids=lambda case: f"{case.name}, {case.setting}")
def test_a_printed_interval_holds_the_truth_as_often_as_it_promises(case: Case) -> None:
    """Within three standard errors of so few trials; what clusters forgotten would give lies far below."""
    rate = case.rate(TRIALS)
    slack = 3 * math.sqrt(0.95 * 0.05 / TRIALS)
    if case.judged:
        assert case.low - slack <= rate <= case.high + slack
    else:
        assert rate < case.low - slack


def test_every_kind_of_interval_is_among_them() -> None:
    """A new one is one more case."""
    kinds = {"median", "mean KL", "mean accuracy", "share right", "paired difference", "recovery", "ratio of medians"}
    kinds |= {"choice probability", "wrongly worse, stopping", "wrongly equivalent, stopping"}
    assert all(any(case.name.startswith(kind) for case in CASES) for kind in kinds)
