# SPDX-License-Identifier: Apache-2.0
"""The same rows in two result sets: what regressed, what improved, what cannot be told, and what else changed. Pure.

Yesterday's driver or engine against today's, or another box's folder. Only records that asked the same are held against
each other. A speed changed where the whole interval of the ratio, the machine's own movement included, lies on one side
of 1; it is the same where the interval lies within SAME of 1. Quality is judged on the same items, as rows of one
result set are. Bytes have no interval: a change of more than TIE is one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

from bench.judge.answer import TIE
from bench.judge.compare import Alone
from bench.judge.decisions import decide
from bench.judge.figures import figures
from bench.judge.noise_floor import floor_between, perplexity_verdict
from bench.judge.pairing import PairedItems, pair, pair_task, same_weights, tasks_of, versions_apart
from bench.judge.rows import Row
from bench.judge.scores import lm_eval_name
from bench.judge.speeds import speed_ratios
from bench.judge.stats import MARGIN, Estimate, Verdict, mean_estimate
from bench.records.record import Record

SAME = 0.05
"""A speed whose whole interval lies within this share of what it was is the same."""
BYTES = ("weights_bytes", "peak_bytes")


class Course(StrEnum):
    """What became of a figure."""

    REGRESSED = "regressed"
    IMPROVED = "improved"
    SAME = "same"
    UNDECIDED = "undecided"


OF_VERDICT = {Verdict.WORSE: Course.REGRESSED, Verdict.BETTER: Course.IMPROVED, Verdict.EQUIVALENT: Course.SAME}


@dataclass(frozen=True, kw_only=True)
class Change:
    """One figure of one row."""

    figure: str
    """The figure's name, `acc:TASK`, or `score:TASK:METRIC` where that is no share of right items."""
    before: float | None
    """None where there is no single value: of a task that was judged by its choices."""
    now: float | None
    change: Estimate
    """By which share it grew; of a task the difference itself."""
    course: Course


@dataclass(frozen=True, kw_only=True)
class Courses:
    """One row in both sets."""

    row: Row
    """As it is now."""
    before: Row
    changes: tuple[Change, ...]
    versions: dict[str, tuple[str, str]]
    """Packages and this project, where their versions differ: by name, before and now."""


def against(now: Sequence[Row], before: Sequence[Row], margin: float = MARGIN) -> tuple[list[Courses], list[Alone]]:
    """Every row of today with the same one of the other set.

    Where the two sets have no device in common they are of different boxes, and rows pair across devices.
    """
    elsewhere = not ({row.device for row in now} & {row.device for row in before})
    key = _anywhere if elsewhere else _here
    others: dict[tuple[object, ...], list[Row]] = {}
    for row in before:
        others.setdefault(key(row), []).append(row)
    found, lone = [], []
    for row in now:
        other = _counterpart(row, others.get(key(row), []))
        if other is None:
            lone.append(Alone(row=row, reason="only in this result set"))
            continue
        pairs = [both for suite in row.records if (both := pair(row, other, suite))]
        if pairs and all(this.id == base.id for this, base in pairs):
            continue  # the very same records
        changes = tuple(_changes(row, other, margin))
        if changes:
            found.append(Courses(row=row, before=other, changes=changes, versions=_versions(pairs)))
        else:
            lone.append(Alone(row=row, reason="nothing that was asked in both: settings, suites or weights differ"))
    left = (row for rows in others.values() for row in rows)
    lone += [Alone(row=row, reason="only in the other result set") for row in left]
    return found, lone


def _counterpart(row: Row, others: list[Row]) -> Row | None:
    """The row of the same weights, taken out of `others`; where no name is shared, whatever has this one's."""
    same = [other for other in others if same_weights(_any(row), _any(other))]
    shared = row.told_apart or any(other.told_apart for other in others)
    found = same[0] if same else None if shared or not others else others[0]
    if found is not None:
        others[:] = [other for other in others if other is not found]
    return found


def _any(row: Row) -> Record:
    """A record that tells what was loaded, if one does."""
    records = list(row.records.values())
    return next((record for record in records if record.provenance is not None), records[0])


def _here(row: Row) -> tuple[object, ...]:
    return (row.device, *_anywhere(row))


def _anywhere(row: Row) -> tuple[object, ...]:
    return row.model, row.weights, row.backend, row.scheme, row.limit, row.way


