# SPDX-License-Identifier: Apache-2.0
"""Generated answers beside lm-eval's own Hugging Face model and beside the build before: the same, how much sooner.

All answer the requests that lm-eval builds from real items (GSM8K, from a folder that is no part of this project) or
from this project's own task of answers, with the default model and the same threads: this engine as it runs, lm-eval's
`HFLM` on the same loaded weights at the best of several batch sizes, found first, and what came before: `--before`
names the folder of an older build, which answers in a process of its own; without it this engine answers one at a time
(`--plain-scoring`). In turns: each turn this engine and lm-eval answer all items and the build before its share of
them, the order moved on every turn, so that a ratio's samples are a minute apart. Every answer's text is compared.

Measuring may be cut into pieces: what `--samples` holds is not measured again, and after `--seconds` no further sample
begins. The report is made of all samples; rows of others in it are kept.

    python -m benchmarks.generation FOLDER [--items N] [--report FILE] [--samples FILE] [--before BUILD]
        [--before-commit NAME] [--llamacpp PYTHON] [--row NAME ...] [--seconds N]
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.scoring import Task, answer, load, requests  # isort: skip

import torch

from bench.catalog.entries import DEFAULT_MODEL
from bench.instruments.machine import condition, describe
from bench.instruments.roof import measure_roof
from bench.paths import ROOT
from bench.scoring.lm import EngineLM
from bench.scoring.tasks import load_tasks
from benchmarks.answering import Build, commit_of
from benchmarks.generated_report import BEFORE, OURS, THEIRS, Found, Sample, prompts, read, written

BATCHES = (16, 32, 64)
TRIAL = 16
"""Items that each batch size is tried on, at the least."""
TURNS = 3
GSM8K = {
    "output_type": "generate_until",
    "doc_to_text": "Question: {{question}}\nAnswer:",
    "doc_to_target": "{{' '+answer}}",
    "metric_list": [{"metric": "exact_match"}],
}


@dataclass(frozen=True)
class Row:
    """One row of the table."""

    note: str
    targets: tuple[float | None, float | None]
    """How many times as fast as before, and as lm-eval, this is to be."""
    shots: int | None = 0
    """Solved examples before every question, None for the project's own task."""
    engine: tuple[str, str] = ("transformers", "fp32")
    computes: str = "fp32"
    """The type whose roof counts."""


ROWS = {
    "gsm8k": Row("GSM8K zero-shot", (5, 1.3)),
    "gsm8k_5shot": Row("GSM8K, the same five solved examples before every question", (8, 2), shots=5),
    "answers": Row("the project's own answers task", (None, None), shots=None),
    "gsm8k_q8_0": Row("GSM8K zero-shot, llama.cpp", (3, None), engine=("llamacpp", "gguf-q8_0"), computes="int8"),
}


def asked_of(name: str, items: int, tokens: int, folder: Path) -> list[Any]:
    """lm-eval's requests of that many items, answers at most so long where the task is not our own."""
    row = ROWS[name]
    if row.shots is None:
        (task,) = load_tasks(["bench_answers_en"], {}).values()
        task.set_config(key="num_fewshot", value=0)
        task.build_all_requests(limit=items)
        return list(task.instances)
    generation = {"until": ["Question:", "\n\n"], "do_sample": False, "max_gen_toks": tokens}
    config = GSM8K | {"generation_kwargs": generation, "num_fewshot": row.shots}
    task = Task("gsm8k", config, items, 1, None, row.note)
    with tempfile.TemporaryDirectory() as scratch:
        return [one for item in requests("gsm8k", task, folder, Path(scratch)) for one in item]


def best_batch(theirs: Any, asked: Sequence[Any]) -> int:
    """The batch size with which lm-eval's model answers a few items soonest."""
    seconds: dict[int, float] = {}
    for size in BATCHES:
        if size <= len(asked):
            theirs.batch_size_per_gpu = size
            part = asked[: max(TRIAL, size)]
            seconds[size] = answer(theirs, part)[0] / len(part)
            if seconds[size] > 1.1 * min(seconds.values()):
                break
    print("  seconds an item by batch size:", {size: round(value, 2) for size, value in seconds.items()}, flush=True)
    return min(seconds, key=lambda size: seconds[size], default=1)


def generated(lm: EngineLM, asked: Sequence[Any]) -> tuple[float, list[str], int]:
    """Seconds, texts and generated tokens of one call."""
    lm.answers.clear()
    seconds, texts = answer(lm, asked)
    return seconds, texts, sum(one.tokens for one in lm.answers.values())


