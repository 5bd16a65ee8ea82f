# SPDX-License-Identifier: Apache-2.0
"""optimum-benchmark's report, `benchmark_report.json`: reading the prompt and generating, one folder a precision.

Those two alone: its `per_token` counts early gaps several times and its `generate` gives tokens under the unit
samples/s. Its units are kept where they are right: prefill in prompts a second, decode in tokens a second. Percentiles
are between neighbours and deviations of the whole, as its own. The report has no field for a model or a precision: the
folder says both. Pure.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from statistics import mean, pstdev

from bench.judge.speeds import main_point, number
from bench.judge.stats import quantile
from bench.records.record import Record
from bench.views.exports.identity import labels
from bench.views.exports.llama_bench import sums
from bench.views.exports.scored import Asked, Exported, measured

Json = dict[str, object]


def files(asked: Asked) -> Exported:
    """MODEL/LABEL/benchmark_report.json."""
    made = {}
    for row, label in labels(measured(asked.rows, "throughput")).items():
        if report := _report(row.records["throughput"]):
            text = json.dumps(report, indent=4) + "\n"
            made[f"{row.model}/{label}/benchmark_report.json"] = text.encode()
    return Exported(files=made)


def _report(record: Record) -> Json:
    found = main_point(record)
    report: Json = {}
    if "prefill_s" in found:
        prefill = found["prefill_s"]
        report["prefill"] = _target(prefill.values, number(prefill, "batch"), "samples/s")
    if "prefill_s" in found and "itl_s" in found:  # a served model has gaps and no prompt that was timed alone
        gaps = found["itl_s"]
        size = int(number(gaps, "per_repeat"))
        report["decode"] = _target(sums(gaps, size), size * number(gaps, "batch"), "tokens/s")
    return report


def _target(seconds: Sequence[float], volume: float, unit: str) -> Json:
    """Times of one phase, and how much was done in their mean."""
    middle, spread = mean(seconds), pstdev(seconds)
    latency: Json = {
        "unit": "s",
        "values": list(seconds),
        "count": len(seconds),
        "total": sum(seconds),
        "mean": middle,
        **{f"p{share}": quantile(seconds, share / 100) for share in (50, 90, 95, 99)},
        "stdev": spread,
        "stdev_": spread / middle * 100,
    }
    throughput = {"unit": unit, "value": volume / middle}
    return {"memory": None, "latency": latency, "throughput": throughput, "energy": None, "efficiency": None}
