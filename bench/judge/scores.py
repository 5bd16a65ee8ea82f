# SPDX-License-Identifier: Apache-2.0
"""A task's metrics as a record holds them: which one stands for the task, and what each comes to. Pure.

Metrics are of three kinds. A share of right items (0 or 1 for each) has Wilson's interval; any other mean over items
has Student's, for an item that is a part right is not an item lost; what lm-eval makes of a whole task (F1, BLEU) has
no items, and the standard error that lm-eval gives it. Perplexities are of log-likelihoods, in nats.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bench.judge.kept import kept
from bench.judge.moments import stdev, student
from bench.judge.stats import Estimate, Z, clustered_error, mean_estimate, proportion
from bench.records.record import Measurement, Record
from bench.records.scored import MEAN, PERPLEXITIES, WEIGHTED

ACCURACY = ("acc", "exact_match", "em", "acc_norm", "acc_bytes", "acc_mutual_info")
"""Metrics that are a share of right items; the first one a task has stands for it in a table."""
COUNTER = "lm-eval"
"""What every metric of a task is counted by."""
WHOLE = "of_items"
"""The label of a metric of a whole task: of how many items."""


def metrics_of(record: Record) -> dict[str, list[Measurement]]:
    """By task, its metrics in the task's own order, each of its answer filters by itself."""
    found: dict[str, list[Measurement]] = {}
    for measurement in record.measurements:
        task = measurement.labels.get("task")
        if isinstance(task, str) and is_metric(measurement):
            found.setdefault(task, []).append(measurement)
    return found


def is_metric(measurement: Measurement) -> bool:
    """Whether it is a task's score and not what is kept beside it (choices, lengths, costs)."""
    return measurement.counter == COUNTER or measurement.name in ACCURACY or "item_weights" in measurement.labels


def shown(metrics: Sequence[Measurement]) -> Measurement:
    """The metric that stands for a task: its accuracy where it has one, else its first."""
    of_items = [metric for metric in metrics if WHOLE not in metric.labels]
    return next((metric for name in ACCURACY for metric in of_items if metric.name == name), metrics[0])


def compared(metrics: Sequence[Measurement]) -> Measurement:
    """The metric that two rows' answers are paired by: the shown one, or the first that has items."""
    first = shown(metrics)
    return first if WHOLE not in first.labels else next((m for m in metrics if WHOLE not in m.labels), first)


def is_skill(measurement: Measurement) -> bool:
    """Whether it is a share of what could be right, so that a score above chance can be made of it."""
    plain = aggregation(measurement) == MEAN and WHOLE not in measurement.labels and not lower_is_better(measurement)
    return plain and measurement.name in ACCURACY and all(0 <= value <= 1 for value in measurement.values)


def accuracies(record: Record) -> dict[str, Measurement]:
    """By task, each item's share of what is right: 1 and 0 where an item is right or wrong."""
    found = {task: shown(metrics) for task, metrics in metrics_of(record).items()}
    return {task: metric for task, metric in found.items() if is_skill(metric)}


def lm_eval_name(measurement: Measurement) -> str:
    """`acc`, or `exact_match,strict-match` of a task with several answer filters: as lm-eval's results name it."""
    by = measurement.labels.get("filter")
    return f"{measurement.name},{by}" if by else measurement.name


def aggregation(measurement: Measurement) -> str:
    """How one figure is made of it; records from before that was kept say it by the metric's name."""
    told = measurement.labels.get("aggregation")
    if isinstance(told, str):
        return told
    if "item_weights" in measurement.labels:
        return "bits_per_byte" if measurement.name == "bits_per_byte" else WEIGHTED[0]
    return measurement.name if measurement.name in PERPLEXITIES else MEAN


def lower_is_better(measurement: Measurement) -> bool:
    """Whether less of it is better; never of log-likelihoods, which perplexities are made of."""
    return bool(measurement.labels.get("lower_is_better")) and aggregation(measurement) not in PERPLEXITIES


def items(measurement: Measurement) -> int:
    """Items behind it."""
    count = measurement.labels.get(WHOLE)
    return count if isinstance(count, int) else len(measurement.values)


def clusters(measurement: Measurement) -> list[int] | None:
    """Subject of each item by number, None where the task has no subjects."""
    found = measurement.labels.get("clusters")
    return [int(str(number)) for number in found] if isinstance(found, list) else None


