# SPDX-License-Identifier: Apache-2.0
"""The longest context and the largest batch that a cell is predicted to run in a budget: where its search starts."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from pydantic import JsonValue

from bench.catalog import architecture
from bench.catalog.gguf_model import header_in
from bench.catalog.model import Model
from bench.engines.contract import Backend
from bench.plan import predict
from bench.plan.baseline import baseline_bytes
from bench.records.cell import Scheme
from bench.records.record import Prediction
from bench.suite import Work
from suites import capacity
from suites.search import largest

LONGEST = 2**20
"""Positions asked of the architecture at most."""


def with_capacity(
    predicted: Prediction, model: Model, scheme: Scheme, engine: Backend, kind: str, settings: Mapping[str, JsonValue],
    budget_bytes: int, *, trained: bool = True,
) -> Prediction:  # fmt: skip
    """A prediction with what fits the budget; its peak is that of the least trial, and its seconds are not known here.

    `trained` tells real weights from random ones. Unchanged where the architecture or the budget is unknown.
    """
    header = header_in(model.architecture)
    known = header is not None or architecture.is_known(model.architecture)
    if not budget_bytes or not known or scheme.bits is None:
        return predicted
    masked, prompts = settings.get("objective") == "masked", settings["batch_prompts"]
    assert isinstance(prompts, list)
    decode, trial_tokens = (
        0 if masked else predict.count(settings, "decode_tokens"),
        predict.count(settings, "trial_tokens"),
    )

    def trial(prompt: int, batch: int) -> Prediction:
        asked = {"prompt_tokens": prompt, "decode_tokens": decode, "batch": batch}
        nothing = Work(prefill_tokens=0, decode_tokens=0)
        return predict.predict(model, scheme, kind, asked, nothing, engine.footprint, trained=trained)

    least = trial(1, 1)
    if least.peak_bytes is None:
        return predicted
    own = baseline_bytes(kind, engine.name, scheme)
    room = budget_bytes - own

    def fits(prompt: int, batch: int) -> bool:
        return (trial(prompt, batch).peak_bytes or 0) <= room

    positions = header.context if header else architecture.context_length(model.architecture or {})
    declared = positions or LONGEST
    ceiling = min(declared, trial_tokens)
    longest = largest(lambda prompt: fits(prompt, 1), 0, ceiling - decode)
    context = longest and longest + decode
    batches = {
        str(prompt): largest(partial(fits, prompt), 0, trial_tokens // (prompt + decode))
        for prompt in prompts
        if isinstance(prompt, int) and prompt + decode <= declared and not masked
    }
    found = {"baseline_bytes": own, "context_tokens": context, "batch": batches, "seconds": None}
    return least.model_copy(update=found)


def trials(settings: Mapping[str, JsonValue], predicted: Prediction) -> Work | None:
    """What finding it takes by what is predicted to fit, None where nothing is."""
    if predicted.context_tokens is None:
        return None
    decode, batches = predict.count(settings, "decode_tokens"), predicted.batch or {}
    tokens = predicted.context_tokens + sum(batch * (int(prompt) + decode) for prompt, batch in batches.items())
    return capacity.expected(settings, tokens, 1 + len(batches))
