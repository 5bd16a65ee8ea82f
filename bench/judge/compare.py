# SPDX-License-Identifier: Apache-2.0
"""Each precision against the same model's own 16-bit row on the same device: ratios, flips, verdicts. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from bench.engines.registry import backend, backend_names
from bench.judge.aggregate import Recovery, recovery, together
from bench.judge.decisions import Decision, decide, looks_of, without_choices
from bench.judge.decisions import together as decisions_together
from bench.judge.differences import score_difference
from bench.judge.figures import figures
from bench.judge.kept import kept_of
from bench.judge.pairing import PairedItems, pair, pair_task, recoveries, tasks_of, versions_apart
from bench.judge.rows import LoadedAs, Row, try_answers
from bench.judge.scores import aggregation, lm_eval_name
from bench.judge.speeds import speed_ratios
from bench.judge.stats import MARGIN, Estimate, PairedDifference
from bench.records.cell import REFERENCE, Precision
from bench.records.record import NO_WIDER_WEIGHTS, Record
from bench.records.scored import PERPLEXITIES


@dataclass(frozen=True, kw_only=True)
class TaskComparison:
    """One task: paired, or the reason why it cannot be."""

    task: str
    result: PairedDifference | None
    """By its own score, the figure people know; None where it is a perplexity, or not paired."""
    reason: str = ""
    decision: Decision | None = None
    """By the sharpest instrument that both records hold, after Holm over the tasks; None where nothing pairs."""
    metric: str = ""
    """The score that is compared, as lm-eval names it; empty where nothing pairs."""
    blunter: str = ""
    """Why that is not the probability of the right choice though the task may have choices, empty otherwise."""


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """One row against its reference row."""

    row: Row
    reference: Row
    ratios: Mapping[str, Estimate]
    """By the names of figures (weights, peak, prefill and decode): this divided by the reference."""
    tasks: tuple[TaskComparison, ...]
    recovery: Recovery | None = None
    """What is left of the reference's score above chance over all tasks that have one and could be paired."""
    recovered: int = 0
    """How many tasks that is about."""
    apart: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    """Packages that the two were measured with in different versions: by name, this one's and the reference's."""


@dataclass(frozen=True, kw_only=True)
class Alone:
    """A row that cannot be compared."""

    row: Row
    reason: str


def compare(rows: Sequence[Row], margin: float = MARGIN) -> tuple[list[Comparison], list[Alone]]:
    """Every row that has a 16-bit row beside it, and every one that has none.

    `margin` is the share of the reference's score above chance that may be lost and still count as equivalent. Served
    models stand alone: nobody knows at which precision.
    """
    try_answers(rows)
    references: dict[LoadedAs, Row] = {}
    for row in rows:
        key = row.loaded_as
        if row.precision == REFERENCE and (key not in references or row.scheme == _reference_scheme(row)):
            references[key] = row
    found, alone = [], []
    for row in rows:
        if row.precision == Precision.SERVED:
            continue
        reference = references.get(row.loaded_as)
        if reference is None or _published_so(row):
            lacking = NO_WIDER_WEIGHTS if _published_so(row) else _no_reference(row)
            alone.append(Alone(row=row, reason=lacking))
        elif reference is not row:
            found.append(against(row, reference, margin))
    return found, alone


def _no_reference(row: Row) -> str:
    if row.checkpoint.alone:
        return f"no {REFERENCE} row to compare with"
    return f"no {REFERENCE} row of these very weights to compare with; others of this name are another model"


def _published_so(row: Row) -> bool:
    """Whether the row's weights were published in its scheme alone."""
    return any(r.provenance is not None and r.provenance.is_stored_in(row.scheme) for r in row.records.values())


def _reference_scheme(row: Row) -> str | None:
    """The scheme that distances on this row's device are measured from, as the plan chooses it."""
    kind = next(record.machine.kind for record in row.records.values())
    scheme = backend(row.backend).default_scheme(REFERENCE, kind) if row.backend in backend_names() else None
    return scheme.name if scheme else None


