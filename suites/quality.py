# SPDX-License-Identifier: Apache-2.0
"""Evaluation scores of this very loaded model, through lm-eval, item by item.

Tasks are lm-eval's: this project's own offline ones (`suites/tasks/*.yaml`), or any of the Hub's by name with
`--task`. Every precision answers the very same items: the first `items` of each task in a fixed shuffle whose seed is
the task's name, none shared between tasks; a hash of each item's document and prompt goes into the record, and views
pair items of equal hash and nothing else, whatever the profiles were. Log-likelihoods are float32, sequences are cut
at `max_length` tokens whatever the model declares (items that were cut are counted in a warning), nothing is sampled,
no cache is used, seeds are fixed. What is stored is each item's value of each metric (1 right, 0 wrong), not an
average; where documents have a subject (a field `subject`, or the one a task's metadata names as `cluster`) also
that, and errors are then clustered by it. Of generated answers the length, emptiness, repetition and whether they
ran into their limit are stored too: a model that rambles is seen before its score shows it.

Generated answers are asked for in the model's own prompt template where its entry names one (`template`). A sequence-
to-sequence model (`objective`) reads the context with its encoder and is scored on the decoder's target; a masked one
is scored by pseudo-log-likelihood, each token blanked in turn. Tasks that mean nothing for an objective are left out
with a warning that says why.

What rows share (a context, few-shot examples, the beginning of a minimal pair) is computed once where an engine can;
the setting `shared` is false where that was turned off (`--plain-scoring`), and both ways agree within rounding. An
interrupted cell goes on from the requests it has answered.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from bench.catalog.model import Objective
from bench.engines.contract import NotFinite
from bench.records.record import Caveat, Measurement, Unit
from bench.suite import SuiteRun, Work, measured

if TYPE_CHECKING:
    from bench.records.scored import TaskResult

VERSION = 1
OFFLINE = ["bench_grammar_en", "bench_facts_en", "bench_arithmetic", "bench_reading_en", "bench_cloze_zh"]
GENERATED = ["bench_answers_en"]
"""Answers are generated one token after the other: too slow for the smoke profile."""
OWN = [*OFFLINE, *GENERATED]
PROFILES = {
    "smoke": {"tasks": OFFLINE, "items": 8, "max_length": 2048},
    "standard": {"tasks": OWN, "items": 60, "max_length": 2048},
    "full": {"tasks": OWN, "items": 100_000, "max_length": 2048},
}
TOKENS_PER_ITEM = 66
"""About what an item costs, all its choices together: the mean over the offline tasks."""
MOST_ITEMS = 300
"""About how many items an offline task has."""


TOKENS_PER_ANSWER = 8
"""About what a generated answer is long."""
LEAST_ITEMS = 8
"""Items of every task that are answered whatever the budget."""


def work(settings: Mapping[str, Any]) -> Work:
    """Every item of every task, all choices scored."""
    each = min(settings["items"], MOST_ITEMS)
    answers = each * sum(task in GENERATED for task in settings["tasks"])
    return Work(
        prefill_tokens=len(settings["tasks"]) * each * TOKENS_PER_ITEM, decode_tokens=answers * TOKENS_PER_ANSWER
    )


def least(settings: Mapping[str, Any]) -> Work:
    """The first round of every task."""
    return work({**settings, "items": min(settings["items"], LEAST_ITEMS)})


def done(settings: Mapping[str, Any], measurements: Sequence[Measurement]) -> Work:
    """The items that have scores, each as long as `work` expects items to be."""
    items = {str(m.labels["task"]): len(m.values) for m in measurements if "item_hashes" in m.labels}
    each = [work({**settings, "tasks": [task], "items": count}) for task, count in items.items()]
    return Work(
        prefill_tokens=sum(task.prefill_tokens for task in each), decode_tokens=sum(task.decode_tokens for task in each)
    )


def measure(run: SuiteRun) -> list[Measurement]:
    """Score every task and keep every item's result."""
    from bench.scoring.lm import Frame, evaluate

    settings = run.settings
    try:
        results = evaluate(
            run.engine,
            tasks=settings["tasks"],
            items=settings["items"],
            max_length=settings["max_length"],
            done=lambda done, total: run.phase("request", done, total),
            files=run.task_files,
            journal=run.journal,
            chat=settings.get("chat_template", False),
            frame=Frame(Objective(settings.get("objective", "causal")), settings.get("template")),
            left_out=lambda task, reason: run.caveats.append(
                Caveat(kind="task_not_applicable", text=f"{task} is left out: {reason}")
            ),
        )
    except NotFinite as error:
        raise NotFinite(f"{error}, at {run.cell.precision} ({run.cell.scheme})") from error
    return [measurement for result in results for measurement in _of_task(run, result)]


def _of_task(run: SuiteRun, result: TaskResult) -> list[Measurement]:
    labels = result.labels()
    found = []
    for metric, values in result.metrics.items():
        unit = Unit.FRACTION if all(0 <= v <= 1 for v in values) else Unit.NAT
        found.append(measured(metric, unit, values, counter="lm-eval", labels=labels))
    if result.truncated:
        count = len(next(iter(result.metrics.values())))
        run.caveats.append(
            Caveat(
                kind="truncated_items",
                text=f"{result.truncated} of {count} items of {result.task} are longer than the context and were cut",
                advice="from the left, as lm-eval does: raise --max-length if the model allows more",
            )
        )
    if result.answers:
        short = {name: labels[name] for name in ("task", "version", "digest")}
        for name, unit, values in (
            ("answer_tokens", Unit.TOKEN, [float(a.tokens) for a in result.answers]),
            ("answer_empty", Unit.FRACTION, [float(a.empty) for a in result.answers]),
            ("answer_loop", Unit.FRACTION, [a.loop for a in result.answers]),
            ("answer_cut", Unit.FRACTION, [float(a.cut) for a in result.answers]),
        ):
            found.append(measured(name, unit, values, digits=4, counter="generated tokens", labels=short))
    return found
