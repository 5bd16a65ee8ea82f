# SPDX-License-Identifier: Apache-2.0
"""Evaluation scores of a served model, through lm-eval, from the answers it generates, with tokens and cost of each.

A task is asked as one user message for each item, at temperature 0, and its answer is scored as lm-eval scores it.
Tasks that compare likelihoods of given texts (multiple choice) are asked of a server that is launched here where it
shows the log-probabilities of a text one chooses and has proven them: greedily generated tokens, sent back as part of a
text, get the values that they were generated with. Else, and for perplexities, they are not applicable, each with its
reason. The default tasks of an API ask two of this project's own item sets for a generated answer, those of a launched
server its offline tasks too; any of lm-eval's can be named with `--task`. Items are chosen as in `suites.quality`. A
stop (spending limit, a server that gives up) keeps and scores what was answered.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from bench.engines.contract import Stopped, Unsupported
from bench.records.record import Caveat, Measurement
from bench.suite import TextRun, Work
from suites import metrics
from suites.quality import OFFLINE, choices
from suites.served import ledger

if TYPE_CHECKING:
    from bench.scoring.lm_text import Answered

VERSION = 1
GENERATED = ["bench_arithmetic_answer", "bench_reading_answer"]
PROFILES = {
    "smoke": {"tasks": GENERATED, "items": 8},
    "standard": {"tasks": GENERATED, "items": 60},
    "full": {"tasks": GENERATED, "items": 100_000},
}
LAUNCHED = {name: {**profile, "tasks": [*GENERATED, *OFFLINE]} for name, profile in PROFILES.items()}
MOST_ITEMS = 300
LOOK = "look at what the server answers"
PROMPT_TOKENS, ANSWER_TOKENS = 60, 8
"""About what an item of the default tasks costs."""


def work(settings: Mapping[str, Any]) -> Work:
    """Every item of every task."""
    items = len(settings["tasks"]) * min(settings["items"], MOST_ITEMS)
    return Work(prefill_tokens=items * PROMPT_TOKENS, decode_tokens=items * ANSWER_TOKENS)


def measure(run: TextRun) -> list[Measurement]:
    """Ask every task that can be asked and keep every item's result."""
    from bench.scoring.lm_text import evaluate_text

    found = evaluate_text(
        run.engine,
        tasks=run.settings["tasks"],
        items=run.settings["items"],
        done=lambda done, total: run.phase("request", done, total),
        files=run.task_files,
    )
    for task, reason in found.not_applicable.items():
        run.caveats.append(Caveat(kind="not_applicable", text=f"{task}: {reason}", advice="name a generated task"))
    measurements = [m for answered in found.answered for m in _of_task(run, answered)]
    if found.stopped:
        raise Stopped(found.stopped, measurements)
    if not found.answered:
        reasons = "; ".join(f"{task} {reason}" for task, reason in found.not_applicable.items())
        raise Unsupported(f"not applicable: {reasons}")
    return measurements


def _of_task(run: TextRun, answered: Answered) -> list[Measurement]:
    """Metrics by item, then tokens and cost by item."""
    result, replies = answered.result, answered.replies
    if not replies:
        return metrics.every(result, answered.aggregates) + choices(result)
    empty = sum(not reply.text.strip() for reply in replies)
    if empty:
        text = f"{result.task}: {empty} of {len(replies)} answers are empty and count as wrong"
        thought = sum(bool(reply.thinking) and not reply.text.strip() for reply in replies)
        text += f"; {thought} ended while the model was thinking" if thought else ""
        advice = "the task's own limit of tokens is too small for its thinking" if thought else LOOK
        run.caveats.append(Caveat(kind="empty_output", text=text, advice=advice))
    run.keep_text(result.task, replies[0].text, replies[0].output_tokens or len(replies[0].arrivals_s))
    run.caveats += answered.failed
    return metrics.every(result, answered.aggregates) + ledger(replies, {"task": result.task, "digest": result.digest})
