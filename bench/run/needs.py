# SPDX-License-Identifier: Apache-2.0
"""What the cells of a plan need of a call's budget, before the first of them is answered."""

from __future__ import annotations

from collections.abc import Iterable

from bench.engines.registry import backend
from bench.plan.plan import Planned, has_reference
from bench.plan.seconds import WITHOUT_RECORDS
from bench.run.budget import Budget, Need
from bench.suite import Pace
from suites import suite


def opened(budget_s: float | None, cells: Iterable[Planned]) -> Budget | None:
    """The budget of a whole call, None without an end."""
    return None if budget_s is None else Budget(left_s=budget_s, needs=tuple(map(need, cells)))


def need(planned: Planned) -> Need:
    """What one cell needs. A guess leaves nothing out that the device could do in time at its roof."""
    cell, pace, reference = planned.cell, planned.pace or Pace(), planned.reference
    if reference is not None and (reference.key == cell.unlimited.key or has_reference(reference)):
        reference = None
    seconds = planned.predicted.seconds or 0.0
    least = pace.seconds(suite(cell.suite).least(cell.settings)) / (WITHOUT_RECORDS if pace.guess else 1.0)
    return Need(
        key=cell.key,
        scheme=f"{cell.backend} {cell.scheme}",
        suite=cell.suite,
        seconds=seconds,
        least_s=seconds if backend(cell.backend).remote else least,  # what asks a server has no rounds
        reference=reference.key if reference else None,
    )
