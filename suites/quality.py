# SPDX-License-Identifier: Apache-2.0
"""Evaluation scores of this very loaded model, through lm-eval, item by item.

Tasks are lm-eval's: this project's own offline ones (`suites/tasks/*.yaml`), or any of the Hub's by name with
`--task`. Every precision answers the very same items: the first `items` of each task in a fixed shuffle whose seed is
the task's name, none shared between tasks; a hash of each item's document and prompt goes into the record, and views
pair items of equal hash and nothing else, whatever the profiles were. Log-likelihoods are float32, sequences are cut
at `max_length` tokens whatever the model declares (items that were cut are counted in a warning), nothing is sampled,
no cache is used, seeds are fixed. What is stored is each item's value of each metric (1 right, 0 wrong), not an
average; of metrics that no item has (F1, Matthews' coefficient, BLEU) it is lm-eval's figure of the whole task with its
standard error. Where documents have a subject (a field `subject`, or the one a task's metadata names as `cluster`) also
that, and errors are then clustered by it. Of generated answers the length, emptiness, repetition and whether they
ran into their limit are stored too: a model that rambles is seen before its score shows it.

Generated answers are asked for in the model's own prompt template where its entry names one (`template`). A sequence-
to-sequence model (`objective`) reads the context with its encoder and is scored on the decoder's target; a masked one
is scored by pseudo-log-likelihood, each token blanked in turn. Tasks that mean nothing for an objective are left out
with a warning that says why.

What rows share (a context, few-shot examples, the beginning of a minimal pair) is computed once where an engine can;
the setting `shared` is false where that was turned off (`--plain-scoring`). Both ways agree within the rounding of the
scheme's type, which is small at float32 and not at 16 bits. A scheme whose arithmetic looks at the whole pass
(`Scheme.whole_pass`: LLM.int8()) is scored one sequence a pass either way, as lm-eval does at a batch size of one: in a
pack the default model's int8 log-likelihoods moved by 0.8 nats on average, as much as its precision costs. Answers are
generated side by side, each joining when another ends, at most as many as the device decides, whatever the precision:
precisions that are compared have one batch, so it is no setting of its own but part of `shared`. Where memory makes it
smaller a warning says so. The first answers of each task are generated once more, one at a time:
`answer_changed_alone` (1 where the text is another, 0 where it is the same) is the engine's own noise, nothing at
float32 and some of the answers at 16 bits and fewer. An interrupted cell goes on from the requests it has answered.

Items are answered in batches, in that shuffle's order. Where the reference's answers are at hand, a task is left as
soon as its verdict against the reference is settled (`suites/stopping.py`), and a spent budget ends the cell between
two batches, after at least eight items of each task; the profile `full` answers every item. What was left out is a
warning, and labels say how many items were asked, at which numbers of items the task was looked at and why it ended.
Of tasks with choices the log-likelihoods of all choices are kept (`choice_loglikelihood`: flat, with labels for the
number of choices and the right one), from which views judge the probability of the right choice.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pydantic import JsonValue

from bench.catalog.model import Objective
from bench.engines.contract import DoesNotFit, NotFinite, Unsupported
from bench.records.record import Caveat, Measurement, Unit
from bench.suite import SuiteRun, Work, measured
from suites import metrics
from suites.stopping import LEAST, Stopping

if TYPE_CHECKING:
    from bench.records.scored import TaskResult
    from bench.scoring.evaluation import RunningEvaluation

VERSION = 1
OFFLINE = ["bench_grammar_en", "bench_facts_en", "bench_arithmetic", "bench_reading_en", "bench_cloze_zh"]
GENERATED = ["bench_answers_en"]
"""Answers are generated token after token: too slow for the smoke profile."""
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
TOKENS_PER_ANSWER = 4
"""About what a generated answer is long: 225 to 273 tokens for 60 answers, whatever the precision."""
SIDE_BY_SIDE = 8
"""About how many answers share a step: batches hold 8 to 32 items, and places stand empty towards the end."""
ANSWER_POSITIONS = 128
"""What an own task's longest prompt and answer take at most; of another's nothing is known but `max_length`."""
EVERY_ITEM = {"full"}
"""Profiles that answer every item, whatever is settled: their scores are for publication."""
DIGITS = 5
"""Significant digits of a choice's log-likelihood: 0.01 nats at -100, which moves no probability by 0.003."""


