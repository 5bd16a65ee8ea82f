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

A claim is about the entry's own weights, and a name is no identity. So a record of those weights counts before one of
other weights that were called alike: before local ones of other files, another revision, and random values, which have
the entry's architecture and no more. Where such a record decides, its weights are named (`Judged.weights`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from bench.catalog.model import Claim, Model, Quantity
from bench.judge.checkpoints import UNKNOWN, Checkpoint, checkpoints
from bench.judge.figures import figures
from bench.records.cell import Scheme, Weights
from bench.records.record import CRUDE, Ending, MemoryLimit, Prediction, Record

PUBLISHED = {Weights.PACKAGE, Weights.HUB}
"""Where an entry's own weights come from."""
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


class Origin(StrEnum):
    """Whose weights a record is of, as far as a claim about an entry goes; the first counts before the others."""

    OWN = "the entry's own"
    """Of its package or repository, at the revision that it names, or local files that are the very same."""
    REVISION = "another revision"
    """Of its repository at another revision than the entry names."""
    LOCAL = "local weights"
    """Files on a disk that were called by its name: nothing shows that they are the entry's."""
    RANDOM = "random weights"
    """Random values in its architecture."""


@dataclass(frozen=True, kw_only=True)
class Judged:
    """One claim with its verdict."""

    model: Model
    claim: Claim
    verdict: Verdict
    evidence: Evidence
    record: Record | None = None
    """The record that decided, None if none did."""
    origin: Origin = Origin.OWN
    """Whose weights that record is of."""
    checkpoint: Checkpoint = UNKNOWN
    """Which these are, by their files."""


@dataclass(frozen=True, kw_only=True)
class _Of:
    """A record with whose weights it is of."""

    record: Record
    origin: Origin
    checkpoint: Checkpoint


def judge(
    models: Sequence[Model], records: Iterable[Record], predict: Predict, among: Sequence[Model] | None = None
) -> list[Judged]:
    """Every claim of `models` judged by the records; `among` is the whole catalogue, for bases and stand-ins."""
    names = {model.name: model for model in among or models}
    by_model: dict[str, list[Record]] = {}
    for record in records:
        by_model.setdefault(record.cell.model, []).append(record)
    told = {name: _origins(names[name], own) for name, own in by_model.items() if name in names}
    return [_judge(model, claim, names, told, predict) for model in models for claim in model.claims]


def _origins(model: Model, records: Sequence[Record]) -> list[_Of]:
    """For each record of a model's name whose weights it is of."""
    marks = checkpoints(records)
    published = (record for record in records if record.cell.weights in PUBLISHED and _of_revision(model, record))
    own = {str(found.files): found for record in published if (found := record.provenance)}.values()

    def origin(record: Record) -> Origin:
        found = record.provenance
        if record.cell.weights is Weights.RANDOM or (found is not None and found.random):
            return Origin.RANDOM
        if record.cell.weights in PUBLISHED:
            return Origin.OWN if _of_revision(model, record) else Origin.REVISION
        same = found is not None and found.files and any(found.same_files(other) for other in own)
        return Origin.OWN if same else Origin.LOCAL

    return [
        _Of(record=record, origin=origin(record), checkpoint=mark) for record, mark in zip(records, marks, strict=True)
    ]


def _of_revision(model: Model, record: Record) -> bool:
    """Whether a record of a published model is of the revision that its entry names, as far as it tells."""
    found = record.provenance.revision if record.provenance else None
    return model.revision is None or model.revision in {found, record.cell.revision} or found is None


def undecided(judged: Sequence[Judged]) -> list[tuple[Model, Claim]]:
    """The claims that no record decides yet and one could."""
    return [(item.model, item.claim) for item in judged if item.verdict in {Verdict.COMPUTED, Verdict.UNTESTED}]


def _judge(
    model: Model, claim: Claim, names: Mapping[str, Model], records: Mapping[str, list[_Of]], predict: Predict
) -> Judged:
    if claim.untestable:
        return Judged(model=model, claim=claim, verdict=Verdict.NOT_TESTABLE, evidence=Evidence(basis=Basis.CLAIM))
    counted = _counted(model, claim, names)
    if counted is not None:
        evidence = Evidence(basis=Basis.COUNT, value=counted)
        return Judged(model=model, claim=claim, verdict=_decided(claim, counted), evidence=evidence)
    measured = model.measured_for(claim)
    found = _decisive(claim, records.get(measured, ()))
    if found is not None:
        of, (verdict, evidence) = found
        return Judged(
            model=model, claim=claim, verdict=verdict, evidence=evidence, record=of.record, origin=of.origin,
            checkpoint=of.checkpoint,
        )  # fmt: skip
    computed = _computed(names[measured], claim, predict)
    if computed is None:
        nothing = Evidence(basis=Basis.NOTHING)
        return Judged(model=model, claim=claim, verdict=Verdict.UNTESTED, evidence=nothing)
    return Judged(model=model, claim=claim, verdict=Verdict.COMPUTED, evidence=computed)


def _decided(claim: Claim, value: float) -> Verdict:
    return Verdict.HOLDS if claim.allows(value) else Verdict.FAILS


def _decisive(claim: Claim, records: Sequence[_Of]) -> tuple[_Of, tuple[Verdict, Evidence]] | None:
    """The record that counts most of those that say anything, with what it says.

    Where that leaves the claim open, others of the very scheme, or else of the same precision, may decide it.
    """
    ordered = sorted(records, key=lambda of: _weight_of(claim, of), reverse=True)
    told = [(of, found) for of in ordered if (found := _weigh(claim, of.record)) is not None]
    first = next(iter(told), None)
    if first is None or first[1][0] is not Verdict.UNTESTED:
        return first
    scheme = first[0].record.cell.scheme
    alike = ((of, found) for of, found in told if of.record.cell.scheme == scheme)
    return next(((of, found) for of, found in alike if found[0] is not Verdict.UNTESTED), first)


def _weight_of(claim: Claim, of: _Of) -> tuple[bool, int, bool, bool, str]:
    """What makes one record count before another: the very scheme, whose weights, a hard limit, the later date."""
    record = of.record
    place = -list(Origin).index(of.origin)
    return (record.cell.scheme == claim.scheme, place, record.memory_limit is not None, *record.when)


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
