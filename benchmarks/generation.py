# SPDX-License-Identifier: Apache-2.0
"""Generated answers beside lm-eval's own Hugging Face model and beside one at a time: the same, how much sooner.

All three answer the requests that lm-eval builds from GSM8K items (a folder that is no part of this project), on one
loaded model (the default one), float32, the same threads, in one process: this engine as it runs, the same engine as
`--plain-scoring` runs it (one answer at a time, nothing shared), and lm-eval's `HFLM` at the best of several batch
sizes, found first. Slice after slice is answered by each, the order turned every slice; a slice's ratio of seconds is
one sample. Every answer's text is compared. Writes a Markdown report.

    python -m benchmarks.generation FOLDER [--items N] [--tokens N] [--report FILE] [--task NAME ...] [--threads N]
"""

from __future__ import annotations

import argparse
import copy
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.scoring import MAX_LENGTH, Task, answer, load, requests  # isort: skip

import torch

from bench.catalog.entries import DEFAULT_MODEL
from bench.instruments.machine import condition, describe
from bench.judge.stats import median_estimate
from bench.scoring.lm import EngineLM

BATCHES = (8, 16, 32)
TRIAL = 8
"""Items that each batch size is tried on, at the least."""
SLICES = 4
OURS, PLAIN, THEIRS = "together", "one at a time", "lm-eval"
GSM8K = {
    "output_type": "generate_until",
    "doc_to_text": "Question: {{question}}\nAnswer:",
    "doc_to_target": "{{' '+answer}}",
    "metric_list": [{"metric": "exact_match"}],
}
SHOTS = {"gsm8k": 0, "gsm8k_5shot": 5}
NOTES = {0: "zero-shot", 5: "the same five solved examples before every question"}


@dataclass
class Found:
    """What was seen of one task."""

    batch: int
    seconds: dict[str, list[float]] = field(default_factory=lambda: {OURS: [], PLAIN: [], THEIRS: []})
    """Of each slice."""
    texts: dict[str, list[str]] = field(default_factory=lambda: {OURS: [], PLAIN: [], THEIRS: []})

    def ratio(self, other: str) -> tuple[float, float, float]:
        """Median of the slices' ratios of another's seconds to ours, with its interval (the range of few slices)."""
        ratios = [theirs / ours for ours, theirs in zip(self.seconds[OURS], self.seconds[other], strict=True)]
        found = median_estimate(ratios)
        low = min(ratios) if found.low is None else found.low
        high = max(ratios) if found.high is None else found.high
        return found.value, low, high

    def equal(self, other: str) -> int:
        """Answers that are the same text."""
        return sum(one == two for one, two in zip(self.texts[OURS], self.texts[other], strict=True))


def asked_of(name: str, items: int, tokens: int, folder: Path) -> list[Any]:
    """lm-eval's requests of that many items."""
    generation = {"until": ["Question:", "\n\n"], "do_sample": False, "max_gen_toks": tokens}
    config = GSM8K | {"generation_kwargs": generation, "num_fewshot": SHOTS[name]}
    task = Task("gsm8k", config, items, SLICES, None, NOTES[SHOTS[name]])
    with tempfile.TemporaryDirectory() as scratch:
        return [request for item in requests(name, task, folder, Path(scratch)) for request in item]


def best_batch(theirs: Any, asked: Sequence[Any], sizes: Sequence[int]) -> int:
    """The batch size with which lm-eval's model answers a few items soonest."""
    seconds = {}
    for size in sizes:
        theirs.batch_size_per_gpu = size
        seconds[size] = answer(theirs, asked[: max(TRIAL, size)])[0] / len(asked[: max(TRIAL, size)])
    print("  seconds an item by batch size:", {size: round(value, 2) for size, value in seconds.items()}, flush=True)
    return min(seconds, key=lambda size: seconds[size])


