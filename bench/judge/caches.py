# SPDX-License-Identifier: Apache-2.0
"""One model's rows side by side that differ in what keys and values are kept in. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bench.judge.rows import Row
from bench.judge.stats import Estimate
from bench.records.cell import KV, KV_PRECISIONS

SUITE = "kv"


@dataclass(frozen=True, kw_only=True)
class AtDepth:
    """What one cache is at one depth; None where it was not measured, distance and floor where nothing differs."""

    distance: Estimate | None
    floor: Estimate | None
    decode: Estimate | None
    bytes_per_token: Estimate | None


@dataclass(frozen=True, kw_only=True)
class Cache:
    """One row, by its cache."""

    row: Row
    kept_in: str
    """`own` for the engine's own."""
    scratch_bytes: float | None
    """Temporary buffers of the memory suite's prompt."""
    depths: Mapping[int, AtDepth]


@dataclass(frozen=True, kw_only=True)
class Caches:
    """Rows of the same weights in one engine and scheme, the widest cache first."""

    caches: tuple[Cache, ...]

    @property
    def depths(self) -> list[int]:
        """Every depth that any of them was measured at."""
        return sorted({depth for cache in self.caches for depth in cache.depths})


def caches_side_by_side(rows: Sequence[Row]) -> list[Caches]:
    """Every model, engine and scheme that the kv suite has measured with any cache."""
    together: dict[tuple[object, ...], list[Row]] = defaultdict(list)
    for row in rows:
        if SUITE in row.records and row.missing(SUITE) is None:
            key = (row.device, row.model, row.weights, row.backend, row.precision, row.scheme, row.limit)
            together[*key, row.checkpoint.mark].append(row)
    return [Caches(caches=tuple(sorted(map(_cache, found), key=_width))) for found in together.values()]


def _cache(row: Row) -> Cache:
    found = row.figures()
    depths = sorted({int(name.rpartition(":")[2]) for name in found if name.startswith("kv_floor:")})
    scratch = found.get("workspace_bytes")
    return Cache(
        row=row,
        kept_in=str(row.records[SUITE].cell.settings.get(KV, "own")),
        scratch_bytes=scratch.value if scratch else None,
        depths={
            depth: AtDepth(
                distance=found.get(f"kv_kld:{depth}"), floor=found.get(f"kv_floor:{depth}"),
                decode=found.get(f"kv_decode_tokens_per_s:{depth}"),
                bytes_per_token=found.get(f"kv_bytes_per_token:{depth}"),
            )
            for depth in depths
        },
    )  # fmt: skip


def _width(cache: Cache) -> tuple[list[int], str]:
    parts = [] if cache.kept_in == "own" else cache.kept_in.split("/")
    return [KV_PRECISIONS.index(part) for part in parts], cache.row.way
