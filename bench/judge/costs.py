# SPDX-License-Identifier: Apache-2.0
"""What a million tokens cost on a measured row, and from how many a day on owning the box is cheaper than an API. Pure.

One sequence at a time, as decoding was measured: a server that batches makes them cheaper.
"""

from __future__ import annotations

from dataclasses import dataclass

from bench.judge.stats import Estimate

HOUR_S, DAY_S = 3600.0, 86_400.0
JOULES_PER_KWH = 3.6e6
MILLION = 1e6


@dataclass(frozen=True, kw_only=True)
class Prices:
    """What a user pays; None where it was not said. Any currency, the same in all."""

    hour: float | None = None
    """For the box."""
    kwh: float | None = None
    """For energy."""
    api_million: float | None = None
    """For a million generated tokens of an API."""


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Of one row."""

    million: float | None
    """For a million generated tokens, the box busy throughout. None where nothing to compute it from was measured."""
    lacking: str = ""
    """What was not measured."""
    break_even_tokens: float | None = None
    """Tokens a day above which the box costs less than the API; None where no API was named, or it never does."""
    most_tokens: float = 0.0
    """Tokens a day that the row generates at most."""

    @property
    def pays(self) -> bool:
        """Whether the box can generate as many as it takes to be the cheaper."""
        return self.break_even_tokens is not None and self.break_even_tokens <= self.most_tokens


def cost(figures: dict[str, Estimate], prices: Prices) -> Cost | None:
    """Cost of a row's tokens by its measured speed and energy, None where no price was given.

    A box that is rented costs the same whether it works or idles. A box of one's own costs what it draws: idling all
    day, and for each token what decoding takes beyond that.
    """
    if prices.hour is None and prices.kwh is None:
        return None
    decode = figures.get("decode_tokens_per_s")
    if decode is None:
        return Cost(million=None, lacking="decode was not measured")
    daily = each = busy = 0.0
    if prices.hour is not None:
        daily += prices.hour * DAY_S / HOUR_S
        busy += prices.hour / HOUR_S / decode.value
    if prices.kwh is not None:
        joules, idle = figures.get("decode_j_per_token"), figures.get("idle_w")
        if joules is None:
            return Cost(million=None, lacking="energy was not measured on this device")
        watts = idle.value if idle else 0.0
        daily += watts * DAY_S / JOULES_PER_KWH * prices.kwh
        each += max(0.0, joules.value - watts / decode.value) / JOULES_PER_KWH * prices.kwh
        busy += joules.value / JOULES_PER_KWH * prices.kwh
    even = None
    if prices.api_million is not None and (saved := prices.api_million / MILLION - each) > 0:
        even = daily / saved
    return Cost(million=busy * MILLION, break_even_tokens=even, most_tokens=decode.value * DAY_S)
