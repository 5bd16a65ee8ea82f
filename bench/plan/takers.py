# SPDX-License-Identifier: Apache-2.0
"""Which engines and schemes can take a model on a device, what each would need by context, and why others cannot."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from bench.catalog import architecture, hybrid
from bench.catalog.config import UnknownArchitecture
from bench.catalog.gguf_model import header_in
from bench.catalog.local_model import Format, formats
from bench.catalog.model import Model
from bench.engines.contract import Backend
from bench.engines.registry import backend, backend_names
from bench.plan import predict
from bench.plan.baseline import with_baseline
from bench.plan.local_weights import unreadable
from bench.plan.questions import stored_on
from bench.plan.selection import Selection, context, never
from bench.records.cell import COMPARED, Scheme, Weights
from bench.records.surroundings import Machine
from bench.suite import Work

CONTEXTS = (512, 2048, 8192, 32768, 131072)
"""Positions that needs are predicted for, as far as the model was made for them."""


@dataclass(frozen=True, kw_only=True)
class Taker:
    """One engine at one precision."""

    engine: str
    precision: str
    scheme: str = ""
    reason: str = ""
    """Why it cannot, empty if it can; where libraries are missing, the command that installs them."""
    weights_bytes: int | None = None
    needs: Mapping[int, int] = field(default_factory=dict)
    """Bytes of the whole process at its peak, by positions; empty where the architecture is not known."""


def takers(
    model: Model, weights: Weights | None, path: str | None, machine: Machine, held: Collection[Format] | None = None
) -> list[Taker]:
    """Every engine that loads models here, at every precision. Loads nothing and asks no network.

    `held`: how the weights lie where there is no path, None for an entry, which may have them in several ways.
    """
    asked = Selection(weights=weights, path=path, device=machine.kind)
    lies = formats(Path(path)) if path else held
    found = []
    for engine in map(backend, backend_names()):
        if engine.text_only or not engine.needs_repository:
            continue
        reason = unreadable(lies, engine) or never(asked, model, engine)
        if reason:
            found.append(Taker(engine=engine.name, precision="all", reason=reason.removeprefix(f"{engine.name}: ")))
            continue
        for precision in COMPARED:
            scheme = engine.default_scheme(precision, machine.kind)
            if scheme is not None:
                found.append(_taker(model, engine, scheme, machine))
    return found


def _taker(model: Model, engine: Backend, scheme: Scheme, machine: Machine) -> Taker:
    missing = engine.missing() or engine.missing(scheme.name)
    reason = f"not installed: {engine.install}" if missing else ""
    stored, work = stored_on(machine, engine, scheme), Work(prefill_tokens=0, decode_tokens=0)
    needs, weights = {}, None
    for tokens in _contexts(model):
        predicted = predict.predict(model, stored, machine.kind, context(tokens), work, engine.footprint)
        predicted = with_baseline(predicted, machine.kind, engine.name, scheme)
        weights = predicted.weights_bytes
        if predicted.needed_bytes is not None:
            needs[tokens] = predicted.needed_bytes
    return Taker(
        engine=engine.name, precision=str(scheme.precision), scheme=scheme.name, reason=reason, weights_bytes=weights,
        needs=needs,
    )  # fmt: skip


def _contexts(model: Model) -> list[int]:
    header = header_in(model.architecture)
    try:
        known = architecture.context_length(model.architecture) if model.architecture and not header else None
    except UnknownArchitecture:
        known = None
    longest = (header.context or None) if header else known
    within = [tokens for tokens in CONTEXTS if longest is None or tokens <= longest]
    return within or [longest or CONTEXTS[0]]


def parameters_of(model: Model) -> int | None:
    """Weights of the model, shared tensors once: by its entry, else by its architecture; None if neither tells."""
    if model.parameters:
        return model.parameters
    try:
        return architecture.parameters(model.architecture) if model.architecture else None
    except UnknownArchitecture:
        return None


def cache_bytes(model: Model, tokens: int, element_bytes: int = 2) -> int | None:
    """Bytes of the keys, values and states of a text of so many positions; None where the architecture is not known."""
    header = header_in(model.architecture)
    if header is not None:
        return header.cache_elements * tokens * element_bytes + header.state_bytes
    try:
        if model.architecture and hybrid.is_hybrid(model.architecture):
            return hybrid.carried(model.architecture).bytes(tokens, 1, element_bytes)
        return architecture.cache_elements(model.architecture, tokens) * element_bytes if model.architecture else None
    except UnknownArchitecture:
        return None
