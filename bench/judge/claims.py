# SPDX-License-Identifier: Apache-2.0
"""Claims held against figures: a verdict for each, with its evidence. Pure: a function of catalogue and records.

- `holds`, `fails`: decided by a record, or by exact counting where that is the whole question (parameters, rows).
- `computed only`: no record decides it; the prediction says which way it would go.
- `untested`: neither a record nor a prediction.
- `not testable`: with the claim's own reason.

A claim about peak memory is about everything a process needs, loading included. A record made under a hard memory
limit of the claimed size proves it: the work was done, or the kernel stopped it. A record without one is weighed by
the peak of its whole process, libraries included; so is a prediction, with the GPU driver's context.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from bench.catalog.model import Claim, Model, Quantity
from bench.engines.contract import Backend
from bench.engines.registry import backend, backend_names
from bench.judge.figures import figures
from bench.plan import predict
from bench.plan.baseline import with_baseline
from bench.plan.selection import Selection, context
from bench.records.cell import Precision, Scheme
from bench.records.record import Ending, Record
from bench.run.memory_limit import CRUDE
from bench.suite import Work
from bench.units import human_bytes, significant
from bench.views.table import Table

COMPUTED_WITH, COMPUTED_ON = "transformers", "cuda"
"""Predictions behind verdicts use this backend's default schemes on this kind of device: most claims are about GPUs."""
BYTES = {Quantity.PEAK, Quantity.WEIGHTS}
DEFAULT_TOKENS = 544
"""Positions of a claim that names none: what the memory suite holds by default."""
BINARY = 2**30 / 10**9
"""What a budget grows by if its author wrote GB and meant GiB."""


class Verdict(StrEnum):
    """What our figures say of a claim."""

    HOLDS = "holds"
    FAILS = "fails"
    COMPUTED = "computed only"
    UNTESTED = "untested"
    NOT_TESTABLE = "not testable"


@dataclass(frozen=True, kw_only=True)
class Judged:
    """One claim with its verdict."""

    model: Model
    claim: Claim
    verdict: Verdict
    evidence: str
    """One sentence: what was found or computed, and against what."""
    record: Record | None = None
    """The record that decided, None if none did."""


def judge(models: Sequence[Model], records: Iterable[Record], among: Sequence[Model] | None = None) -> list[Judged]:
    """Every claim of `models` judged by the records; `among` is the whole catalogue, for bases and stand-ins."""
    names = {model.name: model for model in among or models}
    by_model: dict[str, list[Record]] = {}
    for record in records:
        by_model.setdefault(record.cell.model, []).append(record)
    return [_judge(model, claim, names, by_model) for model in models for claim in model.claims]


def measured_as(model: Model, claim: Claim) -> str:
    """Name of the entry that is measured for a claim."""
    return claim.stand_in or model.name


def _judge(model: Model, claim: Claim, names: Mapping[str, Model], records: Mapping[str, list[Record]]) -> Judged:
    if claim.untestable:
        return Judged(model=model, claim=claim, verdict=Verdict.NOT_TESTABLE, evidence=claim.untestable)
    counted = _counted(model, claim, names)
    if counted is not None:
        verdict = Verdict.HOLDS if within(claim, counted) else Verdict.FAILS
        evidence = f"counted: {counted:,} of {bounds(claim)}"
        return Judged(model=model, claim=claim, verdict=verdict, evidence=evidence)
    for record in sorted(records.get(measured_as(model, claim), ()), key=lambda r: _weight_of(claim, r), reverse=True):
        found = _weigh(claim, record)
        if found is not None:
            verdict, evidence = found
            evidence += _as(record, claim)
            return Judged(model=model, claim=claim, verdict=verdict, evidence=evidence, record=record)
    computed = _computed(names[measured_as(model, claim)], claim)
    if computed is None:
        return Judged(model=model, claim=claim, verdict=Verdict.UNTESTED, evidence="no record, and nothing predicts it")
    size, context, scheme = computed
    would = "would hold" if within(claim, size) else "would fail" + _if_binary(claim, size)
    named = f" as {scheme}{_in_place(claim, scheme)}" if claim.scheme else ""
    named += f" ({human_bytes(context)} of it before loading)" if context else ""
    evidence = f"predicted {human_bytes(size)}{named} of {bounds(claim)}: {would}"
    return Judged(model=model, claim=claim, verdict=Verdict.COMPUTED, evidence=evidence)


