# SPDX-License-Identifier: Apache-2.0
"""llama-bench's rows, as its `-o json` and `-o csv` write them: one for reading a prompt, one for generating.

Its columns keep its meanings. It reads at batch 1 alone, so larger batches are left out; `n_depth` is what stands in
the cache before a test begins, so that generating after a prompt of 512 is a test at depth 512. `avg_ts` and
`stddev_ts` are mean and standard deviation of the repeats, `samples_ts` the repeats themselves: no figure of another
tool's is mixed in. Of what no record tells there is no key in JSON and an empty cell in CSV. Pure.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from statistics import mean, stdev

from bench import escape
from bench.judge.rows import Row
from bench.judge.speeds import decode_rates, number, prefill_rates
from bench.records.record import Measurement, Record
from bench.views.exports.identity import component, labels, model_id
from bench.views.exports.scored import Asked, Exported, measured

COLUMNS = (
    "cpu_info", "gpu_info", "backends", "model_filename", "model_type", "model_size", "model_n_params", "n_threads",
    "n_prompt", "n_gen", "n_depth", "test_time", "avg_ns", "stddev_ns", "avg_ts", "stddev_ts",
)  # fmt: skip
"""Those of llama-bench's that records tell, in its order; JSON has the samples beside them, as there."""
NS = 1e9
Line = dict[str, str | int | float | list[int] | list[float]]


def files(asked: Asked) -> Exported:
    """A file of each form for every device."""
    by_device: dict[str, list[Line]] = {}
    for row, label in labels(measured(asked.rows, "throughput")).items():
        by_device.setdefault(row.device, []).extend(_lines(row, label, row.records["throughput"], asked))
    made = {}
    for device, lines in by_device.items():
        if lines:
            made[f"{component(device)}.json"] = (escape.json(json.dumps(lines, indent=2)) + "\n").encode()
            made[f"{component(device)}.csv"] = _csv(lines)
    return Exported(files=made)


def _lines(row: Row, label: str, record: Record, asked: Asked) -> Iterator[Line]:
    about = _about(row, label, record, asked)
    for found in record.measurements:
        if found.name in {"depth_prefill_s", "depth_decode_s"} and found.values:
            tokens, reads = int(number(found, "tokens")), found.name == "depth_prefill_s"
            sizes: Line = {"n_prompt": tokens * reads, "n_gen": tokens * (not reads)}
            seconds = list(found.values)
            yield (
                about
                | sizes
                | {"n_depth": int(number(found, "depth"))}
                | _times(record, seconds, [tokens / second for second in seconds])
            )
            continue
        if found.name not in {"prefill_s", "itl_s"} or number(found, "batch") != 1 or not found.values:
            continue
        prompt = int(number(found, "prompt_tokens"))
        if found.name == "prefill_s":
            test: Line = {"n_prompt": prompt, "n_gen": 0, "n_depth": 0}
            yield about | test | _times(record, list(found.values), prefill_rates(found))
        else:
            size = int(number(found, "per_repeat"))
            test = {"n_prompt": 0, "n_gen": size, "n_depth": prompt}
            yield about | test | _times(record, sums(found, size), decode_rates(found))


def sums(gaps: Measurement, size: int) -> list[float]:
    """Seconds of each repeat."""
    return [sum(gaps.values[i : i + size]) for i in range(0, len(gaps.values), size)]


def _times(record: Record, seconds: list[float], rates: list[float]) -> Line:
    nanoseconds = [round(value * NS) for value in seconds]
    several = len(rates) > 1
    return {
        "test_time": record.started,
        "avg_ns": round(mean(nanoseconds)),
        "stddev_ns": round(stdev(nanoseconds)) if several else 0,
        "avg_ts": mean(rates),
        "stddev_ts": stdev(rates) if several else 0.0,
        "samples_ns": nanoseconds,
        "samples_ts": rates,
    }


def _about(row: Row, label: str, record: Record, asked: Asked) -> Line:
    machine, entry = record.machine, asked.models.get(row.model)
    memory = row.records.get("memory")
    weights = memory.measurement("weights_bytes") if memory else None
    found: Line = {
        "cpu_info": machine.cpu or "",
        "gpu_info": "" if machine.kind == "cpu" else machine.name,
        "backends": machine.kind.upper(),
        "model_filename": f"{model_id(row, asked.models)} ({row.weights})",
        "model_type": f"{row.model} {label}",
    }
    if weights:
        found["model_size"] = round(weights.values[0])
    if entry and entry.parameters:
        found["model_n_params"] = entry.parameters
    if record.threads:
        found["n_threads"] = record.threads
    return found


def _csv(lines: list[Line]) -> bytes:
    """Every value in quotes, as llama-bench writes them."""
    file = io.StringIO()
    writer = csv.writer(file, quoting=csv.QUOTE_ALL, lineterminator="\n")
    writer.writerow(COLUMNS)
    for line in lines:
        cells = (line.get(name, "") for name in COLUMNS)
        writer.writerow([escape.cell(cell) if isinstance(cell, str) else cell for cell in cells])
    return file.getvalue().encode()
