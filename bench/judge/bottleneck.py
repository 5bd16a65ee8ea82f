# SPDX-License-Identifier: Apache-2.0
"""Why a row is as fast as it is, and what would change that: its speeds held against its device's roofs. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from bench.judge.kept import kept
from bench.judge.speeds import compute_type, main_point, shares_of_roof
from bench.judge.stats import Estimate
from bench.records.record import Record
from bench.records.surroundings import ROOF_METHOD, Roof

BOUND = 0.5
"""From this share of its roof on, the roof costs more time than everything else together."""
FASTER = 1.2
"""A type must be so many times faster than another to count: looks at one machine differ by up to a tenth."""
FLOATS = {"fp32": 4, "bf16": 2, "fp16": 2}
"""Types that a model can be loaded in without being quantized, and the bytes of a weight."""


class Lever(StrEnum):
    """What would make a row faster."""

    FEWER_BYTES = "fewer bytes"
    """Memory is what it waits for: a smaller format."""
    ANOTHER_TYPE = "another type"
    """This device multiplies another type faster: see `fastest`."""
    NOTHING = "nothing"
    """Neither: it is at the roof of its device's best type, or its kernels wait for something that no roof tells."""


@dataclass(frozen=True, kw_only=True)
class Bottleneck:
    """Both speeds of a row against the roofs of its device. None wherever the record or its roof does not tell."""

    decode_share: Estimate | None
    """Decode as a share of what memory sustains."""
    decode_lever: Lever | None
    prefill_share: Estimate | None
    """Prefill as a share of the matrix rate of the type it computes in."""
    prefill_share_of_fastest: Estimate | None
    """The same of the rate of `fastest`: what an emulated type leaves unused."""
    prefill_lever: Lever | None
    compute: str | None
    """The type that its kernels multiply in: fp32, bf16, fp16, int8."""
    emulated: bool | None
    """Whether the device multiplies that type slower than fp32, having no units for it."""
    fp32_times: float | None
    """How many times faster it multiplies fp32: below 1 where the type has units of its own."""
    fastest: str | None
    """Of fp32, bf16, fp16 and its own type the one that is multiplied fastest; its own unless FASTER times faster."""
    fastest_times: float | None
    """How many times faster that is: 1 for its own."""


@kept(Bottleneck)
def why_this_fast(record: Record) -> Bottleneck:
    """What the speeds of a throughput record tell beside its run's roof. Other records give None throughout."""
    roof, kind = record.before.roof, compute_type(record)
    shares = shares_of_roof(main_point(record), roof)
    decode, prefill = shares.get("decode_bandwidth_share"), shares.get("prefill_matrix_share")
    known = roof.rates() if roof and roof.method >= ROOF_METHOD else {}  # an older roof may be of the wrong layout
    own = known.get(kind or "")
    fp32 = known.get("fp32")
    times = fp32 / own if own and fp32 else None
    fastest = _fastest(known, kind) if own and kind else None
    ahead = known[fastest] / own if own and fastest else None
    return Bottleneck(
        decode_share=decode,
        decode_lever=_decode_lever(decode, roof, kind),
        prefill_share=prefill,
        prefill_share_of_fastest=prefill.scaled(1 / ahead) if prefill and ahead else None,
        prefill_lever=None if ahead is None else Lever.ANOTHER_TYPE if ahead > 1 else Lever.NOTHING,
        compute=kind,
        emulated=None if times is None else times >= FASTER,
        fp32_times=times,
        fastest=fastest,
        fastest_times=ahead,
    )


def _fastest(rates: dict[str, float], own: str) -> str:
    best = max((name for name in rates if name in FLOATS), key=rates.__getitem__, default=own)
    return best if rates[best] >= FASTER * rates[own] else own


def _decode_lever(share: Estimate | None, roof: Roof | None, kind: str | None) -> Lever | None:
    """Fewer bytes where memory takes most of the time; else another type whose weights are read faster."""
    if share is None or roof is None:
        return None
    if share.value >= BOUND:
        return Lever.FEWER_BYTES
    weights = {name: rate / FLOATS[name] for name, rate in roof.reads().items() if name in FLOATS}
    if kind in weights and max(weights.values()) >= FASTER * weights[kind]:
        return Lever.ANOTHER_TYPE
    return Lever.NOTHING