def _weight_of(claim: Claim, record: Record) -> tuple[bool, bool, str]:
    """What makes one record count before another: the very scheme, a hard limit, the later date."""
    return (record.cell.scheme == claim.scheme, record.memory_limit is not None, record.started)


def _if_binary(claim: Claim, value: float) -> str:
    """A remark where a budget is missed in GB and met in GiB, for authors rarely say which they mean."""
    budget = claim.at_most
    missed = claim.quantity is Quantity.PEAK and budget is not None and budget < value <= budget * BINARY
    return " (not if GB means GiB)" if missed else ""


def within(claim: Claim, value: float) -> bool:
    """Whether a value lies within the claim's bounds."""
    return (claim.at_least is None or value >= claim.at_least) and (claim.at_most is None or value <= claim.at_most)


def bounds(claim: Claim) -> str:
    """The claimed bounds as people write them: `at most 11.2 GiB`."""

    def text(value: float) -> str:
        if claim.quantity in BYTES:
            return human_bytes(value)
        return f"{significant(value)} tokens/s" if claim.quantity is Quantity.DECODE else f"{value:,.0f}"

    low, high = claim.at_least, claim.at_most
    if low is not None and high is not None:
        return text(low) if low == high else f"{text(low)} to {text(high)}"
    return f"at least {text(low)}" if low is not None else f"at most {text(high)}" if high is not None else "no bound"


def _counted(model: Model, claim: Claim, names: Mapping[str, Model]) -> int | None:
    """What needs no measurement: rows, parameters, products. None for the rest."""
    if claim.quantity is Quantity.TRAINED:
        product = 1
        for factor in claim.factors:
            product *= factor
        return product
    if claim.quantity is Quantity.PARAMETERS:
        return model.parameters
    rows = (model.architecture or {}).get("vocab_size")
    if claim.quantity is Quantity.VOCABULARY:
        return rows if isinstance(rows, int) else None
    if claim.quantity is Quantity.GROWTH:
        base = names.get(model.base_model or "")
        before = (base.architecture or {}).get("vocab_size") if base else None
        return rows - before if isinstance(rows, int) and isinstance(before, int) else None
    return None


def _weigh(claim: Claim, record: Record) -> tuple[Verdict, str] | None:
    """What one record says of a measured claim, None if nothing."""
    cell = record.cell
    suite = "throughput" if claim.quantity is Quantity.DECODE else "memory"
    if cell.suite != suite or cell.precision != claim.precision or cell.backend == "fake":
        return None
    if claim.quantity is Quantity.PEAK:
        return _weigh_peak(claim, record)
    name = "weights_bytes" if claim.quantity is Quantity.WEIGHTS else "decode_tokens_per_s"
    found = figures(record).get(name) if record.outcome.ending is Ending.OK else None
    if found is None:
        return None
    text = human_bytes(found.value) if claim.quantity is Quantity.WEIGHTS else f"{significant(found.value)} tokens/s"
    return (Verdict.HOLDS if within(claim, found.value) else Verdict.FAILS), f"measured {text} of {bounds(claim)}"


