# SPDX-License-Identifier: Apache-2.0
"""The search for the largest size that fits: known truths, a limit that kills, and predictions that are wrong."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from suites.search import FACTOR, HINTED, Search, Trial, curve, largest

BUDGET, ROOM = 1_000_000, 980_000
TRUTHS: dict[str, Callable[[int], int]] = {
    "linear": lambda n: 400_000 + 100 * n,
    "steep": lambda n: 400_000 + 9_000 * n,
    "eager attention": lambda n: 400_000 + 10 * n + n * n // 64,
    "almost all quadratic": lambda n: 400_000 + n * n // 64,
    "loads in steps of 256": lambda n: 400_000 + 100 * 256 * -(-n // 256),
    "libraries at the first trial": lambda n: 500_000 + 80 * n + (20_000 if n > 30 else 0),
    "noise": lambda n: 400_000 + 100 * n + 2_003 * n % 4_001,
}
HINTS = {
    "none": lambda n: None,
    "right": lambda n: n,
    "4 times too much": lambda n: 4 * n,
    "a tenth": lambda n: n // 10,
}


def run(
    truth: Callable[[int], int], limit: int = BUDGET, seconds: Callable[[int], float] = float, **fields: Any
) -> Search:
    """Search until it says it is done; no trial may exceed the limit, which would have killed the process."""
    defaults: dict[str, Any] = {
        "least": 16, "step": 16, "bends": True, "room_bytes": ROOM, "seconds": 1e9, "ceilings": {"context": 100_000},
    }  # fmt: skip
    search = Search(**defaults | fields)
    while (size := search.next_size()) is not None:
        assert truth(size) <= limit, f"killed at {size} by {truth(size)}"
        assert len(search.trials) < 20
        search.trials.append(
            Trial(size=size, peak_bytes=truth(size), seconds=seconds(size), expected_bytes=search.expected_bytes(size))
        )
    return search


@pytest.mark.parametrize("hint", HINTS)
@pytest.mark.parametrize("name", TRUTHS)
def test_the_answer_is_within_two_percent_of_the_truth_and_nothing_was_killed(name: str, hint: str) -> None:
    """Whatever the growth and however wrong the prediction, in at most a dozen trials."""
    truth = TRUTHS[name]
    right = largest(lambda n: truth(n) <= ROOM, 0, 100_000)
    search = run(truth, hint=HINTS[hint](right))
    assert search.best is not None
    assert search.bound() == "memory"
    slack = {"loads in steps of 256": 256, "noise": 45, "libraries at the first trial": 30}.get(name, 0)  # not smooth
    assert right - max(15, 0.02 * right) - slack <= search.best.size <= right + slack
    assert len(search.trials) <= 12


def test_linear_growth_is_met_exactly() -> None:
    """By the formula: (980,000 - 400,000) / 100 tokens."""
    search = run(TRUTHS["linear"], hint=6000)
    assert [trial.size for trial in search.trials] == [16, 750, 1750, 4450, 5350, 5800]
    assert search.best is not None
    assert (search.best.peak_bytes, search.best.expected_bytes) == (980_000, 980_000)


def test_sequences_are_counted_to_the_last_one() -> None:
    """(980,000 - 400,000) / 9,000 = 64.4: between 64 and 65 there is nothing left to try."""
    search = run(TRUTHS["steep"], least=1, step=1, bends=False, origin=(0, 400_000), hint=50)
    assert search.best is not None
    assert search.best.size == 64
    assert run(lambda n: 400_000 + 300_000 * n, least=1, step=1, bends=False, origin=(0, 400_000)).best.size == 1  # type: ignore[union-attr]


def test_a_ceiling_that_fits_is_reached_and_named() -> None:
    """The model's own context, or what the profile allows; of two equal ones the first."""
    search = run(TRUTHS["linear"], ceilings={"context": 2048, "tokens": 4096})
    assert search.best is not None
    assert (search.best.size, search.bound()) == (2048, "context")
    search = run(TRUTHS["linear"], ceilings={"context": 8192, "tokens": 4096})
    assert search.best is not None
    assert (search.best.size, search.bound()) == (4096, "tokens")
    tiny = run(TRUTHS["linear"], ceilings={"context": 10})
    assert tiny.best is not None
    assert (tiny.best.size, tiny.bound()) == (10, "context")


