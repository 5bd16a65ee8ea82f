# SPDX-License-Identifier: Apache-2.0
"""Two result sets side by side, as `bench compare --against` writes them: what changed first. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from bench.judge.against import Change, Course, Courses
from bench.judge.compare import Alone
from bench.judge.stats import Estimate
from bench.units import human_bytes, significant
from bench.views.answer import change, label, points
from bench.views.cells import keys, labelled, named
from bench.views.fields import BY_FIGURE, Unit
from bench.views.formats import Flat, Table, View
from bench.views.outputs import AGAINST

WORDS = {
    "weights_bytes": "weights", "peak_bytes": "peak memory", "prefill_tokens_per_s": "prefill tok/s",
    "decode_tokens_per_s": "decode tok/s", "ppl": "perplexity",
}  # fmt: skip
ORDER = (Course.REGRESSED, Course.IMPROVED, Course.UNDECIDED, Course.SAME)
SHOWN = ORDER[:3]
"""What a table lists; what stayed the same is counted."""
NOTE = (
    "a speed is the same where its whole interval lies within 5 %, memory within 2 %, quality within the margin. "
    "Intervals hold the movement of the machine between runs."
)
FEW = 5
"""Rows that stand alone and are named one by one."""


def summary(found: Sequence[Courses]) -> str:
    """`2 figures regressed, 1 improved, 3 undecided, 20 the same`."""
    counts = Counter(one.course for row in found for one in row.changes)
    words = [f"{counts[course]} {'the same' if course is Course.SAME else course}" for course in ORDER]
    return "figures: " + ", ".join(words)


def views(found: Sequence[Courses]) -> list[View]:
    """What regressed, then what improved, then what cannot be told; nothing where all is the same."""
    table = Table(["model", "precision", "engine", "figure", "before", "now", "change", "verdict"])
    listed = [(row, one) for row in found for one in row.changes if one.course in SHOWN]
    for row, one in sorted(listed, key=lambda pair: ORDER.index(pair[1].course)):
        before, now = _value(one, one.before), _value(one, one.now)
        cells = [labelled(row.row), label(row.row), row.row.backend, _word(one), before, now, _change(one)]
        table.rows.append([*cells, str(one.course)])
    return [View(table=table, notes=(NOTE,))] if table.rows else []


def lines(found: Sequence[Courses], lone: Sequence[Alone]) -> Iterator[str]:
    """Versions that changed, each once with the rows it concerns, and rows that stand alone."""
    apart: dict[str, list[str]] = {}
    for row in found:
        for name, (before, now) in row.versions.items():
            apart.setdefault(f"{name} {before} -> {now}", []).append(f"{named(row.row)} {row.row.scheme}")
    for what, rows in apart.items():
        yield f"changed: {what} ({'all rows' if len(rows) == len(found) else ', '.join(rows)})"
    alone: dict[str, list[str]] = {}
    for one in lone:
        alone.setdefault(one.reason, []).append(
            f"{named(one.row)} {one.row.precision} ({one.row.backend}, {one.row.device})"
        )
    for reason, rows in alone.items():
        yield f"{reason}: " + (", ".join(rows) if len(rows) <= FEW else f"{len(rows)} rows, {rows[0]} to {rows[-1]}")


def _word(one: Change) -> str:
    return WORDS.get(one.figure, one.figure.removeprefix("acc:").removeprefix("score:").replace(":", " "))


def _value(one: Change, value: float | None) -> str:
    if value is None:
        return "-"
    if one.figure.startswith("score:"):
        return significant(value)
    if one.figure.startswith("acc:"):
        return f"{value:.1%}"
    unit = BY_FIGURE[one.figure].unit
    return human_bytes(value) if unit is Unit.BYTES else significant(value)


def _change(one: Change) -> str:
    return points(one.change) if one.figure.startswith(("acc:", "score:")) else change(one.change)


def flats(found: Sequence[Courses]) -> list[Flat]:
    """One row for each figure of each row."""
    return [_flat(row, one) for row in found for one in row.changes]


def _flat(row: Courses, one: Change) -> Flat:
    this: Estimate = one.change
    return AGAINST.flat({
        **keys(row.row),
        "device_before": row.before.device, "figure": one.figure, "before": one.before, "now": one.now,
        "change": this.value, "change_low": this.low, "change_high": this.high, "course": str(one.course),
        "versions_apart": "; ".join(f"{name} {old} -> {new}" for name, (old, new) in row.versions.items()) or None,
    })  # fmt: skip
