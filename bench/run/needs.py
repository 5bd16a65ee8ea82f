# SPDX-License-Identifier: Apache-2.0
"""What the cells of a plan need of a call's budget, before the first of them is answered."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from bench.engines.registry import backend
from bench.plan.looks import WITHOUT_RECORDS
from bench.plan.plan import has_reference
from bench.plan.questions import Planned
from bench.run.budget import Budget, Need
from bench.suite import Pace
from suites import suite

WORTH_IT = 0.2
"""With this share of the budget left, what it cut is measured once more."""
LONGER = 1.5
"""So many times as long as before, at least: less would not tell more."""


def opened(budget_s: float | None, cells: Iterable[Planned]) -> Budget | None:
    """The budget of a whole call, None without an end."""
    return None if budget_s is None else Budget(left_s=budget_s, needs=tuple(map(need, cells)))


def further(
    budget: Budget, whole_s: float, cells: Iterable[Planned], took: Mapping[str, float]
) -> tuple[list[Planned], Budget]:
    """What was cut although a good part of the budget is left, and the budget for measuring that once more.

    What is expected of a device that nobody has measured on can be wrong by a factor, and then the first cells get too
    little. `took` has the seconds of every cell that was cut or left out, by key. Those that would have half as long
    again are measured anew; the same items and windows come first, so what is known stays known.
    """
    cut = [planned for planned in cells if planned.cell.key in took]
    if not cut or budget.left_s < WORTH_IT * whole_s:
        return [], budget
    shares = budget.again(map(need, cut)).shares()
    longer = [p for p in cut if shares.get(p.cell.key, 0.0) > LONGER * took[p.cell.key]]
    return longer, budget.again(map(need, longer))


def shares(budget_s: float | None, cells: Iterable[Planned]) -> dict[str, float] | None:
    """By key, the seconds that each cell may take as far as is predicted, none for one that stays undecided.

    None without an end.
    """
    budget = opened(budget_s, cells)
    return None if budget is None else budget.shares()


def need(planned: Planned) -> Need:
    """What one cell needs. A guess leaves nothing out that the device could do in time at its roof."""
    cell, pace, reference = planned.cell, planned.pace or Pace(), planned.reference
    if reference is not None and (reference.key == cell.unlimited.key or has_reference(reference)):
        reference = None
    seconds = planned.predicted.seconds or 0.0
    asks = backend(cell.backend).text_only  # what asks a server has no rounds
    work = None if asks else suite(cell.suite).least(cell.settings)
    least = pace.seconds(work) / (WITHOUT_RECORDS if pace.guess else 1.0) if work else seconds
    return Need(
        key=cell.key,
        scheme=f"{cell.backend} {cell.scheme}",
        suite=cell.suite,
        seconds=seconds,
        least_s=least,
        reference=reference.key if reference else None,
    )
