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
    "KL: KL(own cache || this) per token in nats, read in pieces through the cache; in brackets the floor, the own",
    "cache in pieces of half the size: a distance of that size is noise. decode: tokens / s behind so many tokens.",
)
NOTHING = "no record of the kv suite: `bench run --kv int8`, and `bench run --suite kv` for the engine's own cache"


def views(groups: Sequence[Caches]) -> list[View]:
    """A table for each engine and scheme of a model."""
    return [View(title=_title(group), table=_table(group), notes=NOTES) for group in groups]


def _title(group: Caches) -> str:
    row = group.caches[0].row
    return f"{row.model} {row.backend} {row.scheme} on {row.device}, caches side by side"


def _table(group: Caches) -> Table:
    columns = [f"{what} @ {depth}" for depth in group.depths for what in ("KL", "decode")]
    made = Table(["cache", "per 1,000 tokens", "scratch", *columns])
    for cache in group.caches:
        cells = [text for depth in group.depths for text in _at(cache.depths.get(depth))]
        made.rows.append([f"{cache.kept_in}{_attention(cache)}", _held(cache), _scratch(cache), *cells])
    return made


def _attention(cache: Cache) -> str:
    """How it attends, where that is said."""
    said = next((part for part in cache.row.way.split(", ") if part.startswith("attention ")), "")
    return f" ({said.removeprefix('attention ')})" if said else ""


def _held(cache: Cache) -> str:
    found = next((at.bytes_per_token for at in cache.depths.values() if at.bytes_per_token), None)
    return human_bytes(1000 * found.value) if found else "-"


def _scratch(cache: Cache) -> str:
    return human_bytes(cache.scratch_bytes) if cache.scratch_bytes is not None else "-"


def _at(found: AtDepth | None) -> Iterator[str]:
    if found is None:
        yield from ("-", "-")
        return
    floor = f" ({found.floor.value:.2g})" if found.floor else ""
    yield (f"{found.distance.value:.3g}" if found.distance else "0 by definition") + floor
    yield written(found.decode, Unit.RATE) if found.decode else "-"


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
