# SPDX-License-Identifier: Apache-2.0
"""Each precision against its 16-bit row, as `bench compare` writes it: ratios, and verdicts task by task. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from bench.judge.answer import Answer, Choice, by_model, choose, model_of
from bench.judge.compare import Alone, Comparison, TaskComparison
from bench.judge.decisions import Decision, Instrument
from bench.judge.reasons import NOT_APPLICABLE
from bench.judge.scores import ACCURACY
from bench.judge.stats import Estimate, PairedDifference, Verdict
from bench.units import signed
from bench.views.cells import keys, named, written
from bench.views.fields import Unit
from bench.views.formats import Flat, FlatValue, Table, View
from bench.views.generated import flats as generated_flats
from bench.views.generated import views as generated_views
from bench.views.outputs import COMPARE

RATIOS = {
    "weights_bytes": "memory",
    "peak_bytes": "memory",
    "prefill_tokens_per_s": "throughput",
    "decode_tokens_per_s": "throughput",
}
"""The figures of which ratios are shown, and their suites."""
DISTANCES = ("kld_mean", "same_top1", "ln_ppl_ratio")
TASK_TITLES = ("task", "verdict", "by", "points", "p(right)", "lost", "gained", "items", "Holm p")
BY = {Instrument.CHOICE: "choices", Instrument.GENERATED: "generated", Instrument.PERPLEXITY: "perplexity"}
"""Instruments in a cell; accuracy is itself."""
NOT_COUNTED = "-"
"""Items are not right or wrong: none is lost or gained."""


def details(comparisons: Sequence[Comparison], margin: float) -> list[View]:
    """What the answer and its two tables leave out: ratios with intervals, task by task, the generated answers."""
    if not comparisons:
        return []
    ratios = View(
        title="against the model's own 16-bit row",
        table=ratio_table(comparisons),
        notes=tuple(version_notes(comparisons)),
    )
    return [ratios, *task_views(comparisons, margin), *generated_views(comparisons)]


def lines(alone: Sequence[Alone]) -> list[str]:
    """One line for each row that cannot be compared."""
    rows = [(item.row, item.reason) for item in alone]
    return [f"{named(row)} {row.precision} ({row.backend}, {row.device}): {reason}" for row, reason in rows]


def version_notes(comparisons: Sequence[Comparison]) -> list[str]:
    """One line for each comparison whose two sides were not measured with the same packages."""
    return [
        f"{named(item.row)} {item.row.scheme}: {', '.join(_apart(item))}: measure {item.reference.scheme} in the same "
        "environment for a difference that is the precision's alone"
        for item in comparisons
        if item.apart
    ]


def _apart(item: Comparison) -> list[str]:
    """`torch 2.14.1 against 2.13.0`, for each package."""
    return [f"{name} {this} against {base}" for name, (this, base) in item.apart.items()]


def ratio_table(comparisons: Sequence[Comparison]) -> Table:
    """What each precision costs and saves, as ratios to the 16-bit row."""
    table = Table(
        ["model", "precision", "scheme", "weights", "peak memory", "prefill", "decode", "KL, nats", "same top-1"]
    )
    for item in comparisons:
        found = item.row.figures()
        cells = [named(item.row), item.row.precision, item.row.scheme, *(_ratio(item, name) for name in RATIOS)]
        missing = item.row.missing("divergence")
        short = NOT_APPLICABLE if missing is None or missing.short == NOT_APPLICABLE else str(missing)
        cells.append(written(found["kld_mean"], Unit.NATS) if "kld_mean" in found else short)
        cells.append(written(found["same_top1"], Unit.SHARE) if "same_top1" in found else short)
        table.rows.append(cells)
    return table


def _ratio(item: Comparison, name: str) -> str:
    if name not in item.ratios:
        suite = RATIOS[name]
        unknown = "settings differ" if name in item.row.figures() else NOT_APPLICABLE
        return str(item.row.missing(suite) or item.reference.missing(suite) or unknown)
    ratio = item.ratios[name]
    return f"{ratio.value:.2f}x" + (f" ±{ratio.half_width:.2f}" if ratio.half_width is not None else "")


def task_table(comparisons: Sequence[Comparison]) -> Table:
    """What each precision answers differently, task by task: all in one table."""
    rows = [
        [named(item.row), item.row.precision, item.row.scheme, *cells]
        for item in comparisons
        for cells in _task_rows(item)
    ]
    return Table(["model", "precision", "scheme", *TASK_TITLES], rows)


def task_views(comparisons: Sequence[Comparison], margin: float) -> list[View]:
    """The same, each row against its reference in a table with a title of its own, within 100 columns.

    What the columns mean stands beneath the last.
    """
    asked = [item for item in comparisons if item.tasks]
    return [
        View(
            title=f"{named(item.row)} {item.row.precision} ({item.row.scheme}) against {item.reference.scheme}",
            table=Table(list(TASK_TITLES), list(_task_rows(item))),
            notes=tuple(footnotes(margin, other_scores=any(map(_others, asked)))) if item is asked[-1] else (),
        )
        for item in asked
    ]


def _task_rows(item: Comparison) -> Iterator[list[str]]:
    for task in item.tasks:
        if task.result:
            cells = _task_cells(task.result, task)
        elif task.decision:
            cells = _perplexity_cells(task.decision)
        else:
            cells = [task.reason, *[""] * (len(TASK_TITLES) - 2)]
        yield [task.task + _named_metric(task), *cells]
    if item.recovery is not None and len(item.tasks) > 1:
        yield ["all tasks", *_recovery_cells(item)]


def _task_cells(found: PairedDifference, task: TaskComparison) -> list[str]:
    """The verdict of the sharpest instrument, the score people know, and the probability of the right choice."""
    decision = task.decision
    by_choices = decision is not None and decision.instrument is Instrument.CHOICE
    verdict, p_value = found.verdict, found.holm_p
    more = f" (+{found.more_items:,} items)" if found.more_items else ""
    probability = "-"
    if decision is not None and by_choices:
        verdict, p_value, more = decision.verdict, decision.holm_p, ""
        probability = _points(decision.difference)
    instrument = BY.get(decision.instrument, str(decision.instrument)) if decision else str(Instrument.ACCURACY)
    significance = "-" if p_value is None else f"{p_value:.2g}"
    return [
        said(verdict) + more, instrument, _points(found.difference), probability, _counted(found.lost),
        _counted(found.gained), str(found.items), significance,
    ]  # fmt: skip


def _perplexity_cells(decision: Decision) -> list[str]:
    """A task of texts: its points are percent of perplexity, sign turned, and no item is right or wrong."""
    p_value = "-" if decision.holm_p is None else f"{decision.holm_p:.2g}"
    blank = [NOT_COUNTED] * 3
    by = BY[Instrument.PERPLEXITY]
    return [said(decision.verdict), by, _points(decision.difference), *blank, str(decision.items), p_value]


def _named_metric(task: TaskComparison) -> str:
    """` (rouge1)` behind the task's name where its score is no accuracy."""
    return f" ({task.metric})" if task.metric and task.metric.partition(",")[0] not in ACCURACY else ""


