# SPDX-License-Identifier: Apache-2.0
"""Claims held against figures: a verdict for each, with its evidence. Pure: a function of catalogue and records.

- `holds`, `fails`: decided by a record, or by exact counting where that is the whole question (parameters, rows).
- `computed only`: no record decides it; the prediction says which way it would go.
- `untested`: neither a record nor a prediction.
- `not testable`: with the claim's own reason.

A claim about peak memory is about everything a process needs, loading included. A record made under a hard memory
limit of the claimed size proves it: the work was done, or the kernel stopped it. A record without one is weighed by
the peak of its whole process, libraries included; so is a prediction, with the GPU driver's context. Who predicts is
handed in (`bench.plan.claims.predicted_for` does).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from bench.catalog.model import Claim, Model, Quantity
from bench.judge.figures import figures
from bench.records.cell import Scheme
from bench.records.record import CRUDE, Ending, MemoryLimit, Prediction, Record

BYTES = {Quantity.PEAK, Quantity.WEIGHTS}
"""Quantities that are predicted."""
Predict = Callable[[Model, Claim], tuple[Prediction, Scheme] | None]
"""What the process of a claim's model would need, and the scheme that is predicted for it; None where none is known."""


class Verdict(StrEnum):
    """What our figures say of a claim."""

    HOLDS = "holds"
    FAILS = "fails"
    COMPUTED = "computed only"
    UNTESTED = "untested"
    NOT_TESTABLE = "not testable"


class Basis(StrEnum):
    """What a verdict rests on."""

    CLAIM = "the claim"
    """Its own reason why nothing can test it."""
    COUNT = "count"
    MEASURED = "measured"
    LOADING = "loading"
    """The measured peak is within the bounds, what loading took without a limit is not."""
    RAN = "ran under a limit"
    COUNTED_MORE = "ran, more was counted"
    """It ran under a limit that holds the framework's allocator alone, and the process took more than is claimed."""
    RESIDENT_MORE = "ran, more was resident"
    """It ran under a limit, and pages that were charged to another process are more than is claimed."""
    DID_NOT_FIT = "did not fit a limit"
    PREDICTED = "predicted"
    NOTHING = "nothing"


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """What was found or computed, in the base unit of the claim's quantity."""

    basis: Basis
    value: float | None = None
    """What was counted, measured or predicted; of `counted` and `resident` those bytes."""
    loading_bytes: float | None = None
    """With `loading`: the peak while loading."""
    before_loading_bytes: int = 0
    """With `predicted`: the part of the value that the process takes before it loads anything."""
    scheme: str | None = None
    """With `predicted`: the scheme it was predicted for."""


@dataclass(frozen=True, kw_only=True)
class Judged:
    """One claim with its verdict."""

    model: Model
    claim: Claim
    verdict: Verdict
    evidence: Evidence
    record: Record | None = None
    """The record that decided, None if none did."""


def judge(
    models: Sequence[Model], records: Iterable[Record], predict: Predict, among: Sequence[Model] | None = None
) -> list[Judged]:
    """Every claim of `models` judged by the records; `among` is the whole catalogue, for bases and stand-ins."""
    names = {model.name: model for model in among or models}
    by_model: dict[str, list[Record]] = {}
    for record in records:
        by_model.setdefault(record.cell.model, []).append(record)
    return [_judge(model, claim, names, by_model, predict) for model in models for claim in model.claims]


def undecided(judged: Sequence[Judged]) -> list[tuple[Model, Claim]]:
    """The claims that no record decides yet and one could."""
    return [(item.model, item.claim) for item in judged if item.verdict in {Verdict.COMPUTED, Verdict.UNTESTED}]


def _judge(
    model: Model, claim: Claim, names: Mapping[str, Model], records: Mapping[str, list[Record]], predict: Predict
) -> Judged:
    if claim.untestable:
        return Judged(model=model, claim=claim, verdict=Verdict.NOT_TESTABLE, evidence=Evidence(basis=Basis.CLAIM))
    counted = _counted(model, claim, names)
    if counted is not None:
        evidence = Evidence(basis=Basis.COUNT, value=counted)
        return Judged(model=model, claim=claim, verdict=_decided(claim, counted), evidence=evidence)
    measured = model.measured_for(claim)
    for record in sorted(records.get(measured, ()), key=lambda r: _weight_of(claim, r), reverse=True):
        found = _weigh(claim, record)
        if found is not None:
            verdict, evidence = found
            return Judged(model=model, claim=claim, verdict=verdict, evidence=evidence, record=record)
    computed = _computed(names[measured], claim, predict)
    if computed is None:
        nothing = Evidence(basis=Basis.NOTHING)
        return Judged(model=model, claim=claim, verdict=Verdict.UNTESTED, evidence=nothing)
    return Judged(model=model, claim=claim, verdict=Verdict.COMPUTED, evidence=computed)


