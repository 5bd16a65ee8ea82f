# SPDX-License-Identifier: Apache-2.0
"""What disturbed a measurement, read from the machine's conditions: caveats with advice. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from statistics import median

from bench.record import Caveat, Condition, Roof

DRIFT = 0.10
"""A roof that changed by more than this share between a run's start and its end marks the run."""


def drift(before: Condition, after: Condition) -> Caveat | None:
    """A caveat if the device's own speed changed during the run, None if it did not or nobody looked."""
    if before.roof is None or after.roof is None:
        return None
    changes = list(_changes(before.roof, after.roof))
    name, change = max(changes, key=lambda item: abs(item[1]), default=("", 0.0))
    if abs(change) <= DRIFT:
        return None
    return Caveat(
        kind="drifted",
        text=f"between its start and its end this run's {name} changed by {change:+.0%}",
        advice="the machine was not the same throughout: measure again when it is cool and nobody else uses it",
    )


def _changes(before: Roof, after: Roof) -> Iterator[tuple[str, float]]:
    """Relative change of every quantity that both have."""
    if before.copy_bytes_per_s and after.copy_bytes_per_s:
        yield "copy bandwidth", median(after.copy_bytes_per_s) / median(before.copy_bytes_per_s) - 1
    for kind, samples in before.matrix_per_s.items():
        if samples and after.matrix_per_s.get(kind):
            yield f"{kind} matrix rate", median(after.matrix_per_s[kind]) / median(samples) - 1
