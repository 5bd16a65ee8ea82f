# SPDX-License-Identifier: Apache-2.0
"""A task's metrics as a record keeps them: item by item where items have values, and those of the whole task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

from pydantic import JsonValue

from bench.records.record import Measurement, Unit
from bench.records.scored import PERPLEXITIES, Aggregate, TaskResult
from bench.suite import measured

COUNTER = "lm-eval"
"""What every metric of a task is counted by."""


def every(
    result: TaskResult, aggregates: Sequence[Aggregate], more: Mapping[str, JsonValue] = MappingProxyType({})
) -> list[Measurement]:
    """All of a task's metrics in the task's own order; `more` labels say how far the task got."""
    order = list(result.kinds)
    return sorted([*by_item(result, more), *of_task(result, aggregates, more)], key=lambda one: order.index(one.name))


def by_item(result: TaskResult, more: Mapping[str, JsonValue] = MappingProxyType({})) -> list[Measurement]:
    """Every metric that items have, by each of the task's answer filters."""
    found = []
    for name, metrics in [("", result.metrics), *result.by_filter.items()]:
        for metric, values in metrics.items():
            labels = result.labels(metric) | dict(more) | ({"filter": name} if name else {})
            found.append(measured(metric, _unit(result, metric, values), values, counter=COUNTER, labels=labels))
    return found


def of_task(
    result: TaskResult, aggregates: Sequence[Aggregate], more: Mapping[str, JsonValue] = MappingProxyType({})
) -> list[Measurement]:
    """Metrics of the whole task, each one figure with lm-eval's standard error."""
    found = []
    for one in aggregates:
        labels = result.labels() | dict(more) | one.kind.labels()
        for name in ("item_hashes", "clusters"):
            labels.pop(name, None)  # of one figure there are no items
        labels |= {"aggregation": one.kind.aggregation, "of_items": one.items}
        labels |= {"filter": one.filter} if one.filter else {}
        labels |= {"standard_error": one.error} if one.error is not None else {}
        found.append(measured(one.metric, Unit.SCORE, one.value, counter=COUNTER, labels=labels))
    return found


def _unit(result: TaskResult, metric: str, values: Sequence[float]) -> Unit:
    if metric in result.kinds and result.kinds[metric].aggregation in PERPLEXITIES:
        return Unit.NAT
    return Unit.FRACTION if all(0 <= value <= 1 for value in values) else Unit.SCORE