class Contenders:
    """Who answers, each made when it is first needed."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.loaded: tuple[EngineLM, Any] | None = None
        self.builds: dict[tuple[tuple[str, str], str], Build] = {}

    def here(self) -> tuple[EngineLM, Any]:
        """This engine and lm-eval's model on the same weights."""
        if self.loaded is None:
            self.loaded = load(None)
        return self.loaded

    def elsewhere(self, row: Row, who: str) -> Build:
        """A process for another environment or build."""
        key = (row.engine, who)
        if key not in self.builds:
            python = self.options.llamacpp if row.engine[0] == "llamacpp" else sys.executable
            old = who == BEFORE and self.options.before
            build = self.options.before if old else ROOT
            self.builds[key] = Build(python, build, row.engine, plain=who == BEFORE and not old)
        return self.builds[key]

    def call(self, row: Row, who: str, batch: int) -> Callable[[Sequence[Any]], tuple[float, list[str], int]]:
        """What answers requests for a row."""
        if who == THEIRS:
            theirs = self.here()[1]
            theirs.batch_size_per_gpu = batch
            return lambda asked: (*answer(theirs, asked), 0)
        if who == OURS and row.engine[0] == "transformers":
            ours = self.here()[0]
            return lambda asked: generated(ours, asked)
        return self.elsewhere(row, who).answer

    def close(self) -> None:
        """End every process."""
        for build in self.builds.values():
            build.close()


def measure(name: str, asked: Sequence[Any], contenders: Contenders, found: Found, spent: Callable[[], bool]) -> None:
    """Take the samples of a row that are missing, as long as there is time."""
    row = ROWS[name]
    if not found.has("prompts", 0):
        tokenizer = contenders.here()[0].engine
        found.add(prompts([tokenizer.encode(request.args[0]) for request in asked]))
    peers = [OURS, BEFORE] if row.engine[0] == "llamacpp" else [OURS, THEIRS, BEFORE]
    if found.roof is None and not spent():
        rates = measure_roof("torch", "cpu", torch.get_num_threads()).matrix_per_s
        found.add(Sample(who="roof", turn=0, seconds=0.0, roof=max(rates[row.computes])))
    if THEIRS in peers and found.batch is None and not spent():
        found.add(Sample(who="batch", turn=0, seconds=0.0, batch=best_batch(contenders.here()[1], asked)))
    for turn in range(TURNS):
        for who in peers[turn % len(peers) :] + peers[: turn % len(peers)]:
            if found.has(who, turn) or spent():
                continue
            places = range(turn, len(asked), TURNS) if who == BEFORE else range(len(asked))
            call = contenders.call(row, who, found.batch or 1)
            call([asked[0]])  # what is made once is made now
            seconds, texts, tokens = call([asked[place] for place in places])
            load = condition().load_1min or 0.0
            told = dict(zip(places, texts, strict=True))
            found.add(Sample(who=who, turn=turn, seconds=seconds, texts=told, tokens=tokens, load=load))
            print(f"  {name} {who} {turn}: {seconds:.1f} s of {len(places)} items", flush=True)


def main() -> int:
    """Measure, print, write; 1 if an answer differs from one generated by itself."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path, help="folder that holds gsm8k.jsonl")
    parser.add_argument("--items", type=int, default=64)
    parser.add_argument("--tokens", type=int, default=96, help="most tokens of an answer")
    parser.add_argument("--report", type=Path, help="Markdown file to write")
    parser.add_argument("--samples", type=Path, help="file of samples: those in it are not measured again")
    parser.add_argument("--before", type=Path, help="folder of the build before; without it: one answer at a time")
    parser.add_argument("--before-commit", help="its commit; without it git is asked")
    parser.add_argument("--llamacpp", metavar="PYTHON", help="a Python with llama-cpp-python, for its row")
    parser.add_argument("--row", action="append", choices=list(ROWS), help="only these")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="begin no further sample after so long")
    options = parser.parse_args()
    before = "this engine one at a time"
    if options.before:
        before = f"the build before (commit {options.before_commit or commit_of(options.before)})"
    end = time.monotonic() + options.seconds
    names = options.row or [name for name, row in ROWS.items() if options.llamacpp or row.engine[0] != "llamacpp"]
    founds, contenders = read(options.samples), Contenders(options)
    try:
        for name in names:
            print(name, flush=True)
            found = founds.setdefault(name, Found(name, options.samples))
            asked = asked_of(name, options.items, options.tokens, options.folder)
            measure(name, asked, contenders, found, lambda: time.monotonic() > end)
    finally:
        contenders.close()
    about = {
        "date": time.strftime("%Y-%m-%d", time.gmtime()), "model": DEFAULT_MODEL, "turns": TURNS,
        "threads": torch.get_num_threads(), "machine": describe("cpu").device, "tokens": options.tokens,
        "lm_eval": version("lm_eval"), "batches": ", ".join(map(str, BATCHES)),
        "before": before,
    }  # fmt: skip
    rows = {name: (row.note, row.targets) for name, row in ROWS.items()}
    text, lines = written(founds, rows, about, options.report)
    print("\n".join(lines))
    if options.report:
        options.report.parent.mkdir(parents=True, exist_ok=True)
        options.report.write_text(text, encoding="utf-8")
    whole = [found for found in founds.values() if found.seconds(OURS)]
    if whole:
        first = next((found for found in whole if found.seconds(THEIRS)), whole[0])
        other = THEIRS if first.seconds(THEIRS) else BEFORE
        (value, low, high), (same, count) = first.ratio(other), first.equal(other)
        print(f"generated answers: {value:.2f} times {other} ({low:.2f} to {high:.2f}), {same} of {count} equal")
    return 0 if all(same == count for found in whole for same, count in [found.equal(BEFORE)]) else 1


if __name__ == "__main__":
    sys.exit(main())
