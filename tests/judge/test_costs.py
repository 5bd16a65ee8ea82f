# SPDX-License-Identifier: Apache-2.0
"""What a million tokens cost on a measured row, and when the box is cheaper than an API."""

from __future__ import annotations

import pytest

from bench.judge.costs import Prices, cost
from bench.judge.stats import Estimate

SPEED = {"decode_tokens_per_s": Estimate(50.0)}


def test_a_rented_box_costs_its_hours() -> None:
    """50 tokens/s are 180,000 an hour: a million takes 5.56 hours at 0.60."""
    found = cost(SPEED, Prices(hour=0.60))
    assert found is not None
    assert found.million == pytest.approx(3.3333, abs=1e-4)
    assert (found.break_even_tokens, found.most_tokens) == (None, 4_320_000.0)


def test_a_rented_box_pays_above_the_tokens_that_its_day_would_buy() -> None:
    """14.40 a day buy 2.88 million tokens at 5 a million, and the box can make 4.32 million."""
    found = cost(SPEED, Prices(hour=0.60, api_million=5.0))
    assert found is not None
    assert found.break_even_tokens == pytest.approx(2.88e6)
    assert found.pays
    dear = cost(SPEED, Prices(hour=0.60, api_million=0.60))
    assert dear is not None
    assert dear.break_even_tokens == pytest.approx(24e6)
    assert not dear.pays


def test_a_box_of_one_s_own_costs_its_idling_and_what_tokens_take_beyond_it() -> None:
    """10 W of idling, 1 J a token at 50 tokens/s, of which 0.2 J are idling."""
    figures = SPEED | {"decode_j_per_token": Estimate(1.0), "idle_w": Estimate(10.0)}
    found = cost(figures, Prices(kwh=0.36, api_million=1.0))
    assert found is not None
    assert found.million == pytest.approx(0.1)
    assert found.break_even_tokens == pytest.approx(0.0864 / (1e-6 - 0.8e-7))


def test_without_a_counter_energy_costs_nothing_that_could_be_said() -> None:
    """No joules: the reason instead of a figure."""
    found = cost(SPEED, Prices(kwh=0.36))
    assert found is not None
    assert (found.million, found.lacking) == (None, "energy was not measured on this device")
    assert cost({}, Prices(hour=1.0)) is not None
    assert cost(SPEED, Prices()) is None
