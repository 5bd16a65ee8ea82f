# SPDX-License-Identifier: Apache-2.0
"""The bytes of weights that a record of a catalogue entry must show, from its architecture and its scheme."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from bench.catalog.model import Model
from bench.engines.registry import backend, backend_names
from bench.plan import predict
from bench.plan.questions import stored_on
from bench.records.record import Record
from bench.suite import Work


def expected_weights(models: Sequence[Model]) -> Callable[[Record], int | None]:
    """By a record the bytes that its weights have as its engine stores them; None where that is not known."""
    known = {model.name: model for model in models}

    def expected(record: Record) -> int | None:
        cell, model = record.cell, known.get(record.cell.model)
        engine = backend(cell.backend) if cell.backend in backend_names() else None
        scheme = engine.scheme(cell.scheme) if engine else None
        if model is None or engine is None or scheme is None:
            return None
        stored, work = stored_on(record.machine, engine, scheme), Work(prefill_tokens=0, decode_tokens=0)
        found = predict.predict(model, stored, record.machine.kind, cell.settings, work, engine.footprint)
        return found.weights_bytes

    return expected
