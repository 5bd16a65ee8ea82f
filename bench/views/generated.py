# SPDX-License-Identifier: Apache-2.0
"""Generated answers beside the reference's, as `bench compare` writes them beneath its verdicts. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from bench.judge.compare import Comparison
from bench.judge.generated import generated_answers
from bench.records.scored import NGRAM
from bench.units import signed
from bench.views.cells import keys, named
from bench.views.formats import Flat, Table, View
from bench.views.outputs import COMPARE

NOTES = (
    "tokens: of a reference answer, mean; drift: how many more this one has. In brackets: the reference's count.",
    f"looping: at least half of an answer's {NGRAM}-grams came before in it; cut: it ran into the limit of tokens.",
)


def views(comparisons: Sequence[Comparison]) -> list[View]:
    """One table, or none where nothing was generated."""
    table = generated_table(comparisons)
    return [View(title="generated answers", table=table, notes=(*NOTES, *_noise(comparisons)))] if table.rows else []


def generated_table(comparisons: Sequence[Comparison]) -> Table:
    """This, and the reference's figure in brackets where both are counted; rows whose answers mean nothing left out."""
    table = Table(["model", "scheme", "task", "answers", "tokens", "drift", "empty", "looping", "cut"])
    for item in comparisons:
        for found in () if item.row.means_nothing else generated_answers(item):
            length = found.length
            half = length.half_width if length else None
            drift = "-" if length is None else signed(length.value) + (f" ±{half:.1f}" if half is not None else "")
            table.rows.append(
                [
                    named(item.row), item.row.scheme, found.task, str(found.answers), f"{found.reference_tokens:.1f}",
                    drift, *(f"{own} ({base})" for own, base in (found.empty, found.looping, found.cut)),
                ]
            )  # fmt: skip
    return table


def _noise(comparisons: Sequence[Comparison]) -> list[str]:
    """One line: what a batch changes of each row's own answers, all tasks together; none where nobody looked."""
    said: dict[str, dict[str, str]] = {}
    for item in comparisons:
        for side, row in enumerate((item.row, item.reference)):
            told = said.setdefault(named(row), {})
            found = [] if row.means_nothing or row.scheme in told else generated_answers(item)
            alone = sum(one.alone[side] for one in found)
            if alone:
                told[row.scheme] = f"{row.scheme} {sum(one.changed[side] for one in found)} of {alone}"
    shown = "; ".join(f"{name} {', '.join(told.values())}" for name, told in said.items() if told)
    return [f"own noise, answers that are others when generated one at a time: {shown}."] if shown else []


def flats(comparisons: Sequence[Comparison]) -> list[Flat]:
    """One row for each task with generated answers."""
    return [COMPARE.flat(row) for item in comparisons for row in _flats(item)]


def _flats(item: Comparison) -> list[Flat]:
    return [
        {
            **keys(item.row),
            "reference": item.reference.scheme,
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
            "answers_alone": found.alone[0] or None,
            "answers_changed_alone": found.changed[0] if found.alone[0] else None,
            "answers_alone_reference": found.alone[1] or None,
            "answers_changed_alone_reference": found.changed[1] if found.alone[1] else None,
        }
        for found in generated_answers(item)
    ]