def test_no_trial_is_expected_to_take_too_long() -> None:
    """At a hundredth of a second a token, ten seconds are a thousand tokens; nothing longer is tried."""
    search = run(TRUTHS["linear"], seconds=lambda n: n / 100)
    assert search.bound() == "memory"
    short = Search(least=16, step=16, bends=True, room_bytes=ROOM, seconds=10.0, ceilings={"context": 8192}, hint=5800)
    while (size := short.next_size()) is not None:
        assert size <= 1000
        short.trials.append(Trial(size=size, peak_bytes=TRUTHS["linear"](size), seconds=size / 100))
    assert short.best is not None
    assert 750 <= short.best.size <= 1000
    assert short.bound() == "seconds"


def test_a_failure_is_the_upper_end_and_is_closed_in_on() -> None:
    """An engine that refuses 900 and more, where memory alone would allow 5,800."""
    search = Search(least=16, step=16, bends=True, room_bytes=ROOM, seconds=1e9, ceilings={"context": 8192}, hint=6000)
    while (size := search.next_size()) is not None:
        failure = "" if size < 900 else "memory"
        search.trials.append(Trial(size=size, peak_bytes=TRUTHS["linear"](size), seconds=0.0, failure=failure))
    assert search.best is not None
    assert 882 <= search.best.size < 900
    assert search.bound() == "memory"


def test_nothing_is_tried_after_the_least_has_failed() -> None:
    """And the reason is that trial's."""
    search = Search(least=16, step=16, bends=True, room_bytes=ROOM, seconds=1e9, ceilings={"context": 8192})
    search.trials.append(Trial(size=16, peak_bytes=0, seconds=0.0, failure="no kernel"))
    assert (search.next_size(), search.best, search.bound()) == (None, None, "no kernel")


def test_a_prediction_is_trusted_for_an_eighth() -> None:
    """The first trial after the least; without one the sizes grow fourfold."""
    assert run(TRUTHS["linear"], hint=4000).trials[1].size == 4000 // HINTED
    assert run(TRUTHS["linear"]).trials[1].size == 16 * FACTOR
    assert run(TRUTHS["linear"], hint=0).trials[1].size == 16 * FACTOR


def test_a_curve_passes_through_its_points_and_never_falls() -> None:
    """A parabola is met exactly; two points are a straight line or the steepest bend; one is a constant."""
    parabola = [(n, 7.0 + 3 * n + 2 * n * n) for n in (10, 20, 40)]
    assert curve(parabola, 100, bends=True) == 7 + 300 + 20_000
    assert curve(parabola, 100, bends=False) == pytest.approx(parabola[-1][1] + 60 * (3 + 2 * 60))
    assert curve([(0, 5.0), (10, 25.0)], 20, bends=False) == 45
    assert curve([(0, 5.0), (10, 25.0)], 20, bends=True) == 85
    assert curve([(10, 25.0)], 1000, bends=True) == 25
    assert curve([(10, 30.0), (20, 25.0)], 1000, bends=False) == 30


def test_a_point_that_noise_made_low_raises_no_hope() -> None:
    """Of nf4, MB: 1,576 tokens took 825, 2,410 only 836 and 3,132 then 973; straight on from two points, 8,192 fit."""
    points = [(24, 608.0), (320, 650.0), (765, 724.0), (1576, 825.0), (2410, 836.0)]
    secant = (836 - 608) / (2410 - 24)
    assert curve(points, 3132, bends=False) == pytest.approx(836 + 722 * secant)
    assert curve(points, 8192, bends=True) > 1380
    assert curve([(10, 0.0), (20, 100.0), (40, 110.0)], 80, bends=True) == pytest.approx(110 + 40 * 110 / 30)
    int8 = [(24, 682.0), (67, 684.0), (268, 818.0), (345, 796.0)]
    assert curve(int8, 1380, bends=True) > 1200


def test_points_close_together_say_nothing_of_growth() -> None:
    """A trial one step on, with a megabyte of noise, does not change the slope."""
    points = [(100, 1000.0), (200, 2000.0), (400, 4000.0), (405, 4900.0)]
    assert curve(points, 505, bends=False) == pytest.approx(4900 + 100 * (4900 - 2000) / 205)


def test_the_largest_that_fits_is_found_by_bisection() -> None:
    """The low end where nothing above it fits."""
    assert largest(lambda n: n <= 37, 5, 100) == 37
    assert largest(lambda n: False, 5, 100) == 5
    assert largest(lambda n: True, 5, 100) == 100
