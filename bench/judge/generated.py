# SPDX-License-Identifier: Apache-2.0
"""Generated answers beside the reference's: longer or shorter, empty, going round in circles. Pure.

A quantized model that rambles is seen here before any score shows it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import mean
from typing import Any

from bench.judge.compare import Comparison
from bench.judge.pairing import answered, pair
from bench.judge.stats import Estimate, mean_estimate
from bench.records.cell import Weights
from bench.records.record import Measurement, Record
from bench.records.scored import LOOPING, NGRAM, SHORTEST, loop_share
from bench.units import signed
from bench.views.table import Table


@dataclass(frozen=True, kw_only=True)
class Drift:
    """One task's generated answers (or the text of the throughput suite) against the reference's."""

    task: str
    answers: int
    length: Estimate | None
    """Mean tokens of an answer, minus the reference's on the same items; None where the length is not free."""
    reference_tokens: float
    """Mean tokens of a reference answer."""
    empty: tuple[int, int]
    """Empty answers: this, the reference."""
    looping: tuple[int, int]
    """Answers that loop: this, the reference."""
    cut: tuple[int, int]
    """Answers that ran into the limit of tokens: this, the reference."""


def drifts(comparison: Comparison) -> list[Drift]:
    """Every task with generated answers that both rows gave to the same items, then the throughput suite's text."""
    found = []
    seen: set[str] = set()
    for this in answered(comparison.row, "quality"):
        for base in answered(comparison.reference, "quality"):
            for task, ours in _tokens(this).items():
                theirs = _tokens(base).get(task)
                if theirs and task not in seen and ours.labels["digest"] == theirs.labels["digest"]:
                    seen.add(task)
                    found.append(_drift(this, base, task))
    speed = pair(comparison.row, comparison.reference, "throughput")
    texts = [text for record in speed or () for text in record.texts if text.name == "generated"]
    if len(texts) == 2:  # one of each row
        blank, circling = zip(
            *((not text.text.strip(), loop_share(_pieces(text.text)) >= LOOPING) for text in texts), strict=True
        )
        found.append(
            Drift(
                task="throughput text",
                answers=1,
                length=None,
                reference_tokens=float(texts[1].tokens),
                empty=(int(blank[0]), int(blank[1])),
                looping=(int(circling[0]), int(circling[1])),
                cut=(0, 0),
            )
        )
    return found


def _tokens(record: Record) -> dict[str, Measurement]:
    return {str(m.labels["task"]): m for m in record.measurements if m.name == "answer_tokens"}


def _pieces(text: str) -> list[str]:
    """Words, or characters where a language puts no spaces between words."""
    words = text.split()
    return words if len(words) >= SHORTEST else list(text)


def _drift(this: Record, base: Record, task: str) -> Drift:
    def values(name: str) -> tuple[Sequence[float], Sequence[float]]:
        one, other = (record.measurement(name, task=task) for record in (this, base))
        return (one.values if one else (), other.values if other else ())

    lengths, loops, cut = values("answer_tokens"), values("answer_loop"), values("answer_cut")
    empty = values("answer_empty")
    return Drift(
        task=task,
        answers=len(lengths[0]),
        length=mean_estimate([a - b for a, b in zip(*lengths, strict=True)]),
        reference_tokens=mean(lengths[1]),
        empty=(round(sum(empty[0])), round(sum(empty[1]))),
        looping=(sum(v >= LOOPING for v in loops[0]), sum(v >= LOOPING for v in loops[1])),
        cut=(round(sum(cut[0])), round(sum(cut[1]))),
    )


def drift_table(comparisons: Sequence[Comparison]) -> Table:
    """This, and the reference's figure after "of" where both are counted."""
    table = Table(["model", "scheme", "task", "answers", "tokens", "drift", "empty", "looping", "cut"])
    for item in comparisons:
        if item.row.weights is Weights.RANDOM and item.row.backend != "fake":
            continue  # what they say means nothing
        for found in drifts(item):
            length = found.length
            half = length.half_width if length else None
            drift = "-" if length is None else signed(length.value) + (f" ±{half:.1f}" if half is not None else "")
            table.rows.append(
                [
                    item.row.name, item.row.scheme, found.task, str(found.answers), f"{found.reference_tokens:.1f}",
                    drift, *(f"{own} ({base})" for own, base in (found.empty, found.looping, found.cut)),
                ]
            )  # fmt: skip
    return table


def footnotes() -> list[str]:
    """What the columns of the table mean."""
    return [
        "tokens: of a reference answer, mean; drift: how many more this one has. In brackets: the reference's count.",
        f"looping: at least half of an answer's {NGRAM}-grams came before in it; cut: it ran into the limit of tokens.",
    ]


def flat_drifts(comparison: Comparison) -> list[dict[str, Any]]:
    """Flat rows for CSV and JSON, one for each task."""
    head = {
        "model": comparison.row.model,
        "backend": comparison.row.backend,
        "scheme": comparison.row.scheme,
        "precision": comparison.row.precision,
        "device": comparison.row.device,
        "weights": str(comparison.row.weights),
        "reference": comparison.reference.scheme,
    }
    return [
        {
            **head,
            "task": found.task,
            "answers": found.answers,
            "answer_tokens_reference": found.reference_tokens,
            "answer_tokens_drift": found.length.value if found.length else None,
            "answers_empty": found.empty[0],
            "answers_empty_reference": found.empty[1],
            "answers_looping": found.looping[0],
            "answers_looping_reference": found.looping[1],
            "answers_cut": found.cut[0],
            "answers_cut_reference": found.cut[1],
        }
        for found in drifts(comparison)
    ]