@dataclass(frozen=True, kw_only=True)
class _Answers:
    """What the answers of two rows come to."""

    tasks: tuple[TaskComparison, ...]
    recovery: Recovery | None
    recovered: int
    apart: dict[str, tuple[str, str]]


def against(row: Row, reference: Row, margin: float = MARGIN) -> Comparison:
    """One row against its reference: records and items are paired once, for all that is said of them."""
    memory, speed = (pair(row, reference, suite) for suite in ("memory", "throughput"))
    histories = [found.history.get("quality", ()) for found in (row, reference)]
    judged = kept_of(f"answers {margin!r}", histories, _Answers, lambda: _answers(row, reference, margin))
    apart = _apart([two for two in (memory, speed) if two]) | judged.apart
    return Comparison(
        row=row, reference=reference, ratios=_ratios(memory, speed), tasks=judged.tasks, recovery=judged.recovery,
        recovered=judged.recovered, apart=dict(sorted(apart.items())),
    )  # fmt: skip


def _answers(row: Row, reference: Row, margin: float) -> _Answers:
    items = {task: pair_task(row, reference, task) for task in tasks_of(row)}
    tasks = _tasks(items, margin) if tasks_of(reference) else ()
    skills = recoveries(items.values())
    pairs = [(found.this, found.base) for found in items.values() if isinstance(found, PairedItems)]
    return _Answers(tasks=tasks, recovery=recovery(skills, margin), recovered=len(skills), apart=_apart(pairs))


def _apart(pairs: Sequence[tuple[Record, Record]]) -> dict[str, tuple[str, str]]:
    """Versions that differ between the two records of any pair, by the package's name."""
    found = {name: both for two in pairs for name, both in versions_apart(*two).items()}
    return dict(sorted(found.items()))


def _ratios(memory: tuple[Record, Record] | None, speed: tuple[Record, Record] | None) -> dict[str, Estimate]:
    ratios: dict[str, Estimate] = {}
    if memory:
        these, base = (figures(record) for record in memory)
        for name in ("weights_bytes", "peak_bytes"):
            ratios[name] = Estimate(these[name].value / base[name].value)
    if speed:
        ratios |= speed_ratios(*speed)
    return ratios


def _tasks(found: Mapping[str, PairedItems | str], margin: float) -> tuple[TaskComparison, ...]:
    """Task by task."""
    pairs = {task: items for task, items in found.items() if isinstance(items, PairedItems)}
    scored = {task: items for task, items in pairs.items() if aggregation(items.metric) not in PERPLEXITIES}
    judged = dict(zip(scored, together([_paired(items, margin) for items in scored.values()]), strict=True))
    by_instrument = {task: _decided(items, task, margin) for task, items in pairs.items()}
    sharpest = [decisions[0] for decisions in by_instrument.values() if decisions]
    decided = {decision.task: decision for decision in decisions_together(sharpest)}
    return tuple(
        TaskComparison(
            task=task,
            result=judged.get(task),
            reason=items if isinstance(items, str) else "",
            decision=decided.get(task),
            metric="" if isinstance(items, str) else lm_eval_name(items.metric),
            blunter="" if isinstance(items, str) else _blunter(items, task),
        )
        for task, items in found.items()
    )


def _paired(items: PairedItems, margin: float) -> PairedDifference:
    these, reference = items.scaled
    return score_difference(
        these, reference, items.chance, margin=margin, clusters=items.clusters, looks=looks_of(items.metric)
    )


def _decided(items: PairedItems, task: str, margin: float) -> list[Decision]:
    return decide(items.this.measurements, items.base.measurements, task, margin)


def _blunter(items: PairedItems, task: str) -> str:
    return without_choices(items.this.measurements, items.base.measurements, task)
