# SPDX-License-Identifier: Apache-2.0
"""How a call's seconds of measuring are shared among its cells: every cell its minimum, the rest by what it needs.

The runner holds the budget of the whole call, and each worker goes on with it while it answers the cells of its load.
Both learn from every record: a cell that took twice what was predicted doubles what is expected of its scheme. Loading
costs nothing here, for a user can only wait for it.
"""

from __future__ import annotations

from collections.abc import Iterable

from pydantic import Field

import suites
from bench.records.cell import Value
from bench.records.record import Ending, Record
from bench.suite import Pace

USEFULNESS = ("memory", "divergence", "throughput", "quality", "kv", "capacity")
"""Whose minimum is measured first where a budget does not hold all of them."""


WEIGHTS = {"divergence": 3.0}
"""How much more a suite's further rounds are worth: windows decide the perplexity of every precision, and further
repeats and items make an interval a little narrower."""
STEADY_S = 1.0
"""Seconds of its prediction that a scheme has kept to before anything is measured: what is fixed in a short cell, as
counting the weights is, says little of a long one."""


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

    def again(self, cells: Iterable[Need]) -> Budget:
        """The same seconds for cells that were cut while others took less than was expected."""
        return self.model_copy(update={"needs": tuple(cells), "dropped": ()})

    def shares(self) -> dict[str, float]:
        """By key, the seconds that each cell may take, none for a cell that stays undecided.

        A cell has its minimum, and of what is left beyond all minima a part of what it needs more: the same part in
        every cell, but in suites with a weight so many times as much, up to the whole. If the minima alone are too
        much, the most useful cells have theirs, and the others are left out.
        """
        chosen = self._chosen()
        least = {need.key: self._now(need)[1] for need in chosen}
        more = {need.key: self._now(need)[0] - least[need.key] for need in chosen}
        part = _parts(self.left_s - sum(least.values()), more, {n.key: WEIGHTS.get(n.suite, 1.0) for n in chosen})
        return {key: least[key] + part[key] for key in least}

    def _now(self, need: Need) -> tuple[float, float]:
        """Seconds of all and of the minimum, by what this call has shown of the scheme.

        Another scheme that is slow tells nothing, for bfloat16 that a CPU emulates is slow by itself; where all are
        faster than was predicted, the next is expected to be so too.
        """
        if need.scheme in self.looks:
            factor = _slower(*self.looks[need.scheme])
        else:
            factor = min([1.0, max((_slower(*look) for look in self.looks.values()), default=1.0)])
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


def _parts(spare: float, more: dict[str, float], weights: dict[str, float]) -> dict[str, float]:
    """How a rest is spread over what is needed more, nobody given more than that until all have it.

    What is left when all have it is spread too, and a cell of which hardly anything was expected has its part as if a
    second had been: what is fixed in a short cell is no part of its prediction.
    """
    beyond = spare - sum(more.values())
    if beyond >= 0:
        parts = {key: max(need, STEADY_S) for key, need in more.items()}
        return {key: need + beyond * parts[key] / sum(parts.values()) for key, need in more.items()}
    found, open_keys = dict.fromkeys(more, 0.0), set(more)
    while open_keys:
        level = spare / (sum(weights[key] * more[key] for key in open_keys) or 1.0)
        full = {key for key in open_keys if level * weights[key] >= 1}
        for key in full or open_keys:
            found[key] = more[key] if full else level * weights[key] * more[key]
        spare -= sum(found[key] for key in full)
        open_keys = open_keys - full if full else set()
    return found


def _slower(took: float, expected: float) -> float:
    return (took + STEADY_S) / (expected + STEADY_S)


def expected_s(record: Record, pace: Pace | None) -> float | None:
    """What was predicted for the work that a record shows, None where it tells nothing."""
    if pace is None or record.outcome.ending is not Ending.OK:
        return None
    return pace.seconds(suites.suite(record.cell.suite).done(record.cell.settings, record.measurements))
