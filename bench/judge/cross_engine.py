# SPDX-License-Identifier: Apache-2.0
"""One model's rows from different engines side by side on one device, their distances from the same fp32 row. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from bench.judge.figures import anchor_of, wrote_anchor
from bench.judge.reasons import NO_DISTRIBUTIONS, NOT_APPLICABLE, Missing
from bench.judge.rows import Row
from bench.records.cell import COMPARED, WAYS, Cell, Precision, Weights

DISTANCES = ("kld_fp32_mean", "same_top1_fp32")
SERVED_APART = (
    "a server is measured as its clients see it, by suites of its own: its decode has HTTP in it, and a launched one's "
    "memory its program and libraries"
)
NO_FP32_ROW = (
    "no fp32 row to measure from: `bench run --model {model} --backend transformers --precision fp32"
    " --suite divergence`, then the same with this row's engine and precision"
)


@dataclass(frozen=True, kw_only=True)
class Group:
    """What may stand side by side: one model's weights on one device, from at least two engines."""

    device: str
    model: str
    weights: Weights
    rows: tuple[Row, ...]
    """Widest precision first, so that the engines' rows of one precision are neighbours."""
    cautions: tuple[str, ...] = ()
    """What is not the same in all rows although it should be."""


@dataclass(frozen=True, kw_only=True)
class OneEngine:
    """A model that a single engine measured: nothing stands beside it."""

    device: str
    model: str
    weights: Weights
    backend: str


def engines_side_by_side(rows: Sequence[Row]) -> tuple[list[Group], list[OneEngine]]:
    """Every model that several engines measured on one device, and every one that only one did."""
    together: dict[tuple[str, str, Weights], list[Row]] = defaultdict(list)
    for row in rows:
        together[row.device, row.model, row.weights].append(row)
    groups, alone = [], []
    for (device, model, weights), found in together.items():
        backends = {row.backend for row in found}
        if len(backends) == 1:
            alone.append(OneEngine(device=device, model=model, weights=weights, backend=backends.pop()))
            continue
        order = (*COMPARED, Precision.SERVED)
        ordered = tuple(sorted(found, key=lambda row: (order.index(row.precision), row.backend, row.scheme)))
        cautions = tuple(_cautions(ordered))
        groups.append(Group(device=device, model=model, weights=weights, rows=ordered, cautions=cautions))
    return groups, alone


def _cautions(rows: Sequence[Row]) -> Iterator[str]:
    """What forbids reading one row against another."""
    for suite, figures in (("throughput", "speeds"), ("memory", "peaks"), ("divergence", "distances")):
        asked = [row for row in rows if row.precision != Precision.SERVED and row.missing(suite) is None]
        records = [row.records[suite] for row in asked]
        profiles = {(r.cell.profile, r.cell.suite_version, _asked(r.cell)) for r in records}
        if len(profiles) > 1:
            names = ", ".join(sorted({profile for profile, _, _ in profiles}))
            yield f"{figures} were measured with different settings (profiles {names}): measure all with one profile"
    if any(row.precision == Precision.SERVED for row in rows):
        yield SERVED_APART
    several = sorted({row.backend for row in rows if row.told_apart})
    if several:
        yield (
            f"{' and '.join(several)} measured several weights of this name: which of them belong to another engine's "
            "file nobody can tell; give each a folder or file name of its own"
        )
    threads: dict[str, set[int]] = defaultdict(set)
    for row in rows:
        for record in row.records.values():
            if record.threads is not None:
                threads[row.backend].add(record.threads)
    if len(set().union(*threads.values())) > 1:
        named = "; ".join(f"{name} {'/'.join(map(str, sorted(counts)))}" for name, counts in sorted(threads.items()))
        yield f"threads differ: {named}: give all the same --threads"
    anchors = {anchor_of(row.records["divergence"]) for row in rows if "divergence" in row.records} - {None}
    if len(anchors) > 1:
        yield f"distances are from different fp32 rows ({', '.join(sorted(map(str, anchors)))}): measure them again"


def _asked(cell: Cell) -> str:
    """Its settings without the ways of its engine, which are what is compared."""
    return str(sorted((name, value) for name, value in cell.settings.items() if name not in WAYS))


def why_missing(row: Row, figure: str, suite: str) -> Missing:
    """Why a row has no such figure; `reference` for the row that others are measured from."""
    if missing := row.missing(suite):
        return missing
    if figure not in DISTANCES:
        return Missing(NOT_APPLICABLE)
    record = row.records[suite]
    if row.precision == Precision.SERVED:
        return Missing(NOT_APPLICABLE, NO_DISTRIBUTIONS)
    if wrote_anchor(record):
        return Missing("reference")
    not_paired = next((warning.text for warning in record.warnings if warning.kind == "anchor_not_paired"), "")
    return Missing("", not_paired or NO_FP32_ROW.format(model=row.model))


def fp32_reference(row: Row) -> str | None:
    """The fp32 row that a row's distance is measured from, None without one."""
    record = row.records.get("divergence")
    if record is None:
        return None
    held = anchor_of(row.fp32) if row.fp32 is not None and row.held_by_fp32_row("divergence") else None
    return anchor_of(record) or held
