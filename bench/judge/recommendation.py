# SPDX-License-Identifier: Apache-2.0
"""What is recommended on a device: the best row of each model in tiers, near misses, a duel, and costs. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from bench.judge.costs import Cost, Prices, cost
from bench.judge.recommend import Candidate, Limits, What, best_of_models, candidates, near_misses
from bench.judge.rows import Row, try_answers
from bench.judge.tiers import Duel, Ranked, duel, ranked


@dataclass(frozen=True, kw_only=True)
class Recommended:
    """What is recommended on one device."""

    device: str
    limits: Limits
    places: tuple[Ranked, ...]
    """One row of each model that satisfies everything, the best tier first."""
    others: tuple[Candidate, ...] = ()
    """Every other row: near misses, refused ones, and those that another row of their model is taken before."""
    near: tuple[Candidate, ...] = ()
    duel: Duel | None = None
    costs: Mapping[int, Cost] = field(default_factory=dict)
    """By `id` of a candidate."""
    prices: Prices = field(default_factory=Prices)


def recommended(
    rows: Sequence[Row], limits: Limits, prices: Prices, longest: Callable[[str], int | None] = lambda model: None
) -> list[Recommended]:
    """One for each device that the rows are of. `longest` gives the positions that a model was made for."""
    try_answers(rows)
    devices = dict.fromkeys(row.device for row in rows)
    return [_on(device, [row for row in rows if row.device == device], limits, prices, longest) for device in devices]


def _on(
    device: str, rows: Sequence[Row], limits: Limits, prices: Prices, longest: Callable[[str], int | None]
) -> Recommended:
    found = candidates(rows, limits, longest)
    taken = best_of_models(found)
    within = [one for one in found if not one.refused and not any(miss.what is What.MEMORY for miss in one.misses)]
    return Recommended(
        device=device,
        limits=limits,
        places=tuple(ranked(taken)),
        others=tuple(one for one in found if not any(one is other for other in taken)),
        near=tuple(near_misses(found, taken)),
        duel=duel(within),
        costs={id(one): value for one in found if (value := cost(one.row.figures(), prices))},
        prices=prices,
    )
