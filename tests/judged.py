# SPDX-License-Identifier: Apache-2.0
"""Rows of one model with known memory, speed, perplexity and answers, and what a comparison says of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from builders import divergence_samples, make_cell, make_record, memory_samples, quality_samples, sample, speed_samples

from bench.judge.answer import Answer, answers
from bench.judge.compare import compare
from bench.judge.rows import newest
from bench.records.record import Measurement, Record, Unit

SPREAD = (-0.004, -0.002, 0.0, 0.0, 0.002, 0.004)
"""Of six windows: half of Student's 95 % interval of their mean is 0.0030 nats."""
FLOOR = sample("floor_nat", [0.5] * 6, Unit.NAT, batch=4, window_tokens=2)
"""A row whose scores move by half a nat with their neighbours."""


def row(
    precision: str, *, weights: int, ln_ratio: float | None = None, decode_s: float = 0.1, prefill_s: float = 0.5,
    more: Sequence[Measurement] = (), speed: Sequence[Measurement] = (), **cell: Any,
) -> list[Record]:  # fmt: skip
    """Memory, speed and divergence of one precision; the 16-bit row has no `ln_ratio`."""
    times = speed_samples(prefill_s=[prefill_s] * 2, itl_s=[decode_s] * 4)
    records = [
        make_record(make_cell("memory", precision, **cell), measurements=memory_samples(weights=weights)),
        make_record(make_cell("throughput", precision, **cell), measurements=(*times, *speed)),
    ]
    if ln_ratio is None:
        nll = (sample("nll_nat", [2.0] * 6, Unit.NAT, window_tokens=2),)
    else:
        nll = divergence_samples(kld=[0.01] * 12, nll=[2.0 + ln_ratio + each for each in SPREAD], reference=[2.0] * 6)
    records.append(make_record(make_cell("divergence", precision, **cell), measurements=(*nll, *more)))
    return records


def scored(precision: str, right: dict[str, list[float]], more: Sequence[Measurement] = ()) -> Record:
    """Answers to tasks, half of which chance gets right."""
    return make_record(make_cell("quality", precision), measurements=(*quality_samples(right), *more))


def choices(task: str, probabilities: Sequence[float]) -> Measurement:
    """Two choices an item, the right one with these probabilities."""
    values = [math.log(p) for one in probabilities for p in (one, 1 - one)]
    labels = {"task": task, "digest": "d1", "choices": 2, "right": [0] * len(probabilities), "chance": 0.5}
    return sample("choice_loglikelihood", values, Unit.NAT, **labels)


def judged(*records: list[Record] | Record) -> list[Answer]:
    """Every row against its 16-bit row."""
    flat = [one for given in records for one in (given if isinstance(given, list) else [given])]
    return answers(compare(newest(flat))[0])


FP16 = row("fp16", weights=860)
"""1000 bytes at its peak, 10 tokens/s, 200 tokens/s."""
INT8 = row("int8", weights=460, ln_ratio=0.005)
"""600 bytes at its peak and half a percent of perplexity."""
INT4 = row("int4", weights=260, ln_ratio=math.log(1.26), decode_s=0.05, prefill_s=1.0)
"""400 bytes at its peak and 26 % of perplexity; decodes twice as fast, reads half as fast."""
