# SPDX-License-Identifier: Apache-2.0
"""Choices: stored values cut into items, the probability of the right one, its paired change, decision margins."""

from __future__ import annotations

import math

import numpy as np
import pytest
from builders import sample
from scipy.stats import ttest_1samp

from bench.judge.choices import ItemChoices, choices_of, margin_change, mean_change, probability_margin
from bench.records.record import Unit


def item(*log_likelihoods: float, right: int = 0) -> ItemChoices:
    """One item."""
    return ItemChoices(log_likelihoods=log_likelihoods, right=right)


def test_stored_values_are_cut_into_items_by_their_number_of_choices():
    """One number where all items have as many, a list where they do not."""
    same = sample("choice_loglikelihood", [-1.0, -2.0, -3.0, -4.0], Unit.NAT, choices=2, right=[0, 1])
    assert choices_of(same) == [item(-1.0, -2.0), item(-3.0, -4.0, right=1)]
    apart = sample("choice_loglikelihood", [-1.0, -2.0, -3.0, -4.0, -5.0], Unit.NAT, choices=[3, 2], right=[2, 0])
    assert choices_of(apart) == [item(-1.0, -2.0, -3.0, right=2), item(-4.0, -5.0)]


def test_the_probability_of_the_right_choice_is_a_softmax_over_the_choices():
    """Whatever is added to all of them, and however far apart they are."""
    assert item(math.log(0.2), math.log(0.6)).probability == pytest.approx(0.25)
    assert item(math.log(0.2) - 900, math.log(0.6) - 900).probability == pytest.approx(0.25)
    assert item(-2000.0, 0.0).probability == 0.0


def test_the_margin_is_against_the_best_wrong_choice():
    """Below zero the answer is wrong."""
    assert item(-3.0, -1.0, -2.0).margin == -2.0
    assert item(-3.0, -1.0, -2.0, right=1).margin == 1.0


def test_margins_that_halve_have_a_factor_of_a_half_and_flips_are_counted():
    """The median is over items; an item whose margin was zero has no factor and can still flip."""
    base = [item(4.0, 0.0), item(2.0, 0.0), item(0.0, 1.0), item(1.0, 1.0)]
    these = [item(2.0, 0.0), item(-1.0, 0.0), item(0.5, 0.0), item(2.0, 1.0)]
    found = margin_change(these, base)
    assert (found.factor, found.lost, found.gained) == (-0.5, 1, 2)
    with pytest.raises(ValueError, match="no item"):
        margin_change([], [])


def test_a_mean_change_has_students_interval_and_test():
    """As SciPy has them."""
    changes = np.random.default_rng(1).normal(0.1, 1.0, 40).tolist()
    found, test = mean_change(changes, None, 0.05), ttest_1samp(changes, 0.0)
    assert found.p_value == pytest.approx(test.pvalue)
    interval = test.confidence_interval(0.95)
    assert (found.difference.low, found.difference.high) == pytest.approx((interval.low, interval.high))


def test_clusters_widen_and_never_narrow():
    """Items of a subject that move together are worth one; that they scatter makes none of them worth two."""
    together = [1.0, 1.0, -1.0, -1.0, 2.0, 2.0, -2.0, -2.0]
    subjects = [0, 0, 1, 1, 2, 2, 3, 3]
    alone = mean_change(together, None, 0.05).difference.half_width
    assert mean_change(together, subjects, 0.05).difference.half_width > 1.3 * alone
    against = [0, 1, 0, 1, 2, 3, 2, 3]
    assert mean_change(together, against, 0.05).difference.half_width >= alone
    assert mean_change(together, [0] * 8, 0.05).difference.low is None


def test_too_few_items_have_no_interval():
    """One item, or all of one subject; items that did not move at all have one of no width."""
    assert mean_change([0.3], None, 0.05).difference.low is None
    same = mean_change([0.0] * 5, None, 0.05)
    assert (same.difference.low, same.difference.high, same.p_value) == (0.0, 0.0, 1.0)


@pytest.mark.parametrize(("reference", "margin"), [(0.48, 0.01), (0.35, 0.01), (0.27, 0.002), (0.2, -0.005)])
def test_the_margin_in_probability_is_one_point_and_at_most_a_tenth_of_what_can_be_lost(reference, margin):
    """With --margin 1 % and four choices."""
    assert probability_margin(0.01, reference, 0.25) == pytest.approx(margin)
