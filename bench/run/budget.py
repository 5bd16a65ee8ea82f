# SPDX-License-Identifier: Apache-2.0
"""How a call's seconds of measuring are shared among its cells: every cell its minimum, the rest by what it needs.

The runner holds the budget of the whole call, and each worker goes on with it while it answers the cells of its load.
Both learn from every record: a cell that took twice what was predicted doubles what is expected of its scheme. Loading
costs nothing here, for a user can only wait for it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from pydantic import Field

import suites
from bench.engines.registry import backend
from bench.records.cell import Cell, Value
from bench.records.record import Ending, Record
from bench.suite import Pace

if TYPE_CHECKING:
    from bench.plan.plan import Planned

USEFULNESS = ("memory", "divergence", "throughput", "quality", "capacity")
"""Whose minimum is measured first where a budget does not hold all of them."""


class Need(Value):
    """What one cell needs of a budget, as it was predicted before the call began."""

    key: str
    scheme: str
    """Backend and scheme: what one cell of it took tells about the others."""
    suite: str
    seconds: float
    """Of all that is asked."""
    least_s: float
    """Of the suite's stated minimum."""
    reference: str | None = None
    """Key of the cell that must leave its distributions first, None where there is none or they are there."""


class Budget(Value):
    """What is left of a call's seconds, and of its cells."""

    left_s: float
    needs: tuple[Need, ...]
    """Of the cells that are still to be answered, in the order of the plan."""
    looks: dict[str, tuple[float, float]] = Field(default_factory=dict)
    """By scheme, seconds that its cells took in this call, and what had been predicted for what they did."""
    dropped: tuple[str, ...] = ()
    """Keys of cells that stay undecided."""

    def spend(self, seconds: float) -> Budget:
        """Seconds that brought no answer."""
        return self.model_copy(update={"left_s": self.left_s - seconds})

    def after(self, key: str, seconds: float, expected_s: float | None = None) -> Budget:
        """When a cell is answered; `expected_s` was predicted for what it did, None where it tells nothing."""
        need = next((need for need in self.needs if need.key == key), None)
        looks = dict(self.looks)
        if need is not None and expected_s:
            took, expected = looks.get(need.scheme, (0.0, 0.0))
            looks[need.scheme] = (took + seconds, expected + expected_s)
        needs = tuple(need for need in self.needs if need.key != key)
        return self.model_copy(update={"left_s": self.left_s - seconds, "needs": needs, "looks": looks})

    def without(self, key: str) -> Budget:
        """When a cell stays undecided."""
        needs = tuple(need for need in self.needs if need.key != key)
        return self.model_copy(update={"needs": needs, "dropped": (*self.dropped, key)})

    def shares(self) -> dict[str, float]:
        """By key, the seconds that each cell may take, none for a cell that stays undecided.

        A cell has its minimum, and of what is left beyond all minima as much as it needs in proportion. If the minima
        alone are too much, the most useful cells have theirs, and the others are left out.
        """
        needs = {need.key: self._now(need) for need in self._chosen()}
        spare = self.left_s - sum(least for _, least in needs.values())
        beyond = sum(seconds - least for seconds, least in needs.values())
        return {
            key: least + spare * ((seconds - least) / beyond if beyond else 1.0)
            for key, (seconds, least) in needs.items()
        }

    def _now(self, need: Need) -> tuple[float, float]:
        """Seconds of all and of the minimum, by what this call has shown of the scheme, else of the others."""
        seen = [self.looks[need.scheme]] if need.scheme in self.looks else list(self.looks.values())
        factor = sum(took for took, _ in seen) / sum(expected for _, expected in seen) if seen else 1.0
        return factor * need.seconds, factor * min(need.least_s, need.seconds)

    def _chosen(self) -> list[Need]:
        """The cells whose minimum the budget holds, the most useful first."""
        room, chosen, dropped = self.left_s, list[Need](), set(self.dropped)
        for need in sorted(self.needs, key=lambda need: USEFULNESS.index(need.suite)):
            least = self._now(need)[1]
            if room > 0 and least <= room and need.reference not in dropped:
                room -= least
                chosen.append(need)
            else:
                dropped.add(need.key)
        return chosen


def opened(budget_s: float | None, cells: Iterable[Planned], is_there: Callable[[Cell], bool]) -> Budget | None:
    """The budget of a whole call before its first cell, None without an end.

    `is_there` tells whether a reference cell has left its distributions.
    """
    if budget_s is None:
        return None
    return Budget(left_s=budget_s, needs=tuple(need(planned, is_there) for planned in cells))


def need(planned: Planned, is_there: Callable[[Cell], bool]) -> Need:
    """What a planned cell needs."""
    cell, seconds = planned.cell, planned.predicted.seconds or 0.0
    least = seconds  # a suite without rounds does all or nothing
    if not backend(cell.backend).remote:
        pace = planned.pace or Pace()
        least = pace.seconds(suites.suite(cell.suite).least(cell.settings))
    reference = planned.reference
    if reference is not None and (reference.key == cell.unlimited.key or is_there(reference)):
        reference = None
    return Need(
        key=cell.key,
        scheme=f"{cell.backend} {cell.scheme}",
        suite=cell.suite,
        seconds=seconds,
        least_s=least,
        reference=reference.key if reference else None,
    )


def expected_s(record: Record, pace: Pace | None) -> float | None:
    """What was predicted for the work that a record shows, None where it tells nothing."""
    if pace is None or record.outcome.ending is not Ending.OK:
        return None
    return pace.seconds(suites.suite(record.cell.suite).done(record.cell.settings, record.measurements))
