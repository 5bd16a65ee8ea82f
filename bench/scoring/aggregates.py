# SPDX-License-Identifier: Apache-2.0
"""What lm-eval makes of a whole task: how each metric is aggregated, and figures that no single item has a part of.

F1, Matthews' coefficient, BLEU, chrF and TER are figures of all answers together. They are computed by lm-eval's own
functions over the items that were answered, with the standard error that lm-eval gives them: by resampling, 100 times
where it takes 100, else a thousand times (it takes a hundred thousand, in as many processes as there are cores, which
beside a loaded model would cost minutes for a third digit of the error). The seed is lm-eval's.
"""

from __future__ import annotations

import math
import random
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from bench.records.record import Caveat
from bench.records.scored import FROM_ITEMS, MEAN, Aggregate, MetricKind, item_values

RESAMPLES = 1_000
FEW_RESAMPLES = 100
FEW = frozenset({"bleu", "chrf", "chrf++", "ter"})
"""Metrics that lm-eval resamples 100 times."""
NOTHING = "bypass"
"""lm-eval's aggregation of a metric that is not computed."""
Rows = Sequence[Mapping[str, Any]]


def metric_kinds(task: Any, rows: Rows) -> dict[str, MetricKind]:
    """How each metric of a task is read, in the order in which the task lists them."""
    functions, better = task.aggregation(), task.higher_is_better()
    given = dict.fromkeys(metric for row in rows for metric in row["metrics"])
    names = [*(name for name in functions if name in given), *(name for name in given if name not in functions)]
    return {
        name: MetricKind(
            aggregation=_named(functions[name]) if name in functions else MEAN,  # as lm-eval does
            lower_is_better=better.get(name) is False,
        )
        for name in names
    }


def aggregates(task: Any, rows: Rows) -> tuple[list[Aggregate], list[Caveat]]:
    """Metrics that cannot be computed from one number of each item, by lm-eval's functions; and why one has none.

    `rows` in the order of the documents, as lm-eval resamples them.
    """
    kinds, functions = metric_kinds(task, rows), task.aggregation()
    filters = list(dict.fromkeys(row["filter"] for row in rows))
    found, failed = [], []
    for name in filters:
        here = [row for row in rows if row["filter"] == name]
        for metric, kind in kinds.items():
            if kind.aggregation == NOTHING or (
                kind.aggregation in FROM_ITEMS and item_values(here, metric, kind) is not None
            ):
                continue
            values = [row["metrics"][metric] for row in here if metric in row["metrics"]]
            made = _aggregate(metric, functions.get(metric, _mean), values, kind)
            if isinstance(made, str):
                text = f"{metric} of {task.config.task} has no value: {made}"
                failed.append(Caveat(kind="metric_not_computed", text=text))
                continue
            value, error = made
            by = name if len(filters) > 1 else None
            found.append(Aggregate(metric=metric, filter=by, value=value, error=error, items=len(values), kind=kind))
    return found, failed


def _aggregate(
    metric: str, function: Callable[[Sequence[Any]], Any], values: Sequence[Any], kind: MetricKind
) -> tuple[float, float | None] | str:
    """Value and standard error, or why lm-eval has no value: its functions and a task's own may raise anything."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of resamples without a right answer
        try:
            value = float(function(values))
        except Exception as raised:  # noqa: BLE001 - one metric of many, named with its reason in the record
            return f"{type(raised).__name__}: {' '.join(str(raised).split())[:160]}"
        if not math.isfinite(value):
            return f"lm-eval's {kind.aggregation} gives {value}"
        try:
            return value, _error(metric, function, values)
        except Exception:  # noqa: BLE001 - a figure without an error is a figure
            return value, None


def _error(metric: str, function: Callable[[Sequence[Any]], Any], values: Sequence[Any]) -> float | None:
    """lm-eval's standard error of a figure, None where it has none."""
    from lm_eval.api import metrics

    closed_form = metrics.stderr_for_metric(function, bootstrap_iters=1) if len(values) > 1 else None
    if closed_form is None:
        return None
    if closed_form in {metrics.mean_stderr, metrics.acc_all_stderr}:
        return float(closed_form(values))
    draw = random.Random(0)
    count = FEW_RESAMPLES if metric in FEW else RESAMPLES
    resampled = [float(function(draw.choices(values, k=len(values)))) for _ in range(count)]
    error = float(metrics.sample_stddev(resampled))
    return error if math.isfinite(error) else None


def _named(function: Callable[..., Any]) -> str:
    """The registry's name of an aggregation, else the function's own."""
    from lm_eval.api.registry import AGGREGATION_REGISTRY

    own = str(getattr(function, "__name__", type(function).__name__))
    return next((str(name) for name, known in AGGREGATION_REGISTRY.items() if known is function), own)


def _mean(values: Sequence[Any]) -> float:
    return float(sum(values) / len(values))