def work(settings: Mapping[str, Any]) -> Work:
    """Every item of every task, all choices scored; answers generated side by side."""
    each = min(settings["items"], MOST_ITEMS)
    answers = each * sum(task in GENERATED for task in settings["tasks"])
    steps = -(-answers * TOKENS_PER_ANSWER // SIDE_BY_SIDE)
    positions = settings["max_length"] if set(settings["tasks"]) - set(OWN) else ANSWER_POSITIONS * bool(answers)
    return Work(
        prefill_tokens=len(settings["tasks"]) * each * TOKENS_PER_ITEM,
        decode_tokens=steps,
        answer_positions=positions if settings.get("shared", True) and settings.get("objective") != "masked" else 0,
    )


def least(settings: Mapping[str, Any]) -> Work:
    """The first round of every task."""
    return work({**settings, "items": min(settings["items"], LEAST)})


def done(settings: Mapping[str, Any], measurements: Sequence[Measurement]) -> Work:
    """The items that have scores, each as long as `work` expects items to be."""
    items = {str(m.labels["task"]): len(m.values) for m in measurements if "item_hashes" in m.labels}
    each = [work({**settings, "tasks": [task], "items": count}) for task, count in items.items()]
    return Work(
        prefill_tokens=sum(task.prefill_tokens for task in each), decode_tokens=sum(task.decode_tokens for task in each)
    )


def measure(run: SuiteRun) -> list[Measurement]:
    """Answer every task until it is settled, and keep every item's result."""
    from bench.scoring.lm import Frame, opened

    settings = run.settings
    evaluation = opened(
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
    stopping = Stopping(
        evaluation=evaluation,
        measured=lambda task: _scores(evaluation.result(task)),
        reference=run.reference_items,
        spent=run.spent,
        settles=run.cell.profile not in EVERY_ITEM,
    )
    try:
        stopping.run()
    except NotFinite as error:
        raise NotFinite(f"{error}, at {run.cell.precision} ({run.cell.scheme})") from error
    run.caveats += stopping.caveats()
    found = []
    for task, progress in stopping.tasks.items():
        result, (whole, failed) = evaluation.result(task), evaluation.aggregates(task)
        _warn_of_cuts(run, result, evaluation.done[task])
        run.caveats += failed
        more = progress.labels(evaluation.done[task])
        found += metrics.every(result, whole, more) + choices(result) + _answers(result, more)
    run.caveats += evaluation.notes()
    return found + [one for task in stopping.tasks for one in _noise(run, evaluation, task)]


def _noise(run: SuiteRun, evaluation: RunningEvaluation, task: str) -> list[Measurement]:
    """What a batch changes of a task's answers, as far as the budget lets it be looked at."""
    if run.spent():
        return []
    try:
        changed = evaluation.changed_alone(task, lambda count: run.phase("answer alone", 0, count))
    except (DoesNotFit, Unsupported) as error:  # the scores are whole without it
        why = f"out of memory in {error.phase}" if isinstance(error, DoesNotFit) else str(error)
        run.caveats.append(Caveat(kind="not_measured", text=f"what a batch changes of {task}'s answers: {why}"))
        return []
    if not changed:
        return []
    labels = _short(evaluation.result(task).labels())
    return [
        measured(
            "answer_changed_alone", Unit.FRACTION, [float(one) for one in changed], digits=1,
            counter="another text when generated alone", labels=labels,
        )
    ]  # fmt: skip


def _scores(result: TaskResult) -> list[Measurement]:
    """What a look at an unfinished task is made by: every metric item by item, and the choices behind it."""
    return metrics.by_item(result) + choices(result)


def choices(result: TaskResult) -> list[Measurement]:
    """The log-likelihoods of all choices of each item, none of a task without choices."""
    if not result.choices:
        return []
    flat = [value for item in result.choices.log_likelihoods for value in item]
    labels = _short(result.labels()) | result.choices.labels()
    return [
        measured("choice_loglikelihood", Unit.NAT, flat, digits=DIGITS, counter="summed over tokens", labels=labels)
    ]


def _short(labels: Mapping[str, JsonValue]) -> dict[str, JsonValue]:
    """What tells which task and items, the items' own hashes left to its first metric."""
    return {name: labels[name] for name in ("task", "version", "digest")}


def _warn_of_cuts(run: SuiteRun, result: TaskResult, count: int) -> None:
    if result.truncated:
        run.caveats.append(
            Caveat(
                kind="truncated_items",
                text=f"{result.truncated} of {count} items of {result.task} are longer than the context and were cut",
                advice="from the left, as lm-eval does: raise --max-length if the model allows more",
            )
        )


def _answers(result: TaskResult, more: Mapping[str, JsonValue]) -> list[Measurement]:
    """What is kept of generated answers beside their score.

    The items' hashes stand with the first of them where no metric of the task has items (BLEU alone).
    """
    if not result.answers:
        return []
    labels = result.labels() | dict(more)
    short = _short(labels)
    first = short if result.metrics else labels
    return [
        measured(
            name, unit, values, digits=4, counter="generated tokens", labels=first if name == "answer_tokens" else short
        )
        for name, unit, values in (
            ("answer_tokens", Unit.TOKEN, [float(a.tokens) for a in result.answers]),
            ("answer_empty", Unit.FRACTION, [float(a.empty) for a in result.answers]),
            ("answer_loop", Unit.FRACTION, [a.loop for a in result.answers]),
            ("answer_cut", Unit.FRACTION, [float(a.cut) for a in result.answers]),
        )
    ]
