# SPDX-License-Identifier: Apache-2.0
"""The catalogue as a person meets it: every entry with what it needs here, and one entry with all that is known."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bench.catalog.entries import unmeasurable
from bench.catalog.model import Model
from bench.engines.contract import Backend
from bench.plan import predict
from bench.plan.baseline import with_baseline
from bench.plan.plan import HEADROOM
from bench.records.cell import Precision
from bench.records.record import Ending
from bench.records.surroundings import Machine
from bench.units import human_bytes
from bench.views.table import Row, Table
from suites import suite

UNPINNED = "not pinned: the default branch as it stands; records keep the commit that was loaded"
PROFILE = "standard"
"""The memory suite's settings that needs are predicted for."""


@dataclass(frozen=True, kw_only=True)
class Need:
    """What one entry would need on one device at one precision, without anything having been loaded."""

    precision: Precision
    scheme: str | None
    """None where the backend has none for this device."""
    weights_bytes: int | None
    peak_bytes: int | None
    fits: bool | None
    """Whether the peak and the process itself fit what is free; None where either is unknown."""

    def __str__(self) -> str:
        if self.peak_bytes is None:
            return "unknown" if self.scheme else "no kernel"
        return human_bytes(self.peak_bytes) + (" too large" if self.fits is False else "")


def needs(model: Model, engine: Backend, machine: Machine, free_bytes: int) -> dict[Precision, Need]:
    """By precision, what the entry needs on a machine with so much free memory (0 if that is not known)."""
    found = {}
    memory = suite("memory")
    settings = memory.PROFILES[PROFILE]
    for precision in Precision:
        scheme = engine.default_scheme(precision, machine.kind)
        peak = weights = whole = None
        if scheme is not None:
            stored = engine.adapt(scheme, machine)
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
            fits=fits,
        )
    return found


def measured(rows: Iterable[Row]) -> dict[str, str]:
    """By model, what has figures: `fp16, int4 (random weights)`, the device named where there are several."""
    rows = [row for row in rows if any(r.outcome.ending is Ending.OK for r in row.records.values())]
    devices = {row.device for row in rows}
    words: dict[str, list[str]] = {}
    for row in rows:
        what = row.precision + row.label.removeprefix(row.model) + (f" on {row.device}" if len(devices) > 1 else "")
        if what not in words.setdefault(row.model, []):
            words[row.model].append(what)
    return {name: ", ".join(what) for name, what in words.items()}


def flat(model: Model, needed: Mapping[Precision, Need], done: str | None) -> dict[str, Any]:
    """One entry as a flat row, in base units."""
    row: dict[str, Any] = {
        "name": model.name, "organisation": model.organisation, "kind": str(model.kind),
        "parameters": model.parameters, "base": model.base, "repo": model.repo, "revision": model.revision,
        "not_measurable": unmeasurable(model), "display": model.display, "family": model.family,
        "base_model": model.base_model, "template": model.template, "stored_bytes": model.stored_bytes,
        "licence": model.licence, "claims": len(model.claims), "measured": done,
    }  # fmt: skip
    for precision, need in needed.items():
        row[f"predicted_peak_{precision}_bytes"], row[f"fits_{precision}"] = need.peak_bytes, need.fits
    return row


def listing(models: Sequence[Model], needed: Mapping[str, Mapping[Precision, Need]], done: Mapping[str, str]) -> Table:
    """Every entry: its size, the memory it needs here at each precision or why it needs none, and what was measured."""
    shown = (Precision.FP16, Precision.INT8, Precision.INT4)
    table = Table(["name", "kind", "parameters", *shown, "measured or reason"])
    for model in models:
        reason = unmeasurable(model)
        sizes = ["-" if reason else str(needed[model.name][precision]) for precision in shown]
        last = reason or done.get(model.name, "")
        table.rows.append([model.name, str(model.kind), size(model), *sizes, last])
    return table


def size(model: Model) -> str:
    """Parameters in millions, empty where unknown."""
    return f"{model.parameters / 1e6:,.0f} M" if model.parameters else ""


def entry(model: Model, needed: Mapping[Precision, Need]) -> list[tuple[str, str]]:
    """All that the catalogue says of one entry and what it would need here, as labelled lines."""
    facts: list[tuple[str, Any]] = [
        ("name", f"{model.display} ({model.name})"),
        ("organisation", model.organisation),
        ("kind", str(model.kind)),
        ("not measurable", unmeasurable(model)),
        ("repository", model.repo),
        ("revision", (model.revision or UNPINNED) if model.repo else None),
        ("package", " ".join(filter(None, (model.package, model.package_file)))),
        ("stored", human_bytes(model.stored_bytes) if model.stored_bytes else None),
        ("made from", model.base),
        ("base entry", model.base_model),
        ("adapters", " then ".join(model.adapters)),
        ("template", model.template),
        ("served by", f"{model.remote.model} at {model.remote.url}, key in {model.remote.key_variable}, "
                      f"prices {model.remote.priced}" if model.remote else None),
        ("tuned on", model.data),
        ("how", model.finetune),
        ("claimed", model.claim),
        ("licence", model.licence),
        ("objective", str(model.objective)),
        ("parameters", f"{model.parameters:,}" if model.parameters else None),
        ("architecture", ", ".join(f"{key} {value}" for key, value in (model.architecture or {}).items())),
    ]  # fmt: skip
    if not unmeasurable(model):
        for precision, need in needed.items():
            where = f" ({need.scheme})" if need.scheme else ""
            share = f", weights {human_bytes(need.weights_bytes)}" if need.weights_bytes else ""
            facts.append((f"needs in {precision}", f"{need}{share}{where}, predicted"))
    facts += [("note", text) for text in model.notes]
    facts += [("source", text) for text in model.sources]
    return [(label, str(text)) for label, text in facts if text]
