# SPDX-License-Identifier: Apache-2.0
"""How a figure, a missing figure and the name of a row are written in a cell of a table for people. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from bench.judge.rows import Row
from bench.judge.stats import Estimate
from bench.records.cell import Weights
from bench.units import human_bytes, human_limit, human_seconds, significant
from bench.views.fields import Unit
from bench.views.formats import Flat

MERGED = " + "
"""What stands between the base and what was added to it in the source of merged weights."""


def written(estimate: Estimate, unit: Unit) -> str:
    """A value and half its interval, as people write them."""
    value, half = estimate.value, estimate.half_width
    if unit in {Unit.BYTES, Unit.USD}:
        return human_bytes(value) if unit is Unit.BYTES else f"${value:.3g}"
    if unit is Unit.SECONDS:
        return human_seconds(value) if value >= 1 else f"{value * 1000:.3g} ms"
    if unit is Unit.SHARE:
        return f"{value:.1%}" + (f" ±{half * 100:.1f}" if half is not None else "")
    if half is None:
        return significant(value)
    if unit is Unit.RATE:
        digits = 0 if value >= 100 else 1 if value >= 10 else 2
        return f"{value:.{digits}f} ±{half:.{digits}f}"
    return f"{significant(value)} ±{significant(half, 1)}"


def marked(mark: str) -> str:
    """`#1a2b3c`: the beginning of a mark of weights, enough to tell two of a name apart; empty for none."""
    return f"#{mark[:6]}" if mark else ""


def named(row: Row) -> str:
    """The model's name, with the mark of its weights where others share it, its way, and the limit it ran under."""
    return unlimited(row) + (f" (limit {human_limit(row.limit)})" if row.limit else "")


def unlimited(row: Row) -> str:
    """The same without the limit."""
    return " ".join(filter(None, (row.model, marked(row.told_apart), f"({row.way})" if row.way else "")))


def labelled(row: Row) -> str:
    """The name, with what it was added to and a word about random weights."""
    return named(row) + on_base(row) + of_random(row)


def on_base(row: Row) -> str:
    """` on llama-7b` where it is an adapter or a difference: with another base it is another model."""
    sources = (record.provenance.source for record in row.records.values() if record.provenance)
    base = next((source.split(MERGED)[0] for source in sources if MERGED in source), "")
    return f" on {base.rpartition('/')[2]}" if base else ""


def of_random(row: Row) -> str:
    """A word in brackets where the weights are random."""
    return " (random weights)" if row.weights is Weights.RANDOM else ""


def mixed(rows: Sequence[Row]) -> bool:
    """Whether a table of these rows must name the engine of each."""
    return len({row.backend for row in rows}) > 1


def keys(row: Row) -> Flat:
    """The keys that say which row it is, as `bench.views.fields.ROW` declares them."""
    return {
        "model": row.model, "backend": row.backend, "scheme": row.scheme, "precision": str(row.precision),
        "device": row.device, "weights": str(row.weights), "checkpoint": row.checkpoint.mark or None,
        "way": row.way or None,
    }  # fmt: skip


def identity(row: Row, *, several: bool) -> list[str]:
    """The first cells of a row: model, precision, scheme, and the engine where there are several."""
    return [labelled(row), row.precision, row.scheme] + [row.backend] * several
