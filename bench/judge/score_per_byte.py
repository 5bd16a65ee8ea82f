# SPDX-License-Identifier: Apache-2.0
"""Score per byte: a larger model at 4 bits beside a smaller one at 16, on the items that both answered. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import mean
from typing import Any

from bench.judge.aggregate import Recovery, recovery
from bench.judge.compare import answers
from bench.judge.figures import accuracies, figures
from bench.judge.pairing import PairedItems, answered, pair_task, tasks_of
from bench.judge.stats import MARGIN, Verdict
from bench.records.cell import Weights
from bench.units import human_bytes
from bench.views.table import Row, Table, written

GIB = 1024**3


@dataclass(frozen=True, kw_only=True)
class Worth:
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


def per_byte(rows: Sequence[Row], margin: float = MARGIN) -> tuple[list[tuple[str, list[Worth]]], list[str]]:
    """By device, rows from the smallest weights to the largest; one line for each reason why others cannot stand there.

    All rows of a device are scored over the tasks that every one of them answered.
    """
    together: dict[str, list[Row]] = defaultdict(list)
    lonely: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        lacking = [suite for suite in ("memory", "quality") if not answered(row, suite)]
        if row.weights is Weights.RANDOM and row.backend != "fake":
            lonely["random weights have no score"][row.name].append(row.precision)
        elif lacking:
            lonely[f"no {' and no '.join(lacking)} record"][row.name].append(row.precision)
        else:
            together[row.device].append(row)
    alone = [
        f"{reason} ({'; '.join(f'{name} {_listed(precisions)}' for name, precisions in names.items())})"
        for reason, names in lonely.items()
    ]
    return [(device, _ranked(found, margin)) for device, found in together.items()], alone


def _listed(names: Sequence[str]) -> str:
    return ", ".join(dict.fromkeys(names))


def _ranked(rows: Sequence[Row], margin: float) -> list[Worth]:
    tasks = [task for task in tasks_of(rows[0]) if all(task in tasks_of(row) for row in rows)]
    plain = [Worth(row=row, weights_bytes=_bytes(row), score=_score(row, tasks)) for row in rows]
    found: list[Worth] = []
    for item in sorted(plain, key=lambda w: (w.weights_bytes, -w.score)):
        best = max(found, key=lambda w: w.score, default=None)
        if best is None:
            found.append(item)
            continue
        pairs = [pair_task(item.row, best.row, task, weights=False) for task in tasks]
        share = recovery([answers(pair) for pair in pairs if isinstance(pair, PairedItems)], margin)
        found.append(
            Worth(row=item.row, weights_bytes=item.weights_bytes, score=item.score, against=best.row, share=share)
        )
    return found


def _bytes(row: Row) -> float:
    return figures(answered(row, "memory")[0])["weights_bytes"].value


def _score(row: Row, tasks: Sequence[str]) -> float:
    shares = []
    for task in tasks:
        found = next(accuracies(record)[task] for record in answered(row, "quality") if task in accuracies(record))
        chance = found.labels.get("chance")
        least = float(chance) if isinstance(chance, int | float) else 0.0
        shares.append((mean(found.values) - least) / (1 - least))
    return mean(shares) if shares else 0.0


def worth_table(ranked: Sequence[Worth]) -> Table:
    """Smallest first; the last columns hold each row against the best one that needs no more bytes, by its number."""
    table = Table(["model", "scheme", "weights", "score", "per GiB", "row", "share", "of row", "verdict"])
    for number, item in enumerate(ranked, 1):
        cells = [item.row.name, item.row.scheme, human_bytes(item.weights_bytes)]
        cells += [f"{item.score:.1%}", f"{item.per_gib:.1%}", str(number)]
        table.rows.append([*cells, *_against(item, ranked)])
    return table


def _against(item: Worth, ranked: Sequence[Worth]) -> list[str]:
    if item.against is None:
        return ["-", "-", "smallest"]
    number = str(next(index for index, other in enumerate(ranked, 1) if other.row is item.against))
    if item.share is None:
        return ["-", number, "no item in common"]
    if item.share.verdict is Verdict.NOT_MEASURABLE:
        return ["-", number, f"{item.share.verdict} (at chance)"]
    return [written(item.share.share, "percent"), number, str(item.share.verdict)]


def footnotes() -> list[str]:
    """What the columns mean."""
    return [
        "score: accuracy above chance, (accuracy - chance) / (1 - chance), mean over the tasks that all rows answered.",
        "share: this score in percent of the best row's that needs no more bytes (of row), over the same items.",
        "A row that is worse or equivalent there spends its bytes for nothing.",
    ]


def flat_worth(ranked: Sequence[Worth]) -> list[dict[str, Any]]:
    """Flat rows for CSV and JSON."""
    rows = []
    for item in ranked:
        share = item.share if item.share and item.share.verdict is not Verdict.NOT_MEASURABLE else None
        rows.append(
            {
                "model": item.row.model, "backend": item.row.backend, "scheme": item.row.scheme,
                "precision": item.row.precision, "device": item.row.device, "weights_bytes": item.weights_bytes,
                "score": item.score, "score_per_gib": item.per_gib,
                "against": f"{item.against.model} {item.against.scheme}" if item.against else None,
                "share": share.share.value if share else None, "share_low": share.share.low if share else None,
                "share_high": share.share.high if share else None,
                "verdict": str(item.share.verdict) if item.share else None,
            }
        )  # fmt: skip
    return rows
