# SPDX-License-Identifier: Apache-2.0
"""Caches of one model side by side, as `bench compare --across kv` writes them. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from bench.judge.caches import AtDepth, Cache, Caches
from bench.judge.stats import Estimate
from bench.units import human_bytes
from bench.views.cells import keys, written
from bench.views.fields import Unit
from bench.views.formats import Flat, Table, View
from bench.views.outputs import CACHES

NOTES = (
    "KL: KL(own cache || this) per token before that depth, attending alike, read in pieces through the cache.",
    "floor: the own cache in pieces of half the size; a KL of that size is noise.",
    "decode: tokens / s behind so many tokens. scratch: temporary buffers of the memory suite's prompt.",
)
NOTHING = "no record of the kv suite: `bench run --kv int8`, and `bench run --suite kv` for the engine's own cache"


def views(groups: Sequence[Caches]) -> list[View]:
    """A table for each engine and scheme of a model."""
    return [View(title=_title(group), table=_table(group), notes=NOTES) for group in groups]


def _title(group: Caches) -> str:
    row = group.caches[0].row
    return f"{row.model} {row.backend} {row.scheme} on {row.device}, caches side by side"


def _table(group: Caches) -> Table:
    """A line for each depth and cache, so that what is compared stands one beneath the other."""
    made = Table(["depth", "cache", "KL, nats", "floor", "decode", "per 1,000 tokens", "scratch"])
    for depth in group.depths:
        for cache in group.caches:
            if (found := cache.depths.get(depth)) is not None:
                scratch = "-" if cache.scratch_bytes is None else human_bytes(cache.scratch_bytes)
                made.rows.append([f"{depth:,}", f"{cache.kept_in}{_attention(cache)}", *_at(found), scratch])
    return made


def _attention(cache: Cache) -> str:
    """How it attends, where that is said."""
    said = next((part for part in cache.row.way.split(", ") if part.startswith("attention ")), "")
    return f" ({said.removeprefix('attention ')})" if said else ""


def _at(found: AtDepth) -> Iterator[str]:
    """Distance, floor, speed and bytes at a depth."""
    yield "reference" if found.distance is None else f"{found.distance.value:.3g}"
    yield "-" if found.floor is None else f"{found.floor.value:.2g}"
    yield "-" if found.decode is None else written(found.decode, Unit.RATE)
    yield "-" if found.bytes_per_token is None else human_bytes(1000 * found.bytes_per_token.value)


def flats(groups: Sequence[Caches]) -> list[Flat]:
    """One row for each cache and depth, in base units."""
    return [
        CACHES.flat(_flat(cache, depth, at)) for g in groups for cache in g.caches for depth, at in cache.depths.items()
    ]


def _flat(cache: Cache, depth: int, at: AtDepth) -> Flat:
    row = cache.row

    def value(found: Estimate | None) -> float | None:
        return found.value if found else None

    return {
        **keys(row), "kv": cache.kept_in, "depth": depth, "kv_kld": value(at.distance),
        "kv_floor": value(at.floor), "decode_tokens_per_s": value(at.decode),
        "kv_bytes_per_token": value(at.bytes_per_token), "workspace_bytes": cache.scratch_bytes,
    }  # fmt: skip
