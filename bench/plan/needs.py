# SPDX-License-Identifier: Apache-2.0
"""What an entry of the catalogue would need on one device at each precision, without anything having been loaded."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from bench.catalog.model import Model
from bench.engines.contract import Backend
from bench.plan import predict
from bench.plan.baseline import with_baseline
from bench.plan.plan import HEADROOM
from bench.plan.questions import stored_on, tells
from bench.records.cell import Precision
from bench.records.surroundings import Machine
from suites import suite

PROFILE = "standard"
"""The memory suite's settings that needs are predicted for."""


@dataclass(frozen=True, kw_only=True)
class Need:
    """What one entry would need on one device at one precision."""

    precision: Precision
    scheme: str | None
    """None where the backend has none for this device."""
    weights_bytes: int | None
    peak_bytes: int | None
    """Above the process before it loads."""
    whole_bytes: int | None
    """The peak and the process itself, which a memory limit counts."""
    fits: bool | None
    """Whether that fits what is free; None where either is unknown."""


def needs_of(
    models: Iterable[Model], engine: Backend, machine: Machine, free_bytes: int
) -> dict[str, dict[Precision, Need]]:
    """By entry and precision, what each needs on a machine with so much free memory (0 if that is not known).

    Worked out once for all that tell the same of themselves: half of a catalogue's entries are tunes of another.
    """
    known: dict[tuple[object, ...], dict[Precision, Need]] = {}
    found = {}
    for model in models:
        told = tells(model)
        if told not in known:
            known[told] = needs(model, engine, machine, free_bytes)
        found[model.name] = known[told]
    return found


def needs(model: Model, engine: Backend, machine: Machine, free_bytes: int) -> dict[Precision, Need]:
    """The same of one entry, by precision."""
    found = {}
    memory = suite("memory")
    settings = memory.PROFILES[PROFILE]
    for precision in Precision:
        scheme = engine.default_scheme(precision, machine.kind)
        peak = weights = whole = None
        if scheme is not None:
            stored = stored_on(machine, engine, scheme)
            work = memory.work(settings)
            predicted = predict.predict(model, stored, machine.kind, settings, work, engine.footprint)
            predicted = with_baseline(predicted, machine.kind, engine.name, scheme)
            peak, weights, whole = predicted.peak_bytes, predicted.weights_bytes, predicted.needed_bytes
        fits = whole <= HEADROOM * free_bytes if whole is not None and free_bytes else None
        found[precision] = Need(
            precision=precision,
            scheme=scheme.name if scheme else None,
            weights_bytes=weights,
            peak_bytes=peak,
            whole_bytes=whole,
            fits=fits,
        )
    return found
