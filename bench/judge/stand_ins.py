# SPDX-License-Identifier: Apache-2.0
"""What was measured of another model of the same architecture, where an entry has nothing of its own. Pure.

Memory and speed depend on the shapes of the weights, not on their values: Alpaca 7B needs and decodes what LLaMA 7B
does. Quality never stands in.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from bench.catalog.architecture import is_known, same_architecture, shape
from bench.catalog.config import Config
from bench.catalog.model import Model
from bench.judge.rows import Row
from bench.judge.stats import Estimate
from bench.records.cell import Weights

SHOWN = ("peak_bytes", "decode_tokens_per_s")


@dataclass(frozen=True, kw_only=True)
class StandIn:
    """A measured model in place of one that is not."""

    model: Model
    """The one that was measured."""
    rows: tuple[Row, ...]
    """One for each precision, with memory or speed; without a memory limit where there are such."""

    def figures(self, row: Row) -> dict[str, Estimate]:
        """The figures that hold for the other model too."""
        return {name: value for name, value in row.figures().items() if name in SHOWN}


def stand_ins(models: Sequence[Model], rows: Iterable[Row]) -> dict[str, StandIn]:
    """By the name of each model without a figure of its own: the one of its architecture with most rows."""
    measured: dict[str, list[Row]] = {}
    for row in rows:
        if SHOWN[0] in row.figures() or SHOWN[1] in row.figures():
            measured.setdefault(row.model, []).append(row)
    known = {model.name: model for model in models}
    by_shape: dict[str | None, list[Model]] = {}
    for name in measured:
        if name in known:
            by_shape.setdefault(_shape(known[name].architecture), []).append(known[name])
    found = {}
    for model in models:
        if model.name in measured:
            continue
        config = _config(model, known)
        alike = [other for other in by_shape.get(_shape(config), ()) if _alike(model, other, config)]
        if alike:
            best = max(alike, key=lambda other: len(measured[other.name]))
            every = measured[best.name]
            own = [row for row in every if row.weights is not Weights.LOCAL] or every  # a name alone proves nothing
            found[model.name] = StandIn(model=best, rows=_one_each([row for row in own if row.limit is None] or own))
    return found


def _one_each(rows: Sequence[Row]) -> tuple[Row, ...]:
    """One row for each precision, all of the engine that has most of them."""
    engines = Counter(row.backend for row in rows)
    each: dict[str, Row] = {}
    for row in rows:
        if row.backend == engines.most_common(1)[0][0]:
            each.setdefault(row.precision, row)
    return tuple(each.values())


def _alike(model: Model, other: Model, config: Config | None) -> bool:
    return model.objective is other.objective and same_architecture(config, other.architecture)


def _shape(config: Config | None) -> str | None:
    """What models of one architecture have in common, None where it is not known."""
    return shape(config) if config is not None and is_known(config) else None


def _config(model: Model, known: dict[str, Model]) -> Config | None:
    """Its own, or that of the base to which its adapters or its difference are added."""
    base = known.get(model.base_model) if model.base_model else None
    return model.architecture or (base.architecture if base else None)
