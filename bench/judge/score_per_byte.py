# SPDX-License-Identifier: Apache-2.0
"""Score per byte: a larger model at 4 bits beside a smaller one at 16, on the items that both answered. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace

from bench.judge.aggregate import Recovery, recovery
from bench.judge.differences import chance_of
from bench.judge.figures import figures
from bench.judge.kept import kept_of
from bench.judge.moments import mean
from bench.judge.pairing import answered, pair_task, recoveries, shared_skills, skills_of
from bench.judge.rows import Row
from bench.judge.scores import accuracies
from bench.judge.stats import MARGIN

GIB = 1024**3


@dataclass(frozen=True, kw_only=True)
class RankedRow:
    """One row, its bytes and its score, beside the best row that needs no more bytes."""

    row: Row
    weights_bytes: float
    score: float
    """Mean over the tasks of (accuracy - chance) / (1 - chance)."""
    against: Row | None = None
    """The best-scoring row of no more bytes, None for the smallest."""
    share: Recovery | None = None
    """This row's score above chance as a share of that row's, over the items that both answered."""

    @property
    def per_gib(self) -> float:
        """Score for each GiB of weights."""
        return self.score / (self.weights_bytes / GIB)


@dataclass(frozen=True, kw_only=True)
class Ranking:
    """The rows of one device from the smallest weights to the largest."""

    device: str
    rows: tuple[RankedRow, ...]


@dataclass(frozen=True, kw_only=True)
class Unranked:
    """Rows that have no score per byte, all for the same reason."""

    reason: str
    rows: tuple[Row, ...]


def score_per_byte(rows: Sequence[Row], margin: float = MARGIN) -> tuple[list[Ranking], list[Unranked]]:
    """The rows of each device by size, and those that cannot stand there, by their reason.

    All rows of a device are scored over the tasks that every one of them answered.
    """
    together: dict[str, list[Row]] = defaultdict(list)
    unranked: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        lacking = [suite for suite in ("memory", "quality") if not answered(row, suite)]
        if row.means_nothing:
            unranked["random weights have no score"].append(row)
        elif lacking:
            unranked[f"no {' and no '.join(lacking)} record"].append(row)
        elif "weights_bytes" not in figures(answered(row, "memory")[0]):
            unranked["its server fetched the weights itself, so nobody counted them"].append(row)
        elif not skills_of(row):
            unranked["no task whose score is a share of right items"].append(row)
        else:
            together[row.device].append(row)
    rankings = []
    for device, found in together.items():
        tasks = shared_skills(found)
        if tasks:
            rankings.append(Ranking(device=device, rows=tuple(_ranked(found, tasks, margin))))
        else:
            unranked["no task that every row of its device has answered"] += found
    return rankings, [Unranked(reason=reason, rows=tuple(left)) for reason, left in unranked.items()]


def _ranked(rows: Sequence[Row], tasks: Sequence[str], margin: float) -> list[RankedRow]:
    plain = [RankedRow(row=row, weights_bytes=_bytes(row), score=score(row, tasks)) for row in rows]
    found: list[RankedRow] = []
    for item in sorted(plain, key=lambda ranked: (ranked.weights_bytes, -ranked.score)):
        best = max(found, key=lambda ranked: ranked.score, default=None)
        if best is None:
            found.append(item)
            continue
        pairs = [pair_task(item.row, best.row, task, weights=False) for task in tasks]
        share = recovery(recoveries(pairs), margin)
        found.append(replace(item, against=best.row, share=share))
    return found


def _bytes(row: Row) -> float:
    return figures(answered(row, "memory")[0])["weights_bytes"].value


def score(row: Row, tasks: Sequence[str]) -> float:
    """Mean over the tasks of (accuracy - chance) / (1 - chance), each from the newest record that answered it."""
    return kept_of(f"score {tasks!r}", [row.history.get("quality", ())], float, lambda: _score(row, tasks))


def _score(row: Row, tasks: Sequence[str]) -> float:
    shares = []
    for task in tasks:
        found = next(accuracies(record)[task] for record in answered(row, "quality") if task in accuracies(record))
        least = chance_of(found) or 0.0
        shares.append((mean(found.values) - least) / (1 - least))
    return mean(shares)