def run(asked: Sequence[Any], models: dict[str, Any], sizes: Sequence[int]) -> Found:
    """Answer slice after slice with each model."""
    found = Found(batch=best_batch(models[THEIRS], asked, sizes))
    models[THEIRS].batch_size_per_gpu = found.batch
    names = list(models)
    slices = min(SLICES, max(1, len(asked) // 8))
    for index in range(slices):
        part = asked[index::slices]
        for name in names[index % 3 :] + names[: index % 3]:
            seconds, texts = answer(models[name], part)
            found.seconds[name].append(seconds)
            found.texts[name] += texts
    return found


def row(name: str, found: Found) -> str:
    """The task's line of the table."""
    count = len(found.texts[OURS])
    cells = [name, NOTES[SHOTS[name]], str(count), str(found.batch)]
    cells += [f"{sum(found.seconds[who]):.1f}" for who in (THEIRS, PLAIN, OURS)]
    for other in (PLAIN, THEIRS):
        value, low, high = found.ratio(other)
        cells.append(f"{value:.2f} ({low:.2f} to {high:.2f}), {found.equal(other)} of {count} equal")
    return f"| {' | '.join(cells)} |"


HEADER = """# Generated answers beside lm-eval

`python -m benchmarks.generation FOLDER --report FILE`, {date}. {model}, float32, {threads} threads, {machine}; load
before {before:.2f}, after {after:.2f}. GSM8K, answers of at most {tokens} tokens. This engine as it runs, against
itself with `--plain-scoring` (*alone*: one at a time) and against lm-eval {lm_eval}'s `HFLM` at its best batch size of
{batches}, on the same loaded weights and requests, slice after slice in turns. *Against*: median over the slices of the
other's seconds by ours, with the order-statistic interval of at least 95 % (with fewer than six slices: the range).
Equal: the same text. Seconds are of all slices.

| task | what it is | items | best batch | lm-eval, s | alone, s | ours, s | against alone | against lm-eval |
|---|---|---|---|---|---|---|---|---|
"""


def main() -> int:
    """Measure, print, write; 1 if an answer differs from one generated by itself."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path, help="folder that holds gsm8k.jsonl")
    parser.add_argument("--items", type=int, default=64)
    parser.add_argument("--tokens", type=int, default=96, help="most tokens of an answer")
    parser.add_argument("--report", type=Path, help="Markdown file to write")
    parser.add_argument("--task", action="append", choices=list(SHOTS), help="only these")
    parser.add_argument("--batch", action="append", type=int, help="batch sizes that lm-eval's model is tried at")
    parser.add_argument("--threads", type=int)
    options = parser.parse_args()
    before = condition().load_1min or 0.0
    ours, theirs = load(options.threads)
    alone = copy.copy(ours.engine)
    alone.plain_scoring = True
    vars(alone).pop("generates_together", None)
    models = {OURS: ours, PLAIN: EngineLM(alone, MAX_LENGTH, lambda done, total: None), THEIRS: theirs}
    rows, all_found = [], []
    for name in options.task or SHOTS:
        print(name, flush=True)
        found = run(asked_of(name, options.items, options.tokens, options.folder), models, options.batch or BATCHES)
        all_found.append(found)
        rows.append(row(name, found))
        print(f"  {rows[-1]}", flush=True)
    header = HEADER.format(
        date=time.strftime("%Y-%m-%d", time.gmtime()), model=DEFAULT_MODEL, threads=torch.get_num_threads(),
        machine=describe("cpu").device, before=before, after=condition().load_1min or 0.0, tokens=options.tokens,
        lm_eval=version("lm_eval"), batches=", ".join(map(str, options.batch or BATCHES)),
    )  # fmt: skip
    if options.report:
        options.report.parent.mkdir(parents=True, exist_ok=True)
        options.report.write_text(header + "\n".join(rows) + "\n", encoding="utf-8")
    value, low, high = all_found[0].ratio(THEIRS)
    equal, count = all_found[0].equal(THEIRS), len(all_found[0].texts[OURS])
    print(f"generated answers: {value:.2f} times lm-eval ({low:.2f} to {high:.2f}), {equal} of {count} equal")
    return 0 if all(found.equal(PLAIN) == len(found.texts[OURS]) for found in all_found) else 1


if __name__ == "__main__":
    sys.exit(main())