def _weigh_peak(claim: Claim, record: Record) -> tuple[Verdict, str] | None:
    if not _long_enough(claim, record):
        return None
    limit, ending = record.memory_limit, record.outcome.ending
    budget = _budget(claim)
    steady, loading = record.measurement("peak_bytes"), record.measurement("load_peak_bytes")
    if limit is not None and budget is not None and limit.enforced_by != CRUDE:
        where = f"a hard limit of {human_bytes(limit.bytes)} ({limit.enforced_by})"
        fits, does_not = (Verdict.HOLDS, Verdict.FAILS) if claim.at_most is not None else (Verdict.FAILS, Verdict.HOLDS)
        if ending is Ending.OK and limit.bytes <= budget:
            if (limit.highest_bytes or 0) > budget:  # only where it holds the framework's allocator alone
                counted = f"{human_bytes(limit.highest_bytes or 0)} were counted for the process"
                return Verdict.UNTESTED, f"ran under {where}, but {counted}"
            # Pages of a weight file that another process had cached are resident here and charged there.
            resident = steady.values[0] if steady else 0
            elsewhere = f", but {human_bytes(resident)} were resident, some charged elsewhere: drop the page cache"
            return (
                (Verdict.UNTESTED, f"ran under {where}{elsewhere}")
                if resident > budget
                else (fits, f"ran under {where}")
            )
        if ending is Ending.DOES_NOT_FIT and limit.bytes >= budget:
            return does_not, f"did not fit {where}"
    if ending is not Ending.OK or steady is None or loading is None:
        return None
    return _compare_peaks(claim, steady.values[0], loading.values[0])


def _budget(claim: Claim) -> float | None:
    """The bytes a memory claim turns on: enough, by `at_most`, or by `at_least` not enough."""
    return claim.at_most if claim.at_most is not None else claim.at_least


def _compare_peaks(claim: Claim, peak: float, load: float) -> tuple[Verdict, str]:
    """A whole process's peaks, while working and while loading, without a limit that proves more."""
    highest = max(peak, load)
    if within(claim, highest):
        return Verdict.HOLDS, f"measured {human_bytes(highest)} of {bounds(claim)}"
    if not within(claim, peak):
        return Verdict.FAILS, f"measured {human_bytes(peak)} of {bounds(claim)}{_if_binary(claim, peak)}"
    # Without a limit a loader takes what it finds: page cache of the files it maps, buffers it could do without.
    spike = f"measured {human_bytes(peak)} of {bounds(claim)}, but {human_bytes(load)} while loading, without a limit"
    return Verdict.UNTESTED, f"{spike}: `bench claims --run` decides it"


def _long_enough(claim: Claim, record: Record) -> bool:
    """Whether the record held at least as many positions as the claim speaks of."""
    settings = record.cell.settings
    held = sum(int(str(settings.get(name, 0))) for name in ("prompt_tokens", "decode_tokens"))
    return claim.tokens is None or held >= claim.tokens


def _as(record: Record, claim: Claim) -> str:
    cell = record.cell
    stood = f", {cell.model} standing in" if claim.stand_in else ""
    random = ", random weights" if record.provenance and record.provenance.random else ""
    return f"; {cell.backend} {cell.scheme}{_in_place(claim, cell.scheme)} on {cell.device}{stood}{random}"


def _in_place(claim: Claim, scheme: str) -> str:
    """A word where the evidence is from another scheme than the one that the claim names."""
    return f" in place of {claim.scheme}" if claim.scheme and claim.scheme != scheme else ""


def selections(judged: Sequence[Judged], base: Selection, capacity_bytes: int) -> tuple[list[Selection], list[str]]:
    """What measures the memory claims that no record decides yet, and a line for each that this machine cannot.

    Each is the memory suite on the claim's entry at its precision and context, under a hard limit of the claimed
    budget, tried even where the prediction says that it will not fit: that is the question.
    """
    found, left = [], []
    for item in judged:
        claim = item.claim
        undecided = item.verdict in {Verdict.COMPUTED, Verdict.UNTESTED}
        turning = _budget(claim)
        if not undecided or claim.quantity is not Quantity.PEAK or turning is None or claim.precision is None:
            continue
        budget = int(turning)
        if budget > capacity_bytes:
            left.append(f"{claim.id}: {human_bytes(budget)} are claimed, {human_bytes(capacity_bytes)} are there")
            continue
        asked = replace(
            base, models=(measured_as(item.model, claim),), precisions=(claim.precision,), schemes=(),
            suites=("memory",), memory_limit_bytes=budget, tokens=claim.tokens or DEFAULT_TOKENS, force=True,
        )  # fmt: skip
        if asked not in found:
            found.append(asked)
    return found, left


