# SPDX-License-Identifier: Apache-2.0
"""The longest context and the largest batch that a cell is predicted to run in a budget: where its search starts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from bench import architecture, predict
from bench.cell import Model, Scheme
from bench.engine import Backend
from bench.record import Prediction
from bench.suite import Work

MIB = 2**20
BASELINE_BYTES = {
    "cpu": {"transformers": 480 * MIB, "llamacpp": 62 * MIB, "fake": 100_000_000},
    "cuda": {"transformers": 450 * MIB, "llamacpp": 450 * MIB},
}
"""A process with its libraries (on a GPU: its driver context) before it loads anything: a budget counts it, a predicted
peak does not. CPU: medians of this project's records; CUDA: what drivers commonly take."""
LONGEST = 2**20
"""Positions asked of the architecture at most."""
TRIALS = 2.6
"""Tokens of all trials of a question, in tokens of the last: a quarter, about a half, most, and the last."""


def with_capacity(
    predicted: Prediction, model: Model, scheme: Scheme, engine: Backend, kind: str, settings: Mapping[str, Any],
    budget_bytes: int,
) -> Prediction:  # fmt: skip
    """A prediction with what fits the budget, and the seconds of finding it; its peak is that of the least trial.

    Unchanged where the architecture or the budget is unknown.
    """
    if not budget_bytes or not architecture.is_known(model.architecture) or scheme.bits is None:
        return predicted
    decode = 0 if settings.get("objective") == "masked" else int(settings["decode_tokens"])
    least = prediction(model, scheme, engine, kind, 1, decode, 1)
    if least.peak_bytes is None:
        return predicted
    room = budget_bytes - BASELINE_BYTES.get(kind, {}).get(engine.name, 0)

    def fits(prompt: int, batch: int) -> bool:
        return (prediction(model, scheme, engine, kind, prompt, decode, batch).peak_bytes or 0) <= room

    own = architecture.context_length(model.architecture or {}) or LONGEST
    ceiling = min(own, int(settings["trial_tokens"]))
    longest = largest(lambda prompt: fits(prompt, 1), ceiling - decode)
    context = longest and longest + decode
    batches = {
        str(prompt): largest(partial(fits, prompt), int(settings["trial_tokens"]) // (prompt + decode))
        for prompt in ([] if settings.get("objective") == "masked" else settings["batch_prompts"])
        if prompt + decode <= own
    }
    tokens = context + sum(batch * (int(prompt) + decode) for prompt, batch in batches.items())
    work = Work(prefill_tokens=round(TRIALS * tokens), decode_tokens=6 * decode * (1 + len(batches)))
    seconds = predict.work_seconds(model, least.weights_bytes or 0, predict.RATES[kind], work)
    return least.model_copy(update={"context_tokens": context, "batch": batches, "seconds": round(seconds, 1)})


def prediction(
    model: Model, scheme: Scheme, engine: Backend, kind: str, prompt: int, decode: int, batch: int
) -> Prediction:
    """Of one trial, its peak above the process before loading: the one place here that asks `bench.predict`.

    For an engine with a layout of its own a batch counts as one sequence of all its tokens.
    """
    config = model.architecture or {}
    try:
        if engine.footprint:
            needs = engine.footprint(config, scheme, batch * prompt, batch * decode)
        else:
            needs = predict.needed(config, scheme, kind, prompt, decode, batch)
    except architecture.UnknownArchitecture:
        return Prediction()
    return Prediction(**vars(needs))


def largest(fits: Callable[[int], bool], high: int) -> int:
    """The largest number up to `high` that fits, 0 if 1 does not."""
    low = 0
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if fits(middle) else (low, middle - 1)
    return low


def words(predicted: Prediction) -> str:
    """What is predicted to fit, for people."""
    if predicted.context_tokens is None:
        return "unknown, the search starts small"
    if not predicted.context_tokens:
        return "nothing"
    batches = [f"{batch:,} x {prompt}" for prompt, batch in (predicted.batch or {}).items()]
    return "; ".join([f"context of {predicted.context_tokens:,} tokens", *(f"batch of {text}" for text in batches)])


def flat(predicted: Prediction) -> dict[str, int]:
    """The same as columns of a flat row; none for other suites."""
    context = {} if predicted.context_tokens is None else {"predicted_context_tokens": predicted.context_tokens}
    return context | {f"predicted_batch_{prompt}": batch for prompt, batch in (predicted.batch or {}).items()}