def _counted(count: int | None) -> str:
    return NOT_COUNTED if count is None else str(count)


def _points(difference: Estimate) -> str:
    """`-1.7 [-8.9, +4.5]`: in hundredths."""
    found = difference.scaled(100)
    points = signed(found.value)
    if found.low is not None and found.high is not None:
        points += f" [{signed(found.low)}, {signed(found.high)}]"
    return points


def said(verdict: Verdict) -> str:
    """A verdict in words; where nothing is measurable, with the reason."""
    return f"{verdict} (at chance)" if verdict is Verdict.NOT_MEASURABLE else str(verdict)


def _recovery_cells(item: Comparison) -> list[str]:
    assert item.recovery is not None
    results = [task.result for task in item.tasks if task.result]
    counts = [
        sum(result.lost or 0 for result in results),
        sum(result.gained or 0 for result in results),
        sum(result.items for result in results),
    ]
    measurable = item.recovery.verdict is not Verdict.NOT_MEASURABLE
    share = written(item.recovery.share, Unit.SHARE) if measurable else "-"
    return [said(item.recovery.verdict), str(Instrument.ACCURACY), share, "-", *map(str, counts), "-"]


def _others(item: Comparison) -> bool:
    """Whether any task has a score of which items are not right or wrong."""
    results = [task.result for task in item.tasks if task.decision]
    return any(result is None or result.lost is None for result in results)


