# SPDX-License-Identifier: Apache-2.0
"""Rows of different models by quality, in tiers that the data can tell apart, and duels on the same items. Pure.

Perplexities of different tokenizers are no common scale, so models are held against each other by their tasks: the
share of the score above chance over the items that both answered. A row never stands above another that the items
cannot separate: rows that are linked by a chain of such pairs share a tier.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice

from bench.judge.aggregate import Recovery, recovery
from bench.judge.kept import kept_of
from bench.judge.pairing import PairedItems, pair_task, recoveries, shared_skills, skills_of
from bench.judge.recommend import Candidate, decoded, needed
from bench.judge.rows import Row
from bench.judge.score_per_byte import score
from bench.judge.stats import MARGIN, Verdict
from bench.records.cell import REFERENCE, Precision

MOST = 20
SEPARATED = frozenset({Verdict.BETTER, Verdict.WORSE})


@dataclass(frozen=True, kw_only=True)
class Ranked:
    """One candidate's place."""

    candidate: Candidate
    tier: int | None
    """1 is the best; None where no task was answered that others answered too."""
    score: float | None
    """Mean over the common tasks of (accuracy - chance) / (1 - chance)."""
    on_front: bool
    """Whether no other candidate is proved to be at least as good in memory, decode and quality, and better in one."""


@dataclass(frozen=True, kw_only=True)
class Duel:
    """A larger model at 4 bits against a smaller one at 16, on the same items."""

    larger: Candidate
    smaller: Candidate
    result: Recovery
    """The larger model's score above chance as a share of the smaller one's."""
    items: int
    tasks: int


def against(row: Row, other: Row, margin: float = MARGIN) -> tuple[Recovery | None, int, int]:
    """One row's score as a share of the other's over the items that both answered, with their items and tasks."""
    answers = [found.history.get("quality", ()) for found in (row, other)]
    kind = tuple[Recovery | None, int, int]
    return kept_of(f"share {margin!r}", answers, kind, lambda: _against(row, other, margin))


def _against(row: Row, other: Row, margin: float) -> tuple[Recovery | None, int, int]:
    pairs = [pair_task(row, other, task, weights=False) for task in shared_skills([row, other])]
    answered = [pair for pair in pairs if isinstance(pair, PairedItems) and pair.answers]
    found = recovery(recoveries(answered), margin)
    return found, sum(len(pair.these) for pair in answered), len(answered)


def ranked(taken: Sequence[Candidate]) -> list[Ranked]:
    """The candidates of one device in tiers, the best first; those without a common task last."""
    scores, front = _scores(taken), _front(taken)
    order = sorted((one for one in taken if id(one) in scores), key=lambda one: -scores[id(one)])
    places = _tiers(order)
    rest = [one for one in taken if id(one) not in scores]
    return [
        Ranked(candidate=one, tier=places.get(id(one)), score=scores.get(id(one)), on_front=id(one) in front)
        for one in [*sorted(order, key=lambda one: (places[id(one)], needed(one))), *sorted(rest, key=needed)]
    ]


def standings(taken: Sequence[Candidate]) -> list[Ranked]:
    """The same candidates in their own order, with score and front and without tiers.

    For tiers every pair has to be told apart, which takes minutes for a page of thousands of rows.
    """
    scores, front = _scores(taken), _front(taken)
    return [Ranked(candidate=one, tier=None, score=scores.get(id(one)), on_front=id(one) in front) for one in taken]


def _scores(taken: Sequence[Candidate]) -> dict[int, float]:
    """By candidate, its score over the tasks that all that answered any have answered."""
    scored = [one for one in taken if not one.row.means_nothing and skills_of(one.row)]
    common = shared_skills([one.row for one in scored])
    return {id(one): score(one.row, common) for one in scored} if common else {}


def _front(taken: Sequence[Candidate]) -> set[int]:
    """Those that none is proved to be at least as good as in memory, decode and quality, and better in one.

    Of many that are smaller and faster the MOST smallest are looked at.
    """
    by_size = sorted(taken, key=needed)
    found = set()
    for one in taken:
        above = (other for other in by_size if other is not one and _smaller_and_faster(other, one))
        if not any(_no_worse(other, one) for other in islice(above, MOST)):
            found.add(id(one))
    return found


def _tiers(order: Sequence[Candidate]) -> dict[int, int]:
    """Tier by candidate: a new one begins only where every row above is separated from every row below."""
    places: dict[int, int] = {}
    tier, reach = 0, -1
    for index, one in enumerate(order):
        if index > reach:
            tier, reach = tier + 1, index
        beyond = range(len(order) - 1, reach, -1)  # of those that it cannot be told from the farthest alone counts
        reach = next((other for other in beyond if _tied(one, order[other])), reach)
        places[id(one)] = tier
    return places


def _tied(one: Candidate, other: Candidate) -> bool:
    """Whether their common items cannot tell them apart; without any, they cannot."""
    found, _, _ = against(one.row, other.row)
    return found is None or found.verdict not in SEPARATED


def _smaller_and_faster(one: Candidate, other: Candidate) -> bool:
    """Whether `one` needs no more memory and is no slower, and is better in one of these."""
    if one.need is None or other.need is None:
        return False
    no_larger, no_slower = one.need.bytes <= other.need.bytes, decoded(one) >= decoded(other)
    return no_larger and no_slower and (one.need.bytes < other.need.bytes or decoded(one) > decoded(other))


def _no_worse(one: Candidate, other: Candidate) -> bool:
    if one.row.name == other.row.name:
        return one.is_reference or one.verdict in {Verdict.EQUIVALENT, Verdict.BETTER} or other.verdict is Verdict.WORSE
    if one.row.means_nothing or other.row.means_nothing:
        return False
    found, _, _ = against(one.row, other.row)
    return found is not None and found.verdict in {Verdict.BETTER, Verdict.EQUIVALENT}


def duel(found: Sequence[Candidate], margin: float = MARGIN) -> Duel | None:
    """The best-scoring 4-bit row against the best-scoring 16-bit row of a smaller model that needs about as much.

    None where records allow none. `found` are the candidates of one device that fit its memory.
    """
    sized = {one.row.name: _weights(one) for one in found if one.row.precision == REFERENCE}
    known = [one for one in found if skills_of(one.row) and not one.row.means_nothing and one.need]
    larger = [one for one in known if one.row.precision == Precision.INT4]
    smaller = [one for one in known if one.row.precision == REFERENCE]
    duels = []
    for high in larger:
        for low in smaller:
            own = sized.get(high.row.name) or 4 * _weights(high)
            if low.row.name == high.row.name or own <= _weights(low):
                continue
            result, items, tasks = against(high.row, low.row, margin)
            if result is not None and result.verdict is not Verdict.NOT_MEASURABLE:
                duels.append(Duel(larger=high, smaller=low, result=result, items=items, tasks=tasks))
    return min(duels, key=_unevenness, default=None)


def _unevenness(found: Duel) -> float:
    """How far apart the memory of the two is: a duel at the same budget says most."""
    return abs(math.log(needed(found.larger) / needed(found.smaller)))


def _weights(one: Candidate) -> float:
    found = one.row.figures().get("weights_bytes")
    return found.value if found else 0.0