def _changes(row: Row, other: Row, margin: float) -> Iterator[Change]:
    memory, speed, text = (_pair(row, other, suite) for suite in ("memory", "throughput", "divergence"))
    if memory:
        yield from _bytes(*memory)
    if speed:
        yield from _speeds(*speed)
    if text:
        yield from _perplexity(*text, margin)
    for task in tasks_of(row):
        items = pair_task(row, other, task)
        if isinstance(items, PairedItems) and items.this.id != items.base.id:
            yield from _task(items, task, margin)


def _pair(row: Row, other: Row, suite: str) -> tuple[Record, Record] | None:
    """Records of the same question, None where both are the very same."""
    both = pair(row, other, suite)
    return both if both and both[0].id != both[1].id else None


def _bytes(this: Record, base: Record) -> Iterator[Change]:
    now, before = figures(this), figures(base)
    for name in BYTES:
        if name in now and name in before:
            share = now[name].value / before[name].value - 1
            course = Course.SAME if abs(share) <= TIE else Course.REGRESSED if share > 0 else Course.IMPROVED
            yield Change(
                figure=name, before=before[name].value, now=now[name].value, change=Estimate(share), course=course
            )


def _speeds(this: Record, base: Record) -> Iterator[Change]:
    now, before = figures(this), figures(base)
    for name, ratio in speed_ratios(this, base).items():
        low, high = (None if end is None else end - 1 for end in (ratio.low, ratio.high))
        yield Change(
            figure=name, before=before[name].value, now=now[name].value,
            change=Estimate(ratio.value - 1, low, high), course=_course(low, high),
        )  # fmt: skip


def _course(low: float | None, high: float | None) -> Course:
    """Of a figure that is better the higher it is."""
    if low is None or high is None:
        return Course.UNDECIDED
    if low > -SAME and high < SAME:
        return Course.SAME
    return Course.REGRESSED if high < 0 else Course.IMPROVED if low > 0 else Course.UNDECIDED


def _perplexity(this: Record, base: Record, margin: float) -> Iterator[Change]:
    """Over the windows that both read; lower is better."""
    ours, theirs = this.measurement("nll_nat"), base.measurement("nll_nat")
    if ours is None or theirs is None:
        return
    differences = [new - old for new, old in zip(ours.values, theirs.values, strict=False)]
    log = mean_estimate(differences)
    if not any(differences):
        log = Estimate(0.0, 0.0, 0.0)
    floor = floor_between(this, base)
    verdict = perplexity_verdict(log, floor.ln_perplexity if floor else 0.0, math.log1p(margin))
    ratio, count = log.exponential(), len(differences)
    low, high = (None if end is None else end - 1 for end in (ratio.low, ratio.high))
    yield Change(
        figure="ppl",
        before=mean_estimate(theirs.values[:count]).exponential().value,
        now=mean_estimate(ours.values[:count]).exponential().value,
        change=Estimate(ratio.value - 1, low, high),
        course=OF_VERDICT.get(verdict, Course.UNDECIDED),
    )


def _task(items: PairedItems, task: str, margin: float) -> Iterator[Change]:
    decided = decide(items.this.measurements, items.base.measurements, task, margin)
    if not decided:
        return
    same = items.these == items.reference and not decided[0].difference.value
    course = Course.SAME if same else OF_VERDICT.get(decided[0].verdict, Course.UNDECIDED)
    now, before = items.scores
    figure = f"acc:{task}" if items.chance is not None else f"score:{task}:{lm_eval_name(items.metric)}"
    yield Change(figure=figure, before=before, now=now, change=decided[0].difference, course=course)


def _versions(pairs: Sequence[tuple[Record, Record]]) -> dict[str, tuple[str, str]]:
    """What differs between any two records: by name, before and now."""
    found = {name: (old, new) for this, base in pairs for name, (new, old) in versions_apart(this, base).items()}
    own: dict[str, Callable[[Record], object]] = {
        "bench": lambda record: record.versions.git or record.versions.bench,
        "kernel": lambda record: record.machine.kernel,
        "driver": lambda record: record.machine.driver,
        "cuda": lambda record: record.machine.cuda,
        "threads": lambda record: record.threads,
    }
    for name, told in own.items():
        for this, base in pairs:
            if told(this) != told(base):
                found[name] = str(told(base)), str(told(this))
    return dict(sorted(found.items()))