def footnotes(margin: float, *, other_scores: bool = False) -> list[str]:
    """What the columns of the task table mean; `other_scores`: of tasks too whose items are not right or wrong."""
    within = f"equivalent: the interval lies within {margin:.1%} of what the reference scores above chance; "
    found = [
        "by: the sharpest instrument that both records hold; choices: the probability of the right choice.",
        "points: this minus the reference, in percent of the items; p(right): of that probability; 95 % intervals.",
        within + "worse, better: it lies on one side of zero, and Holm's p is at most 0.05.",
        "undecided (+n items): about n more would decide; without a number not even a thousand times as many would.",
        "at chance: the reference itself scores within two standard errors of chance and has nothing to lose.",
        "lost, gained: items right to wrong and wrong to right. Holm p: exact McNemar test (mid-p) over these tasks.",
        "all tasks: share of the reference's score above chance that is left, mean over the tasks that have one.",
    ]
    return (
        found
        + [
            "Scores of which items are not right or wrong (lost, gained: -): Student's test of the mean change; points",
            "are percent of the reference's on a scale of the task's own, or of its perplexity; below zero is worse.",
        ]
        * other_scores
    )


def flats(found: Sequence[Answer]) -> list[Flat]:
    """One row for each row against its reference and for each of its tasks, then the generated answers."""
    taken = {model: choose(answers) for model, answers in by_model(found).items()}
    rows = [
        COMPARE.flat(row)
        for answer in found
        for row in (_whole(answer, taken[model_of(answer)]), *_tasks(answer.comparison))
    ]
    return [*rows, *generated_flats([answer.comparison for answer in found])]


def _head(item: Comparison) -> Flat:
    versions = "; ".join(_apart(item)) or None
    return {**keys(item.row), "reference": item.reference.scheme, "versions_apart": versions}


def _whole(answer: Answer, choice: Choice | None) -> Flat:
    item, found = answer.comparison, answer.row.figures()
    text = next((one for one in answer.findings if one.instrument is Instrument.PERPLEXITY and not one.tasks), None)
    row: dict[str, FlatValue] = {**_head(item), "task": None}
    row |= {f"{name}_ratio": item.ratios[name].value if name in item.ratios else None for name in RATIOS}
    row |= {name: found[name].value if name in found else None for name in DISTANCES}
    left = item.recovery if item.recovery and item.recovery.verdict is not Verdict.NOT_MEASURABLE else None
    row |= {
        "answer": str(answer.verdict) if answer.verdict else None,
        "decided_by": str(answer.decided_by.instrument) if answer.decided_by else None,
        "take": f"{choice.take.backend} {choice.take.scheme}" if choice else None,
        "perplexity_change": text.estimate.value if text else None,
        "perplexity_change_low": text.estimate.low if text else None,
        "perplexity_change_high": text.estimate.high if text else None,
        "perplexity_verdict": str(text.verdict) if text else None,
    }
    return row | {
        "verdict": str(item.recovery.verdict) if item.recovery else None,
        "recovery": left.share.value if left else None,
        "recovery_low": left.share.low if left else None,
        "recovery_high": left.share.high if left else None,
    }


def _tasks(item: Comparison) -> Iterator[Flat]:
    for task in item.tasks:
        result, decision = task.result, task.decision
        margins = decision.margins if decision else None
        yield {
            **_head(item),
            "task": task.task,
            "metric": task.metric or None,
            "verdict": str(result.verdict) if result else None,
            "reason": task.reason or None,
            "difference": result.difference.value if result else None,
            "difference_low": result.difference.low if result else None,
            "difference_high": result.difference.high if result else None,
            "lost": result.lost if result else None,
            "gained": result.gained if result else None,
            "items": result.items if result else None,
            "mcnemar_p": result.p_value if result and result.lost is not None else None,
            "holm_p": result.holm_p if result else None,
            "margin": result.margin if result else None,
            "more_items": result.more_items if result else None,
            "answer": str(decision.verdict) if decision else None,
            "decided_by": str(decision.instrument) if decision else None,
            "change": decision.difference.value if decision else None,
            "change_low": decision.difference.low if decision else None,
            "change_high": decision.difference.high if decision else None,
            "change_margin": decision.margin if decision else None,
            "change_p": decision.holm_p if decision else None,
            "blunter": task.blunter or None,
            "margin_factor": margins.factor if margins else None,
            "margin_lost": margins.lost if margins else None,
            "margin_gained": margins.gained if margins else None,
        }
