# SPDX-License-Identifier: Apache-2.0
"""Evaluation scores of this very loaded model, through lm-eval, item by item.

Tasks are lm-eval's: this project's own offline ones (`suites/tasks/*.yaml`), or any of the Hub's by name with
`--task`. Every precision answers the very same items: the first `items` of each task in a fixed shuffle whose seed is
the task's name, none shared between tasks; a digest of all documents and prompts goes into the record, and views
refuse to pair records whose digests differ. Log-likelihoods are float32, sequences are cut at `max_length` tokens
whatever the model declares, nothing is sampled, no cache is used. What is stored is each item's value of each
metric (1 right, 0 wrong), not an average.

Generated answers are asked for in the model's own prompt template where its entry names one (`template`). A sequence-
to-sequence model (`objective`) reads the context with its encoder and is scored on the decoder's target; a masked one
is scored by pseudo-log-likelihood, each token blanked in turn. Tasks that mean nothing for an objective are left out
with a warning that says why.

What rows share (a context, few-shot examples, the beginning of a minimal pair) is computed once where an engine can;
the setting `shared` is false where that was turned off (`--plain-scoring`), and both ways agree within rounding. An
interrupted cell goes on from the requests it has answered.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bench.cell import Objective
from bench.record import Caveat, Measurement, Unit
from bench.suite import SuiteRun, Work, measured

VERSION = 1
OFFLINE = ["bench_grammar_en", "bench_facts_en", "bench_arithmetic", "bench_reading_en", "bench_cloze_zh"]
PROFILES = {
    "smoke": {"tasks": OFFLINE, "items": 8, "max_length": 2048},
    "standard": {"tasks": OFFLINE, "items": 60, "max_length": 2048},
    "full": {"tasks": OFFLINE, "items": 100_000, "max_length": 2048},
}
TOKENS_PER_ITEM = 66
"""About what an item costs, all its choices together: the mean over the offline tasks."""
MOST_ITEMS = 300
"""About how many items an offline task has."""


def work(settings: Mapping[str, Any]) -> Work:
    """Every item of every task, all choices scored."""
    items = len(settings["tasks"]) * min(settings["items"], MOST_ITEMS)
    return Work(prefill_tokens=items * TOKENS_PER_ITEM, decode_tokens=0)


def measure(run: SuiteRun) -> list[Measurement]:
    """Score every task and keep every item's result."""
    from bench.lm import Frame, evaluate

    found = []
    template = run.settings.get("template")
    for result in evaluate(
        run.engine,
        frame=Frame(Objective(run.settings.get("objective", "causal")), template),
        left_out=lambda task, reason: run.caveats.append(
            Caveat(kind="task_not_applicable", text=f"{task} is left out: {reason}")
        ),
        tasks=run.settings["tasks"],
        items=run.settings["items"],
        max_length=run.settings["max_length"],
        done=lambda done, total: run.phase("request", done, total),
        journal=run.journal,
    ):
        for metric, values in result.metrics.items():
            unit = Unit.FRACTION if all(0 <= v <= 1 for v in values) else Unit.NAT
            found.append(measured(metric, unit, values, counter="lm-eval", labels=result.labels()))
    return found