def _decided(claim: Claim, value: float) -> Verdict:
    return Verdict.HOLDS if claim.allows(value) else Verdict.FAILS


def _weight_of(claim: Claim, record: Record) -> tuple[bool, bool, bool, str]:
    """What makes one record count before another: the very scheme, a hard limit, the later date."""
    return (record.cell.scheme == claim.scheme, record.memory_limit is not None, *record.when)


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


def _weigh(claim: Claim, record: Record) -> tuple[Verdict, Evidence] | None:
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
    return _decided(claim, found.value), Evidence(basis=Basis.MEASURED, value=found.value)


def _weigh_peak(claim: Claim, record: Record) -> tuple[Verdict, Evidence] | None:
    if not _long_enough(claim, record):
        return None
    limit, ending = record.memory_limit, record.outcome.ending
    budget = claim.turning_point
    steady, loading = record.measurement("peak_bytes"), record.measurement("load_peak_bytes")
    if limit is not None and budget is not None and limit.enforced_by != CRUDE:
        fits, does_not = (Verdict.HOLDS, Verdict.FAILS) if claim.at_most is not None else (Verdict.FAILS, Verdict.HOLDS)
        if ending is Ending.OK and limit.bytes <= budget:
            more = _more_than_limited(limit, steady.values[0] if steady else 0, budget)
            return (fits, Evidence(basis=Basis.RAN)) if more is None else (Verdict.UNTESTED, more)
        if ending is Ending.DOES_NOT_FIT and limit.bytes >= budget:
            return does_not, Evidence(basis=Basis.DID_NOT_FIT)
    if ending is not Ending.OK or steady is None or loading is None:
        return None
    return _compare_peaks(claim, steady.values[0], loading.values[0])


def _more_than_limited(limit: MemoryLimit, resident: float, budget: float) -> Evidence | None:
    """What a limit within the budget did not count although the process had it; None if it proves the claim."""
    if (limit.highest_bytes or 0) > budget:  # only where it holds the framework's allocator alone
        return Evidence(basis=Basis.COUNTED_MORE, value=limit.highest_bytes)
    # Pages of a weight file that another process had cached are resident here and charged there.
    return Evidence(basis=Basis.RESIDENT_MORE, value=resident) if resident > budget else None


def _compare_peaks(claim: Claim, peak: float, load: float) -> tuple[Verdict, Evidence]:
    """A whole process's peaks, while working and while loading, without a limit that proves more."""
    highest = max(peak, load)
    if claim.allows(highest):
        return Verdict.HOLDS, Evidence(basis=Basis.MEASURED, value=highest)
    if not claim.allows(peak):
        return Verdict.FAILS, Evidence(basis=Basis.MEASURED, value=peak)
    # Without a limit a loader takes what it finds: page cache of the files it maps, buffers it could do without.
    return Verdict.UNTESTED, Evidence(basis=Basis.LOADING, value=peak, loading_bytes=load)


def _long_enough(claim: Claim, record: Record) -> bool:
    """Whether the record held at least as many positions as the claim speaks of."""
    settings = record.cell.settings
    held = sum(int(str(settings.get(name, 0))) for name in ("prompt_tokens", "decode_tokens"))
    return claim.tokens is None or held >= claim.tokens


def _computed(model: Model, claim: Claim, predict: Predict) -> Evidence | None:
    """What is predicted, None where nothing is.

    A peak is the whole process's, as a limit counts it and as a measured one is weighed.
    """
    found = predict(model, claim) if claim.quantity in BYTES and claim.precision is not None else None
    if found is None:
        return None
    predicted, scheme = found
    whole = claim.quantity is Quantity.PEAK
    value = predicted.needed_bytes if whole else predicted.weights_bytes
    if value is None:
        return None
    before = (predicted.baseline_bytes or 0) if whole else 0
    return Evidence(basis=Basis.PREDICTED, value=value, before_loading_bytes=before, scheme=scheme.name)
