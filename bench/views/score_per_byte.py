# SPDX-License-Identifier: Apache-2.0
"""Models by size and what their bytes bring, as `bench compare --per-byte` writes them. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from bench.judge.rows import Row
from bench.judge.score_per_byte import RankedRow, Ranking, Unranked
from bench.judge.stats import Verdict
from bench.units import human_bytes
from bench.views.cells import keys, named, written
from bench.views.comparison import said
from bench.views.fields import Unit
from bench.views.formats import Flat, Table, View
from bench.views.outputs import PER_BYTE

NOTES = (
    "score: accuracy above chance, (accuracy - chance) / (1 - chance), mean over the tasks that all rows answered.",
    "share: this score in percent of the best row's that needs no more bytes (of row), over the same items.",
    "A row that is worse or equivalent there spends its bytes for nothing.",
)


def views(rankings: Sequence[Ranking]) -> list[View]:
    """A table for each device."""
    return [View(title=f"score per byte on {each.device}", table=table(each), notes=NOTES) for each in rankings]


def lines(unranked: Sequence[Unranked]) -> list[str]:
    """One line for each reason why rows are left out."""
    return [f"left out: {item.reason} ({'; '.join(_listed(item.rows))})" for item in unranked]


def _listed(rows: Sequence[Row]) -> list[str]:
    """`name fp16, int4` for each model."""
    precisions: dict[str, dict[str, None]] = {}
    for row in rows:
        precisions.setdefault(named(row), {})[row.precision] = None
    return [f"{name} {', '.join(found)}" for name, found in precisions.items()]


def table(ranking: Ranking) -> Table:
    """Smallest first; the last columns hold each row against the best one that needs no more bytes, by its number."""
    made = Table(["model", "scheme", "weights", "score", "per GiB", "row", "share", "of row", "verdict"])
    for number, item in enumerate(ranking.rows, 1):
        cells = [named(item.row), item.row.scheme, human_bytes(item.weights_bytes)]
        cells += [f"{item.score:.1%}", f"{item.per_gib:.1%}", str(number)]
        made.rows.append([*cells, *_against(item, ranking)])
    return made


def _against(item: RankedRow, ranking: Ranking) -> list[str]:
    if item.against is None:
        return ["-", "-", "smallest"]
    number = str(next(index for index, other in enumerate(ranking.rows, 1) if other.row is item.against))
    if item.share is None:
        return ["-", number, "no item in common"]
    share = "-" if item.share.verdict is Verdict.NOT_MEASURABLE else written(item.share.share, Unit.SHARE)
    return [share, number, said(item.share.verdict)]


def flats(rankings: Sequence[Ranking]) -> list[Flat]:
    """One row for each ranked row."""
    return [PER_BYTE.flat(_flat(item)) for each in rankings for item in each.rows]


def _flat(item: RankedRow) -> Flat:
    share = item.share if item.share and item.share.verdict is not Verdict.NOT_MEASURABLE else None
    return {
        **keys(item.row), "weights_bytes": item.weights_bytes,
        "score": item.score, "score_per_gib": item.per_gib,
        "against": f"{item.against.model} {item.against.scheme}" if item.against else None,
        "share": share.share.value if share else None, "share_low": share.share.low if share else None,
        "share_high": share.share.high if share else None,
        "verdict": str(item.share.verdict) if item.share else None,
    }  # fmt: skip
