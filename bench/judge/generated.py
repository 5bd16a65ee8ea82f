# SPDX-License-Identifier: Apache-2.0
"""Generated answers beside the reference's: longer or shorter, empty, going round in circles. Pure.

A quantized model that rambles is seen here before any score shows it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bench.judge.compare import Comparison
from bench.judge.decisions import Pairs, match
from bench.judge.kept import kept_of
from bench.judge.moments import mean
from bench.judge.pairing import answered, pair
from bench.judge.scores import WHOLE, compared, metrics_of
from bench.judge.stats import Estimate, mean_estimate
from bench.records.record import Measurement, Record
from bench.records.scored import LOOPING, SHORTEST, loop_share


@dataclass(frozen=True, kw_only=True)
class GeneratedAnswers:
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


def generated_answers(comparison: Comparison) -> list[GeneratedAnswers]:
    """Every task with generated answers that both rows gave to the same items, then the throughput suite's text."""
    rows = (comparison.row, comparison.reference)
    histories = [row.history.get(suite, ()) for suite in ("quality", "throughput") for row in rows]
    return kept_of("generated", histories, list[GeneratedAnswers], lambda: _generated(comparison))


def _generated(comparison: Comparison) -> list[GeneratedAnswers]:
    found = []
    seen: set[str] = set()
    for this in answered(comparison.row, "quality"):
        for base in answered(comparison.reference, "quality"):
            for task in _tokens(this):
                theirs = _tokens(base).get(task)
                pairs = _pairs(this, base, task) if theirs and task not in seen else None
                if pairs and pairs.mine:
                    seen.add(task)
                    found.append(_of_task(this, base, task, pairs))
    speed = pair(comparison.row, comparison.reference, "throughput")
    texts = [text for record in speed or () for text in record.texts if text.name == "generated"]
    if len(texts) == 2:  # one of each row
        blank, circling = zip(
            *((not text.text.strip(), loop_share(_pieces(text.text)) >= LOOPING) for text in texts), strict=True
        )
        found.append(
            GeneratedAnswers(
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


def _pairs(this: Record, base: Record, task: str) -> Pairs:
    """Which answers are to the same items: by the hashes that stand with the task's score."""
    found = [[m for m in metrics_of(record).get(task, ()) if WHOLE not in m.labels] for record in (this, base)]
    ours, theirs = (
        compared(metrics) if metrics else _tokens(record)[task]
        for metrics, record in zip(found, (this, base), strict=True)
    )
    return match(ours, theirs)


def _of_task(this: Record, base: Record, task: str, pairs: Pairs) -> GeneratedAnswers:
    def values(name: str) -> tuple[Sequence[float], Sequence[float]]:
        one, other = (record.measurement(name, task=task) for record in (this, base))
        mine, yours = one.values if one else (), other.values if other else ()
        return [mine[i] for i in pairs.mine] if one else (), [yours[i] for i in pairs.yours] if other else ()

    lengths, loops, cut = values("answer_tokens"), values("answer_loop"), values("answer_cut")
    empty = values("answer_empty")
    return GeneratedAnswers(
        task=task,
        answers=len(lengths[0]),
        length=mean_estimate([a - b for a, b in zip(*lengths, strict=True)]),
        reference_tokens=mean(lengths[1]),
        empty=(round(sum(empty[0])), round(sum(empty[1]))),
        looping=(sum(v >= LOOPING for v in loops[0]), sum(v >= LOOPING for v in loops[1])),
        cut=(round(sum(cut[0])), round(sum(cut[1]))),
    )
