# SPDX-License-Identifier: Apache-2.0
"""Scores as other people's formats want them: one for each metric of a task, with model, label and data set. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from bench.catalog.model import Model
from bench.judge.rows import Row
from bench.judge.scores import Score, lm_eval_name, lower_is_better, metrics_of, score, shown
from bench.records.record import Ending, Record
from bench.views.exports import identity


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What is exported, and what the caller knows beside the records."""

    rows: Sequence[Row]
    models: Mapping[str, Model] = field(default_factory=dict)
    """The catalogue, by name."""
    datasets: Mapping[str, str] = field(default_factory=dict)
    """By task, the data set of the Hub that it reads: no record tells."""
    organisation: str = "not named"
    """Who measured."""


@dataclass(frozen=True, kw_only=True)
class Exported:
    """Files by their path, and one line for each thing that no file holds."""

    files: Mapping[str, bytes]
    left_out: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Scored:
    """One metric of one task of one row."""

    row: Row
    label: str
    """The row among those of its model, as a file's name."""
    model_id: str
    record: Record
    score: Score
    stands: bool
    """Whether it is the metric that stands for its task."""
    lower_is_better: bool
    dataset: str | None
    """The task's data set on the Hub, None where nobody said."""

    @property
    def told(self) -> dict[str, str]:
        """Which precision it is of, and what else stands beside it in a format's free fields."""
        one = self.score
        found = identity.told(self.row, self.record)
        found |= {"metric": one.metric, "items": str(one.items)}
        if one.estimate.low is not None and one.estimate.high is not None:
            found["interval_95"] = f"{one.estimate.low:.6g}..{one.estimate.high:.6g}"
        return found


def measured(rows: Sequence[Row], suite: str) -> list[Row]:
    """The rows that a suite has measured."""
    return [row for row in rows if suite in row.records and row.records[suite].outcome.ending is Ending.OK]


def scored(asked: Asked) -> tuple[list[Scored], list[str]]:
    """Every score of the rows that mean something, and a line for each row that is left out."""
    found: list[Scored] = []
    left: list[str] = []
    for row, label in identity.labels(measured(asked.rows, "quality")).items():
        record = row.records["quality"]
        if why := identity.why_not(row):
            left.append(f"{row.model} {label}: {why}")
        else:
            found += _of(row, label, record, asked)
    return found, left


def _of(row: Row, label: str, record: Record, asked: Asked) -> Iterator[Scored]:
    for task, metrics in metrics_of(record).items():
        standing = lm_eval_name(shown(metrics))
        for name, metric in {lm_eval_name(metric): metric for metric in metrics}.items():
            yield Scored(
                row=row, label=label, model_id=identity.model_id(row, asked.models), record=record,
                score=score(task, metric), stands=name == standing, lower_is_better=lower_is_better(metric),
                dataset=asked.datasets.get(task),
            )  # fmt: skip
