# SPDX-License-Identifier: Apache-2.0
"""Records of two precisions of one model, and their comparison."""

from __future__ import annotations

from typing import Any

from builders import (
    make_cell,
    make_record,
    memory_samples,
    quality_samples,
)

from bench.judge.compare import Comparison, compare
from bench.judge.rows import newest
from bench.records.record import Record

RIGHT = {"task": [1.0] * 80 + [0.0] * 20}


LOST = {"task": [0.0] * 40 + [1.0] * 40 + [0.0] * 20}


def memory(precision: str, weights: int, **cell: Any) -> Record:
    return make_record(make_cell("memory", precision, **cell), measurements=memory_samples(weights=weights))


def quality(precision: str, answers: dict[str, list[float]], digest: str = "d1", **fields: Any) -> Record:
    return make_record(make_cell("quality", precision), measurements=quality_samples(answers, digest=digest), **fields)


def only(records: list[Record]) -> Comparison:
    found, alone = compare(newest(records))
    assert alone == []
    (comparison,) = found
    return comparison