def _computed(model: Model, claim: Claim) -> tuple[int, int, str] | None:
    """Predicted bytes, those that are the process's own, and in which scheme; None where nothing is predicted.

    A peak is the whole process's, as a limit counts it and as a measured one is weighed.
    """
    if claim.quantity not in BYTES or claim.precision is None:
        return None
    engine, scheme = _computing(claim, Precision(claim.precision))
    settings, work = context(claim.tokens or DEFAULT_TOKENS), Work(prefill_tokens=0, decode_tokens=0)
    predicted = predict.predict(model, scheme, COMPUTED_ON, settings, work, engine.footprint)
    if claim.quantity is Quantity.WEIGHTS:
        return None if predicted.weights_bytes is None else (predicted.weights_bytes, 0, scheme.name)
    whole = with_baseline(predicted, COMPUTED_ON, engine.name, scheme)
    return None if whole.needed_bytes is None else (whole.needed_bytes, whole.baseline_bytes or 0, scheme.name)


def _computing(claim: Claim, precision: Precision) -> tuple[Backend, Scheme]:
    """The backend and scheme that predict for a claim: the scheme it names, else the precision's default."""
    for engine in map(backend, backend_names() if claim.scheme else ()):
        named = engine.scheme(str(claim.scheme))
        if named is not None:
            return engine, named
    default = backend(COMPUTED_WITH).default_scheme(precision, COMPUTED_ON)
    assert default is not None, "a claim is about a precision that is compared"
    return backend(COMPUTED_WITH), default


def flat(judged: Judged) -> dict[str, Any]:
    """One claim as a flat row, figures in base units."""
    claim = judged.claim
    return {
        "id": claim.id, "model": judged.model.name, "claim": claim.text, "source": claim.source,
        "quantity": str(claim.quantity), "precision": str(claim.precision) if claim.precision else None,
        "scheme": claim.scheme, "at_least": claim.at_least, "at_most": claim.at_most, "tokens": claim.tokens,
        "batch": claim.batch, "verdict": str(judged.verdict), "evidence": judged.evidence,
        "record": judged.record.id if judged.record else None, "contradiction": claim.contradiction,
    }  # fmt: skip


def people(judged: Sequence[Judged], *, name_claim: bool = True) -> Table:
    """The table people read; what speaks against a claim elsewhere is a footnote of its text."""
    table = Table(
        ["claim", "model", "stated", "verdict", "evidence"]
        if name_claim
        else ["model", "stated", "verdict", "evidence"]
    )
    for item in judged:
        claim = item.claim
        mark = f" {table.note(f'{claim.contradiction}')}" if claim.contradiction else ""
        record = f" (record {item.record.id})" if item.record else ""
        row = [item.model.name, f"{claim.text}{terms(claim)}{mark}", str(item.verdict), item.evidence + record]
        table.rows.append([claim.id, *row] if name_claim else row)
    return table


def terms(claim: Claim) -> str:
    """The precision and the scheme a claim speaks of, in brackets after its text; empty where it says so itself."""
    precision = str(claim.precision or "")
    found = [*([precision] if precision not in claim.text else []), *([claim.scheme] if claim.scheme else [])]
    return f" ({', '.join(found)})" if found else ""


def counts(judged: Sequence[Judged]) -> str:
    """`76 claims: holds 8, fails 5 …` in one line."""
    parts = [f"{verdict} {sum(item.verdict is verdict for item in judged)}" for verdict in Verdict]
    return f"{len(judged)} claims: {', '.join(parts)}"
