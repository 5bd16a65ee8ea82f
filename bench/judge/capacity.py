# SPDX-License-Identifier: Apache-2.0
"""What the capacity suite found of a budget: the longest context and the largest batches that really ran. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from bench.records.record import Measurement, Record

CONTEXT, BATCH = "max_context_tokens", "max_batch"
AT_LEAST = {"tokens", "seconds", "trials", "spent"}
"""Bounds of the search, not of the model: the answer may be larger."""


@dataclass(frozen=True, kw_only=True)
class CapacityAnswer:
    """The answer to one question of the capacity suite."""

    question: str
    """`max_context_tokens` or `max_batch`."""
    prompt_tokens: int | None
    """Of a batch, the tokens of each prompt; None of a context."""
    largest: int
    """Tokens of the longest context, or sequences of the largest batch, that ran."""
    bound: str
    """What ended the search: `memory`, `context`, a bound of the search, or the engine's own words."""
    budget_bytes: int
    predicted: int | None
    """What was expected before loading, None where nothing could be said."""
    peak_bytes: int | None
    """The highest bytes of the whole process at the largest, None where nothing ran."""
    trials: int
    killed: int
    """Trials whose process the kernel ended."""

    @property
    def figure(self) -> str:
        """The name of its figure: `max_context_tokens`, `max_batch:512`."""
        return self.question if self.prompt_tokens is None else f"{self.question}:{self.prompt_tokens}"

    @property
    def is_at_least(self) -> bool:
        """Whether the search ended before the memory did."""
        return self.bound in AT_LEAST


def capacity_answers(record: Record) -> dict[str, CapacityAnswer]:
    """Every answer of a record by the name of its figure."""
    found = [_answer(record, m) for m in record.measurements if m.name in {CONTEXT, BATCH}]
    return {answer.figure: answer for answer in found}


def _answer(record: Record, measurement: Measurement) -> CapacityAnswer:
    labels = measurement.labels
    prompt, predicted, peak, budget = (
        labels.get(name) for name in ("prompt_tokens", "predicted", "peak_bytes", "budget_bytes")
    )
    assert isinstance(budget, int)
    of_prompt = {"prompt_tokens": prompt} if isinstance(prompt, int) else {}
    tried = record.measurement("trial_bytes", of=measurement.name, **of_prompt)
    killed = tried.labels.get("killed") if tried else 0
    return CapacityAnswer(
        question=measurement.name,
        prompt_tokens=prompt if isinstance(prompt, int) else None,
        largest=int(measurement.values[0]),
        bound=str(labels["bound"]),
        budget_bytes=budget,
        predicted=predicted if isinstance(predicted, int) else None,
        peak_bytes=peak if isinstance(peak, int) else None,
        trials=len(tried.values) if tried else 0,
        killed=killed if isinstance(killed, int) else 0,
    )
