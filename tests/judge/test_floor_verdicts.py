# SPDX-License-Identifier: Apache-2.0
"""What lies below a row's own noise is no distance and no loss."""

import math

import pytest
from builders import make_cell, make_record

from bench.judge.noise_floor import (
    above,
    arithmetic,
    divergence_verdict,
    floor_between,
    noise_floor,
    perplexity_verdict,
)
from bench.judge.stats import Estimate, Verdict
from bench.records.record import Measurement, Unit


def record(**values):
    """A divergence record of two windows of five predicted tokens."""
    measurements = [
        Measurement(name=name, unit=Unit.NAT, values=tuple(of), labels={"window_tokens": 5})
        for name, of in ({"nll_nat": (3.0, 3.0)} | values).items()
    ]
    return make_record(make_cell("divergence"), measurements=measurements)


def test_random_changes_of_single_tokens_average_out():
    """Ten tokens that move by 0.1 either way move their mean by 0.1 / sqrt(10) at one standard error, no further."""
    found = noise_floor(record(floor_nat=(0.005, 0.005), floor_nll_change_nat=(0.1, -0.1) * 4))
    assert found.kl == 0.005
    assert found.ln_perplexity == pytest.approx(1.96 * 0.1 / math.sqrt(10), rel=1e-3)
    assert found.decode is None


def test_a_change_in_one_direction_does_not_average_out():
    """What all tokens share stays whole."""
    found = noise_floor(record(floor_decode_nat=(0.005,), floor_decode_nll_change_nat=(0.1,) * 8))
    assert found.ln_perplexity == pytest.approx(0.1 + 1.96 * 0.1 / math.sqrt(10), rel=1e-3)


def test_a_record_from_before_changes_were_kept_has_them_from_its_kl():
    """The mean square of a small random change is twice its KL; a rounding below zero is zero."""
    found = noise_floor(record(floor_nat=(0.002, 0.002)))
    assert found.ln_perplexity == pytest.approx(1.96 * math.sqrt(0.004 / 10), rel=1e-3)
    assert noise_floor(record(floor_nat=(-1e-9,))).kl == 0.0
    assert noise_floor(record()) is None
    assert noise_floor(make_record(make_cell("memory"))) is None


def test_a_comparison_has_the_floor_of_both_rows():
    """The larger KL; perplexities move independently. A row without a floor leaves the other's."""
    this = record(floor_nat=(0.02,), floor_nll_change_nat=(0.3, -0.3))
    reference = record(floor_nat=(0.002,), floor_nll_change_nat=(0.4, -0.4))
    found = floor_between(this, reference)
    assert found.kl == 0.02
    assert found.ln_perplexity == pytest.approx(1.96 * 0.5 / math.sqrt(10), rel=1e-3)
    assert floor_between(record(), reference).kl == 0.002
    assert floor_between(record(), None) is None


@pytest.mark.parametrize(
    ("ratio", "floor", "verdict"),
    [
        (Estimate(0.005, 0.001, 0.008), 0.0, Verdict.EQUIVALENT),
        (Estimate(0.005, 0.001, 0.008), 0.007, Verdict.EQUIVALENT),
        (Estimate(0.005, 0.001, 0.008), 0.012, Verdict.BELOW_FLOOR),  # another batch moves it beyond the margin
        (Estimate(0.06, 0.047, 0.072), 0.007, Verdict.WORSE),
        (Estimate(0.019, 0.008, 0.030), 0.0, Verdict.WORSE),
        (Estimate(0.019, 0.008, 0.030), 0.007, Verdict.WORSE),
        (Estimate(0.019, 0.008, 0.030), 0.010, Verdict.UNDECIDED),
        (Estimate(0.019, 0.008, 0.030), 0.020, Verdict.BELOW_FLOOR),
        (Estimate(0.002, -0.020, 0.024), 0.0, Verdict.UNDECIDED),
        (Estimate(-0.030, -0.040, -0.020), 0.007, Verdict.BETTER),
        (Estimate(-0.030, -0.040, -0.020), 0.035, Verdict.BELOW_FLOOR),
        (Estimate(0.3), 0.0, Verdict.UNDECIDED),  # one window has no interval
    ],
)
def test_no_verdict_on_perplexity_counts_what_lies_below_the_floor(ratio, floor, verdict):
    """Margin ln 1.01: equivalent within it, worse or better beyond both zero and the floor."""
    assert perplexity_verdict(ratio, floor) is verdict


def test_a_wider_margin_calls_more_equivalent():
    """The margin is the caller's."""
    assert perplexity_verdict(Estimate(0.019, 0.008, 0.030), 0.0, math.log(1.05)) is Verdict.EQUIVALENT


@pytest.mark.parametrize(
    ("kl", "verdict"),
    [
        (Estimate(0.030, 0.028, 0.032), Verdict.WORSE),
        (Estimate(0.030, 0.026, 0.034), Verdict.UNDECIDED),
        (Estimate(0.026, 0.024, 0.028), Verdict.BELOW_FLOOR),
    ],
)
def test_a_divergence_is_one_only_above_the_floor(kl, verdict):
    """At a floor of 0.027."""
    assert divergence_verdict(kl, 0.027) is verdict


def test_the_part_above_the_floor_is_never_negative():
    """Value and interval less the floor."""
    assert above(Estimate(0.030, 0.026, 0.034), 0.025) == Estimate(
        pytest.approx(0.005), pytest.approx(0.001), pytest.approx(0.009)
    )
    assert above(Estimate(0.020, 0.016, 0.024), 0.025) == Estimate(0.0, 0.0, 0.0)
    assert above(Estimate(0.030), 0.025) == Estimate(pytest.approx(0.005))


def test_the_devices_share_is_read_over_the_same_windows():
    """The first window's tokens alone where the weights were measured on that."""
    found = arithmetic(record(kld_nat=(0.006,) * 5 + (9.0,) * 5, weights_kld_nat=(0.002,) * 5))
    assert (found.as_it_runs, found.weights) == (pytest.approx(0.006), pytest.approx(0.002))
    assert found.share == pytest.approx(2 / 3)
    assert arithmetic(record(kld_nat=(0.001,) * 5, weights_kld_nat=(0.002,) * 5)).share == 0.0
    assert arithmetic(record(kld_nat=(0.0,) * 5, weights_kld_nat=(0.0,) * 5)).share == 0.0
    assert arithmetic(record(kld_nat=(0.001,) * 5)) is None
