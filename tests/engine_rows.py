# SPDX-License-Identifier: Apache-2.0
"""Records of one model from two engines, with the fp32 row that both are measured from."""

from __future__ import annotations

from typing import Any

from builders import (
    anchor_row,
    anchor_samples,
    divergence_samples,
    make_cell,
    make_record,
    memory_samples,
    sample,
    speed_samples,
)

from bench.judge.cross_engine import Group, engines_side_by_side
from bench.judge.rows import newest
from bench.records.cell import Weights
from bench.records.record import Record, Unit

TORCH: dict[str, Any] = {"backend": "transformers", "weights": Weights.PACKAGE}


LLAMA: dict[str, Any] = {"backend": "llamacpp", "weights": Weights.PACKAGE}


RATE = (0.5, 0.25, 1.0)


def rows(precision: str, scheme: str, *, kld: float = 0.4, threads: int = 1, **where: Any) -> list[Record]:
    """Records of one row: memory, speed, and its distance from the 16-bit row and from fp32."""
    cell = {"scheme": scheme, **where}
    distance = (*divergence_samples(), *anchor_samples(kld=[kld - 0.1, kld + 0.1] * 2))
    return [
        make_record(make_cell("memory", precision, **cell), measurements=memory_samples(), threads=threads),
        make_record(make_cell("throughput", precision, **cell), measurements=speed_samples(prefill_s=RATE)),
        make_record(make_cell("divergence", precision, **cell), measurements=distance),
    ]


def reference_rows() -> list[Record]:
    """The transformers fp16 row, which ran before there was an fp32 row, and that fp32 row."""
    base = make_cell("divergence", "fp16", scheme="bf16", **TORCH)
    plain = make_record(base, measurements=(sample("nll_nat", [2.0, 3.0], Unit.NAT),))
    fp32 = {"scheme": "fp32", **TORCH}
    return [*rows("fp16", "bf16", **TORCH)[:2], plain, *rows("fp32", "fp32", **TORCH)[:2], anchor_row(base, **fp32)]


def only(records: list[Record]) -> Group:
    groups, alone = engines_side_by_side(newest(records))
    assert alone == []
    (group,) = groups
    return group