def weights(measurement: Measurement) -> list[float]:
    """Words or bytes of each item of a perplexity; one each where it is a perplexity of whole answers."""
    found = measurement.labels.get("item_weights")
    return [float(str(one)) for one in found] if isinstance(found, list) else [1.0] * len(measurement.values)


@dataclass(frozen=True, kw_only=True)
class Score:
    """One metric of one task, as a reader meets it."""

    task: str
    metric: str
    """As lm-eval names it."""
    estimate: Estimate
    items: int
    share: bool
    """Whether it is a share, which people read in percent."""


def scores(metrics: Mapping[str, Sequence[Measurement]]) -> list[Score]:
    """Every metric of every task, each name once; of one that has items too the figure of the whole task."""
    found: dict[tuple[str, str], Score] = {}
    for task, of_task in metrics.items():
        for metric in of_task:
            found[task, lm_eval_name(metric)] = score(task, metric)
    return list(found.values())


@kept(list[Score])
def of_tasks(record: Record) -> list[Score]:
    """Of every task the metric that stands for it."""
    return [_standing(task, metrics) for task, metrics in metrics_of(record).items()]


def _standing(task: str, metrics: Sequence[Measurement]) -> Score:
    """The last of those that share the shown one's name, as `scores` takes it."""
    name = lm_eval_name(shown(metrics))
    return score(task, [one for one in metrics if lm_eval_name(one) == name][-1])


def others(record: Record) -> list[Score]:
    """The same, of tasks whose score is no share of right items and in no accuracy."""
    return [one for one in of_tasks(record) if not one.share]


def score(task: str, measurement: Measurement) -> Score:
    """What a metric comes to."""
    return Score(
        task=task, metric=lm_eval_name(measurement), estimate=estimate(measurement), items=items(measurement),
        share=is_skill(measurement),
    )  # fmt: skip


def estimate(measurement: Measurement) -> Estimate:
    """Its value with the interval that its kind has, none where lm-eval has no error for it."""
    if WHOLE in measurement.labels:
        (value,), error = measurement.values, measurement.labels.get("standard_error")
        half = Z * float(error) if isinstance(error, int | float) else None
        return Estimate(value) if half is None else Estimate(value, value - half, value + half)
    how = aggregation(measurement)
    if how in PERPLEXITIES:
        nats = _nats(measurement.values, weights(measurement))
        return nats.scaled(1 / math.log(2)) if how == "bits_per_byte" else nats.exponential()
    if how == MEAN and {*measurement.values} <= {0.0, 1.0}:
        return proportion(measurement.values, clusters(measurement))
    return mean_of(measurement.values, clusters(measurement))


def of_items(measurement: Measurement, values: Sequence[float], words: Sequence[float]) -> float:
    """What some of its items come to, without an interval."""
    how = aggregation(measurement)
    if how not in PERPLEXITIES:
        return math.fsum(values) / len(values)
    nats = -math.fsum(values) / math.fsum(words)
    return nats / math.log(2) if how == "bits_per_byte" else Estimate(nats).exponential().value


def mean_of(values: Sequence[float], groups: Sequence[int] | None) -> Estimate:
    """Mean with Student's interval, by clusters where there are some; a cluster's items are no more than one each."""
    plain = mean_estimate(values)
    count = len(set(groups)) if groups else 0
    if groups is None or count < 2 or plain.half_width is None:
        return plain if not groups or plain.half_width is None else Estimate(plain.value)
    half = max(plain.half_width, student(0.975, count - 1) * clustered_error(values, groups))
    return Estimate(plain.value, plain.value - half, plain.value + half)


def _nats(log_likelihoods: Sequence[float], words: Sequence[float]) -> Estimate:
    """Nats a word: a ratio of sums over texts, its error from each text's distance from that ratio."""
    whole, n = math.fsum(words), len(words)
    value = -math.fsum(log_likelihoods) / whole
    if n < 2:
        return Estimate(value)
    left = [-one - value * count for one, count in zip(log_likelihoods, words, strict=True)]
    half = student(0.975, n - 1) * stdev(left) * math.sqrt(n) / whole
    return Estimate(value, value - half, value + half)
