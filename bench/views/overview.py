# SPDX-License-Identifier: Apache-2.0
"""The catalogue as a person meets it: every entry with what it needs here, and one entry with all that is known."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType

from bench.catalog.entries import unmeasurable
from bench.catalog.model import Model
from bench.judge.rows import Row, with_figures
from bench.judge.stand_ins import StandIn
from bench.plan.needs import Need
from bench.records.cell import Precision, Weights
from bench.units import human_bytes, significant
from bench.views.answer import label
from bench.views.cells import labelled
from bench.views.formats import Flat, FlatValue, Table
from bench.views.outputs import CATALOG

UNPINNED = "not pinned: the default branch as it stands; records keep the commit that was loaded"


def measured(rows: Iterable[Row]) -> dict[str, str]:
    """By model, what has figures: `fp16, int4 (random weights)`, the device named where there are several."""
    found = with_figures(rows)
    devices = {row.device for row in found}
    words: dict[str, list[str]] = {}
    for row in found:
        whose = " (local weights)" if row.weights is Weights.LOCAL else ""  # called by its name: no more is known
        where = f" on {row.device}" if len(devices) > 1 else ""
        what = row.precision + labelled(row).removeprefix(row.model) + whose + where
        if what not in words.setdefault(row.model, []):
            words[row.model].append(what)
    return {name: ", ".join(what) for name, what in words.items()}


def standing_in(found: StandIn) -> str:
    """`int4 4.1 GiB, 5.2 tokens/s`, for each precision of what was measured in its place: memory and speed alone."""
    told: dict[str, None] = {}
    for row in found.rows:
        figures = found.figures(row)
        parts = [human_bytes(figures["peak_bytes"].value)] if "peak_bytes" in figures else []
        if "decode_tokens_per_s" in figures:
            parts.append(f"{significant(figures['decode_tokens_per_s'].value)} tokens/s")
        told[f"{label(row)} {', '.join(parts)}"] = None
    return "; ".join(told)


def flat(model: Model, needed: Mapping[Precision, Need], done: str | None, other: StandIn | None = None) -> Flat:
    """One entry as a flat row, in base units."""
    row: dict[str, FlatValue] = {
        "name": model.name, "organisation": model.organisation, "kind": str(model.kind),
        "parameters": model.parameters, "base": model.base, "repo": model.repo, "revision": model.revision,
        "not_measurable": unmeasurable(model), "display": model.display, "family": model.family,
        "base_model": model.base_model, "template": model.template, "stored_bytes": model.stored_bytes,
        "licence": model.licence, "claims": len(model.claims), "measured": done,
        "measured_as": other.model.name if other else None,
    }  # fmt: skip
    for precision, need in needed.items():
        row[f"predicted_peak_{precision}_bytes"], row[f"fits_{precision}"] = need.peak_bytes, need.fits
    return CATALOG.flat(row)


def listing(
    models: Sequence[Model],
    needed: Mapping[str, Mapping[Precision, Need]],
    done: Mapping[str, str],
    others: Mapping[str, StandIn] = MappingProxyType({}),
) -> Table:
    """Every entry: its size, the memory it needs here at each precision or why it needs none, and what was measured.

    Where nothing was, what was measured of the same architecture.
    """
    shown = (Precision.FP16, Precision.INT8, Precision.INT4)
    table = Table(["name", "kind", "parameters", *shown, "measured or reason"])
    for model in models:
        reason = unmeasurable(model)
        sizes = ["-" if reason else peak(needed[model.name][precision]) for precision in shown]
        other = others.get(model.name)
        last = reason or done.get(model.name) or (f"as {other.model.name}: {standing_in(other)}" if other else "")
        table.rows.append([model.name, _kind(model), size(model), *sizes, last])
    return table


def _kind(model: Model) -> str:
    """`adapter of llama-7b`: what it is nothing without."""
    return f"{model.kind} of {model.base_model}" if model.base_model else str(model.kind)


def peak(need: Need) -> str:
    """The bytes it needs, or why nobody knows them."""
    if need.peak_bytes is None:
        return "unknown" if need.scheme else "no kernel"
    return human_bytes(need.peak_bytes) + (" too large" if need.fits is False else "")


def size(model: Model) -> str:
    """Parameters in millions, empty where unknown."""
    return f"{model.parameters / 1e6:,.0f} M" if model.parameters else ""


def entry(model: Model, needed: Mapping[Precision, Need], other: StandIn | None = None) -> list[tuple[str, str]]:
    """All that the catalogue says of one entry and what it would need here, as labelled lines."""
    facts: list[tuple[str, str | None]] = [
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
            facts.append((f"needs in {precision}", f"{peak(need)}{share}{where}, predicted"))
    if other is not None:
        facts.append((f"same as {other.model.name}", f"{standing_in(other)} (same architecture)"))
    facts += [("note", text) for text in model.notes]
    facts += [("source", text) for text in model.sources]
    return [(label, text) for label, text in facts if text]
