# SPDX-License-Identifier: Apache-2.0
"""How long a worker may take for what it does before it is taken for hung: each step by its own prediction."""

from __future__ import annotations

from bench.plan.questions import Planned
from bench.run.options import RunOptions

LEAST_S = 30.0
"""No step is expected to take less: importing on a cold disk takes that alone."""
FETCH_BYTES_PER_S, WIDER = 50e6, 4
"""A modest line, and how many times the bytes of a 4-bit model its repository holds in 16."""


def limit_s(planned: Planned, options: RunOptions, *, loading: bool, fetching: bool = False) -> float:
    """Seconds that a step may take: loading before `planned`, its first cell, or answering it.

    While weights are made ready they may have to be downloaded and converted first.
    """
    if options.timeout_s is not None:
        return options.timeout_s
    expected = planned.loading_s if loading else (planned.predicted.seconds or 0.0)
    if fetching:
        expected += WIDER * (planned.predicted.weights_bytes or 0) / FETCH_BYTES_PER_S
    return options.patience * max(LEAST_S, expected)
