# SPDX-License-Identifier: Apache-2.0
"""Claims with their verdicts and evidence in words, as `bench claims` writes them. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from bench.catalog.model import Claim, Quantity
from bench.judge.claims import BYTES, Basis, Judged, Origin, Verdict
from bench.units import human_bytes, human_limit, significant
from bench.views.cells import marked
from bench.views.formats import Flat, Table
from bench.views.outputs import CLAIMS

BINARY = 2**30 / 10**9
"""What a budget grows by if its author wrote GB and meant GiB."""


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
        row = [item.model.name, f"{claim.text}{terms(claim)}{mark}", str(item.verdict), evidence(item) + named(item)]
        table.rows.append([claim.id, *row] if name_claim else row)
    return table


def named(judged: Judged) -> str:
    """The record that decided, in brackets after the evidence; empty if none did."""
    return f" (record {judged.record.id})" if judged.record else ""


def flats(judged: Sequence[Judged]) -> list[Flat]:
    """One row for each claim, figures in base units."""
    return [CLAIMS.flat(_flat(item)) for item in judged]


def _flat(judged: Judged) -> Flat:
    claim = judged.claim
    return {
        "id": claim.id, "model": judged.model.name, "claim": claim.text, "source": claim.source,
        "quantity": str(claim.quantity), "precision": str(claim.precision) if claim.precision else None,
        "scheme": claim.scheme, "at_least": claim.at_least, "at_most": claim.at_most, "tokens": claim.tokens,
        "batch": claim.batch, "verdict": str(judged.verdict), "evidence": evidence(judged),
        "record": judged.record.id if judged.record else None, "contradiction": claim.contradiction,
        "weights": str(judged.origin) if judged.record else None,
        "checkpoint": (judged.checkpoint.mark or None) if judged.record else None,
    }  # fmt: skip


def terms(claim: Claim) -> str:
    """The precision and the scheme a claim speaks of, in brackets after its text; empty where it says so itself."""
    precision = str(claim.precision or "")
    found = [*([precision] if precision not in claim.text else []), *([claim.scheme] if claim.scheme else [])]
    return f" ({', '.join(found)})" if found else ""


def counts(judged: Sequence[Judged]) -> str:
    """`76 claims: holds 8, fails 5 …` in one line."""
    parts = [f"{verdict} {sum(item.verdict is verdict for item in judged)}" for verdict in Verdict]
    return f"{len(judged)} claims: {', '.join(parts)}"


def evidence(judged: Judged) -> str:
    """One sentence: what was found or computed, and against what."""
    claim, found = judged.claim, judged.evidence
    if found.basis is Basis.CLAIM:
        return str(claim.untestable)
    if found.basis is Basis.NOTHING:
        return "no record, and nothing predicts it"
    value = found.value or 0
    if found.basis is Basis.COUNT:
        return f"counted: {value:,} of {bounds(claim)}"
    if found.basis is Basis.PREDICTED:
        return _predicted(judged, value)
    return _of_record(judged, value) + _measured_as(judged)


def _predicted(judged: Judged, value: float) -> str:
    claim, found = judged.claim, judged.evidence
    would = "would hold" if claim.allows(value) else "would fail" + _if_binary(claim, value)
    scheme = f" as {found.scheme}{_in_place(claim, str(found.scheme))}" if claim.scheme else ""
    before = found.before_loading_bytes
    part = f" ({human_bytes(before)} of it before loading)" if before else ""
    return f"predicted {human_bytes(value)}{scheme}{part} of {bounds(claim)}: {would}"


def _of_record(judged: Judged, value: float) -> str:
    claim, found, limit = judged.claim, judged.evidence, judged.record and judged.record.memory_limit
    where = f"a hard limit of {human_limit(limit.bytes)} ({limit.enforced_by})" if limit else ""
    if found.basis is Basis.RAN:
        return f"ran under {where}"
    if found.basis is Basis.DID_NOT_FIT:
        return f"did not fit {where}"
    if found.basis is Basis.COUNTED_MORE:
        return f"ran under {where}, but {human_bytes(value)} were counted for the process"
    if found.basis is Basis.RESIDENT_MORE:
        elsewhere = f"{human_bytes(value)} were resident, some charged elsewhere: drop the page cache"
        return f"ran under {where}, but {elsewhere}"
    measured = f"measured {_amount(claim, value)} of {bounds(claim)}"
    if found.basis is Basis.LOADING:
        loading = f"{human_bytes(found.loading_bytes or 0)} while loading, without a limit"
        return f"{measured}, but {loading}: `bench claims --run` decides it"
    return measured + _if_binary(claim, value)


def _measured_as(judged: Judged) -> str:
    """What was measured, where it is not just what the claim names."""
    assert judged.record is not None
    claim, cell = judged.claim, judged.record.cell
    stood = f", {cell.model} standing in" if claim.stand_in else ""
    return f"; {cell.backend} {cell.scheme}{_in_place(claim, cell.scheme)} on {cell.device}{stood}{weights_of(judged)}"


def weights_of(judged: Judged) -> str:
    """Which weights the record is of, after a comma, where they are not the entry's own or share their name."""
    assert judged.record is not None
    cell, found, checkpoint = judged.record.cell, judged.record.provenance, judged.checkpoint
    if judged.origin is Origin.RANDOM:
        return ", random weights"
    if judged.origin is Origin.LOCAL:
        return " ".join(filter(None, (", local weights", cell.source, marked(checkpoint.mark))))
    if judged.origin is Origin.REVISION:
        return f", revision {found.revision if found else cell.revision} and not the entry's"
    return "" if checkpoint.alone else f", weights {marked(checkpoint.mark)}"


def _in_place(claim: Claim, scheme: str) -> str:
    """A word where the evidence is from another scheme than the one that the claim names."""
    return f" in place of {claim.scheme}" if claim.scheme and claim.scheme != scheme else ""


def _if_binary(claim: Claim, value: float) -> str:
    """A remark where a budget is missed in GB and met in GiB, for authors rarely say which they mean."""
    budget = claim.at_most
    missed = claim.quantity is Quantity.PEAK and budget is not None and budget < value <= budget * BINARY
    return " (not if GB means GiB)" if missed else ""


def bounds(claim: Claim) -> str:
    """The claimed bounds as people write them: `at most 12 GB`."""
    low, high = claim.at_least, claim.at_most
    if low is not None and high is not None:
        return _stated(claim, low) if low == high else f"{_stated(claim, low)} to {_stated(claim, high)}"
    if low is not None:
        return f"at least {_stated(claim, low)}"
    return f"at most {_stated(claim, high)}" if high is not None else "no bound"


def _stated(claim: Claim, value: float) -> str:
    return human_limit(int(value)) if claim.quantity in BYTES else _amount(claim, value)


def _amount(claim: Claim, value: float) -> str:
    if claim.quantity in BYTES:
        return human_bytes(value)
    return f"{significant(value)} tokens/s" if claim.quantity is Quantity.DECODE else f"{value:,.0f}"
