# SPDX-License-Identifier: Apache-2.0
"""What a step may take before it is taken for hung."""

from __future__ import annotations

from dataclasses import replace

import pytest
from builders import make_cell, make_model

from bench.engines.fake import BACKEND
from bench.plan.questions import Planned
from bench.records.record import Prediction
from bench.run.limits import limit_s
from bench.run.options import RunOptions, timeout


def planned(seconds: float | None = None, loading_s: float = 0.0, weights: int | None = None) -> Planned:
    """A cell with its predictions."""
    predicted = Prediction(seconds=seconds, weights_bytes=weights)
    return Planned(
        cell=make_cell(), model=make_model(), scheme=BACKEND.schemes[0], predicted=predicted, loading_s=loading_s
    )


@pytest.mark.parametrize(
    ("seconds", "options", "limit"),
    [
        (None, RunOptions(), 900),
        (10.0, RunOptions(), 900),
        (100.0, RunOptions(), 3000),
        (100.0, RunOptions(patience=2), 200),
        (100.0, RunOptions(timeout_s=7), 7),
    ],
)
def test_a_suite_has_a_generous_multiple_of_its_own_prediction(
    seconds: float | None, options: RunOptions, limit: float
) -> None:
    """Thirty times, at least of half a minute, unless --timeout says otherwise."""
    assert limit_s(planned(seconds, loading_s=1e6), options, loading=False) == limit


def test_a_load_has_its_own_and_more_while_weights_are_fetched() -> None:
    """10 GB at 4 bits are 40 GB of a repository: 800 s at 50 MB/s."""
    one = planned(1e6, loading_s=60.0, weights=10 * 10**9)
    assert limit_s(one, RunOptions(), loading=True) == 1800
    assert limit_s(one, RunOptions(), loading=True, fetching=True) == 30 * 860
    assert limit_s(replace(one, loading_s=0.0), RunOptions(patience=2), loading=True) == 60


@pytest.mark.parametrize(
    ("text", "found"),
    [("", (None, 30.0)), ("90", (90.0, 30.0)), ("20min", (1200.0, 30.0)), ("10x", (None, 10.0)), ("1.5x", (None, 1.5))],
)
def test_what_timeout_says(text: str, found: tuple[float | None, float]) -> None:
    """Seconds, or a multiple of what is predicted."""
    assert timeout(text) == found


@pytest.mark.parametrize("text", ["banana", "0x", "0.5x", "x", "-1", "9999999x", "٢x"])
def test_what_it_does_not_say(text: str) -> None:
    """Less than the prediction, or nothing that can be read."""
    with pytest.raises(ValueError):  # noqa: PT011 - the option says it in words
        timeout(text)
