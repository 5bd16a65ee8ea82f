# SPDX-License-Identifier: Apache-2.0
"""What a claim's model is predicted to need, and what to run so that a record decides the claim."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from bench.catalog.model import Claim, Model, Quantity
from bench.engines.contract import Backend
from bench.engines.registry import backend, backend_names
from bench.plan import predict
from bench.plan.baseline import with_baseline
from bench.plan.selection import Selection, context
from bench.records.cell import Precision, Scheme
from bench.records.record import Prediction
from bench.suite import Work
from bench.units import human_bytes, human_limit

COMPUTED_WITH, COMPUTED_ON = "transformers", "cuda"
"""Predictions behind verdicts use this backend's default schemes on this kind of device: most claims are about GPUs."""
DEFAULT_TOKENS = 544
"""Positions of a claim that names none: what the memory suite holds by default."""


def predicted_for(model: Model, claim: Claim) -> tuple[Prediction, Scheme] | None:
    """The prediction behind a claim about memory, and the scheme it is made for; None where no precision is claimed.

    Its peak is that of the whole process, the driver's context included, as a limit would count it.
    """
    if claim.precision is None:
        return None
    engine, scheme = _computing(claim, claim.precision)
    settings, work = context(claim.tokens or DEFAULT_TOKENS), Work(prefill_tokens=0, decode_tokens=0)
    predicted = predict.predict(model, scheme, COMPUTED_ON, settings, work, engine.footprint)
    return with_baseline(predicted, COMPUTED_ON, engine.name, scheme), scheme


def _computing(claim: Claim, precision: Precision) -> tuple[Backend, Scheme]:
    """The backend and scheme that predict for a claim: the scheme it names, else the precision's default."""
    for engine in map(backend, backend_names() if claim.scheme else ()):
        named = engine.scheme(str(claim.scheme))
        if named is not None:
            return engine, named
    default = backend(COMPUTED_WITH).default_scheme(precision, COMPUTED_ON)
    assert default is not None, "a claim is about a precision that is compared"
    return backend(COMPUTED_WITH), default


def selections(
    claims: Sequence[tuple[Model, Claim]], base: Selection, capacity_bytes: int
) -> tuple[list[Selection], list[str]]:
    """What measures these claims about memory, and a line for each that this machine cannot.

    Each is the memory suite on the claim's entry at its precision and context, under a hard limit of the claimed
    budget, tried even where the prediction says that it will not fit: that is the question.
    """
    found, left = [], []
    for model, claim in claims:
        turning = claim.turning_point
        if claim.quantity is not Quantity.PEAK or turning is None or claim.precision is None:
            continue
        budget = int(turning)
        if budget > capacity_bytes:
            left.append(f"{claim.id}: {human_limit(budget)} are claimed, {human_bytes(capacity_bytes)} are there")
            continue
        asked = replace(
            base, models=(model.measured_for(claim),), precisions=(claim.precision,), schemes=(),
            suites=("memory",), memory_limit_bytes=budget, tokens=claim.tokens or DEFAULT_TOKENS, force=True,
        )  # fmt: skip
        if asked not in found:
            found.append(asked)
    return found, left
