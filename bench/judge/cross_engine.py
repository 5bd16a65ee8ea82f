# SPDX-License-Identifier: Apache-2.0
"""One model's rows from different engines side by side on one device, their distances from the same fp32 row. Pure.

Of a precision's rows those are tied in a speed that its fastest cannot be told from: the intervals overlap. On the
front is what no other row of the group beats, in peak memory, decode and distance from fp32 together: a row is beaten
by one that is no worse in all three and better in one, in a measured one beyond both intervals.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from bench.judge.figures import anchor_of, wrote_anchor
from bench.judge.reasons import NO_DISTRIBUTIONS, NOT_APPLICABLE, Missing
from bench.judge.rows import Row
from bench.judge.stats import Estimate
from bench.records.cell import COMPARED, WAYS, Cell, Precision, Weights

DISTANCES = ("kld_fp32_mean", "same_top1_fp32")
SPEEDS = ("prefill_tokens_per_s", "decode_tokens_per_s")
SAME = "give all the same --threads"
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


def named(row: Row) -> str:
    """Engine and scheme, as cautions name a row."""
    return f"{row.backend} {row.scheme}"


def tied(rows: Sequence[Row], figure: str) -> set[int]:
    """The ids of rows that the fastest of their precision cannot be told from, and its own, where two engines are."""
    found: set[int] = set()
    for precision in {row.precision for row in rows if row.precision != Precision.SERVED}:
        known = [(row, row.figures()[figure]) for row in rows if row.precision == precision and figure in row.figures()]
        if not known:
            continue
        _, fastest = max(known, key=lambda item: item[1].value)
        close = [row for row, rate in known if _ends(rate)[1] >= _ends(fastest)[0]]
        if len({row.backend for row in close}) > 1:
            found |= {id(row) for row in close}
    return found


def front(rows: Sequence[Row]) -> set[int]:
    """The ids of rows that none beats in peak, decode and distance together; what lacks one of these is not judged."""
    known = {id(row): found for row in rows if (found := _weighed(row)) is not None}
    return {one for one, own in known.items() if not any(_beats(other, own) for other in known.values())}


def _weighed(row: Row) -> tuple[Estimate, Estimate, Estimate] | None:
    """Peak, seconds of a token and distance, the less the better; None where one is missing or a server's."""
    found = row.figures()
    decode, peak, distance = (found.get(name) for name in (SPEEDS[1], "peak_bytes", DISTANCES[0]))
    record = row.records.get("divergence")
    if distance is None and record is not None and wrote_anchor(record):
        distance = Estimate(0.0)
    if row.precision == Precision.SERVED or decode is None or peak is None or distance is None:
        return None
    low, high = _ends(decode)
    return peak, Estimate(1 / decode.value, 1 / high, 1 / low) if low > 0 else Estimate(1 / decode.value), distance


def _beats(one: Sequence[Estimate], other: Sequence[Estimate]) -> bool:
    no_worse = all(a.value <= b.value for a, b in zip(one, other, strict=True))
    return no_worse and any(_ends(a)[1] < _ends(b)[0] for a, b in zip(one, other, strict=True))


def _ends(found: Estimate) -> tuple[float, float]:
    """Of its interval; a figure without one is its own."""
    return (
        found.value if found.low is None else found.low,
        found.value if found.high is None else found.high,
    )


def _cautions(rows: Sequence[Row]) -> Iterator[str]:
    """What forbids reading one row against another."""
    for suite, figures in (("throughput", "speeds"), ("memory", "peaks"), ("divergence", "distances")):
        asked = [row for row in rows if row.precision != Precision.SERVED and row.missing(suite) is None]
        settings = {id(row): _settings(row.records[suite].cell) for row in asked}
        if len(set(settings.values())) > 1:
            told = _told({key: [row for row in asked if settings[id(row)] == key] for key in settings.values()})
            yield f"{figures} were measured with different settings ({told}): measure all with one profile"
    if any(row.precision == Precision.SERVED for row in rows):
        yield SERVED_APART
    several = sorted({row.backend for row in rows if row.told_apart})
    if several:
        yield (
            f"{' and '.join(several)} measured several weights of this name: which of them belong to another engine's "
            "file nobody can tell; give each a folder or file name of its own"
        )
    threads: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        timed = [row.records[suite].threads for suite in ("throughput", "memory") if suite in row.records]
        counts = sorted({count for count in timed if count is not None})
        if counts:
            threads[" and ".join(map(str, counts))].append(row)
    if len(threads) > 1:
        yield f"threads differ ({_told({(count,): found for count, found in threads.items()})}): {SAME}"
    anchors = {anchor_of(row.records["divergence"]) for row in rows if "divergence" in row.records} - {None}
    if len(anchors) > 1:
        yield f"distances are from different fp32 rows ({', '.join(sorted(map(str, anchors)))}): measure them again"


def _told(groups: Mapping[tuple[str, ...], Sequence[Row]]) -> str:
    """`smoke: transformers gptq-int8; full: the others`: which rows are of which kind, the most of them unnamed."""
    most = max(groups, key=lambda key: (len(groups[key]), key))
    labels = [key[0] for key in groups]
    parts = []
    for key in sorted(groups, key=lambda key: (key == most, key)):
        label = key[0] if labels.count(key[0]) == 1 else f"{key[0]} asked otherwise" if key != most else key[0]
        parts.append(f"{label}: {'the others' if key == most else ', '.join(map(named, groups[key]))}")
    return "; ".join(parts)


def _settings(cell: Cell) -> tuple[str, str, str]:
    """What two rows must share to be read against each other; the profile first."""
    return cell.profile, str(cell.suite_version), _asked(cell)


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
