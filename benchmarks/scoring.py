# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: E402 - the libraries read the environment when they are imported
"""This project's scoring beside lm-eval's own Hugging Face model: the same answers, and how much sooner.

Both score the requests that lm-eval itself builds from real items (a folder that is no part of this project, see
TASKS), on one loaded model (the default one), float32, the same threads, in one process. lm-eval's model gets
`softmax_dtype="float32"` and, for each task, the best of several batch sizes, found first on a few items. Then slice
after slice of the items is scored by both, the order swapped every slice; a slice's ratio of seconds is one sample.
What is timed is the call that answers requests, tokenizing included, building them not. Every answer is compared:
each item's choice, log-likelihoods, perplexities. Writes a Markdown report.

    python -m benchmarks.scoring FOLDER [--report FILE] [--task NAME ...] [--items N] [--threads N]
"""

import argparse
import json
import os
import random
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

for variable in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "TRANSFORMERS_OFFLINE"):
    os.environ.setdefault(variable, "1")

import numpy as np
import torch
from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager

from bench.catalog.entries import DEFAULT_MODEL
from bench.engines.registry import backend
from bench.instruments.machine import condition, describe
from bench.judge.stats import median_estimate
from bench.scoring.lm import EngineLM
from benchmarks import default_model
from benchmarks.answering import MAX_LENGTH

BATCHES = (1, 4, 8, 16, 32)
TRIAL_TOKENS = 2500
"""About how many tokens each batch size is tried on."""
QUESTION = {"doc_to_text": "Question: {{question}}\nAnswer:", "doc_to_choice": "choices", "doc_to_target": "gold"}


@dataclass(frozen=True)
class Task:
    """One row of the table."""

    file: str
    config: dict[str, Any]
    items: int
    """Items scored."""
    slices: int
    target: float | None
    """How many times as fast this is to be."""
    note: str
    prepare: Callable[[list[dict[str, Any]]], list[dict[str, Any]]] = lambda documents: documents
    """What the task's documents are made of the file's."""


def endings(documents: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Four-choice items with sentence-long endings: a passage without its last sentence, and four last sentences."""
    cut = []
    for document in documents:
        stem, _, last = document["text"].replace("\n\n", " ").rpartition(". ")
        if len(stem.split()) >= 25 and 10 <= len(last.split()) <= 40:
            cut.append((stem + ".", last))
    made = []
    for index, (stem, last) in enumerate(cut):
        others = [cut[(index + step) % len(cut)][1] for step in (1, 2, 3)]
        gold = index % 4
        made.append({"question": stem, "choices": [*others[:gold], last, *others[gold:]], "gold": gold})
    return made


TASKS = {
    "arc_easy": Task("arc_easy", QUESTION, 500, 10, 3.0, "zero-shot, four short answers"),
    "piqa": Task(
        "piqa",
        {"doc_to_text": "Question: {{goal}}\nAnswer:", "doc_to_choice": "{{[sol1, sol2]}}", "doc_to_target": "label"},
        500, 10, 1.4, "two sentence-long solutions",
    ),
    "winogrande": Task(
        "winogrande",
        {"doc_to_text": "gold", "doc_to_choice": "context_options", "doc_to_target": "continuation"},
        500, 10, 1.4, "two contexts, one continuation",
    ),
    "blimp": Task(
        "blimp_100",
        {"doc_to_text": "", "doc_to_choice": "{{[sentence_good, sentence_bad]}}", "doc_to_target": 0},
        500, 10, None, "minimal pairs of sentences",
    ),
    "lambada": Task(
        "lambada_openai",
        {
            "output_type": "loglikelihood",
            "doc_to_text": "{{text.split(' ')[:-1]|join(' ')}}",
            "doc_to_target": "{{' '+text.split(' ')[-1]}}",
            "metric_list": [{"metric": "acc"}],
        },
        500, 10, 1.0, "one last word, nothing to share",
    ),
    "endings": Task(
        "lambada_openai",
        {"doc_to_text": "{{question}}", "doc_to_choice": "choices", "doc_to_target": "gold"},
        100, 5, 2.0, "LAMBADA passages without their last sentence; four last sentences to choose from", endings,
    ),
    "arc_easy_5shot": Task(
        "arc_easy", QUESTION | {"num_fewshot": 5}, 40, 4, 5.0, "the same five solved examples before every question"
    ),
    "wikitext": Task(
        "wikitext2_test",
        {
            "output_type": "loglikelihood_rolling",
            "doc_to_text": "",
            "doc_to_target": "{{page}}",
            "metric_list": [{"metric": "word_perplexity"}],
        },
        6, 6, 1.0, "rolling perplexity of whole articles, windows of 2,048 tokens",
    ),
}  # fmt: skip


@dataclass
class Found:
    """What was seen of one task."""

    batch: int = 0
    ours: list[float] = field(default_factory=list)
    theirs: list[float] = field(default_factory=list)
    """Seconds of each slice."""
    answers: list[tuple[Instance, Any, Any]] = field(default_factory=list)
    """Request, our answer, lm-eval's answer."""


def requests(name: str, task: Task, folder: Path, scratch: Path) -> list[list[Instance]]:
    """lm-eval's requests of each chosen item."""
    documents = [json.loads(line) for line in (folder / f"{task.file}.jsonl").read_text("utf-8").splitlines()]
    random.Random(name).shuffle(documents)
    documents = task.prepare(documents)
    files = {"test": documents[5 : 5 + task.items], "train": documents[:5]}
    for split, held in files.items():
        (scratch / f"{name}-{split}.jsonl").write_text("".join(json.dumps(d) + "\n" for d in held), "utf-8")
    config = {
        "task": name,
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {split: str(scratch / f"{name}-{split}.jsonl") for split in files}},
        "test_split": "test",
        "fewshot_split": "train",
        "fewshot_config": {"sampler": "first_n"},
        "num_fewshot": 0,
        "output_type": "multiple_choice",
        "metric_list": [{"metric": "acc"}],
        **task.config,
    }
    loaded = TaskManager(include_defaults=False).load([config])["tasks"][name]
    loaded.build_all_requests()
    items: dict[int, list[Instance]] = {}
    for request in loaded.instances:
        items.setdefault(request.doc_id, []).append(request)
    return list(items.values())


def answer(model: Any, asked: Sequence[Instance]) -> tuple[float, list[Any]]:
    """Seconds and answers of one call."""
    start = time.perf_counter()
    answers = getattr(model, asked[0].request_type)(list(asked), disable_tqdm=True)
    return time.perf_counter() - start, answers


def best_batch(theirs: HFLM, items: Sequence[Sequence[Instance]]) -> int:
    """The batch size with which lm-eval's model answers a few items soonest, each tried once after a warm-up."""
    if items[0][0].request_type == "loglikelihood_rolling":
        sizes, asked = BATCHES[:2], list(items[0])
    else:
        each = np.mean([len(theirs.tok_encode("".join(r.args))) for item in items[:20] for r in item])
        count = max(16, int(TRIAL_TOKENS / each))
        asked, sizes = [r for item in items for r in item][:count], [b for b in BATCHES if b <= count]
    seconds = {}
    for size in sizes:
        theirs.batch_size_per_gpu = size
        answer(theirs, asked[: min(4, len(asked))])
        seconds[size], _ = answer(theirs, asked)
    print("  seconds by batch size:", {size: round(value, 2) for size, value in seconds.items()}, flush=True)
    return min(seconds, key=lambda size: seconds[size])


def run(name: str, task: Task, folder: Path, ours: EngineLM, theirs: HFLM) -> Found:
    """Score one task's slices with both."""
    with tempfile.TemporaryDirectory() as scratch:
        items = requests(name, task, folder, Path(scratch))
    found = Found(batch=best_batch(theirs, items))
    theirs.batch_size_per_gpu = found.batch
    for index in range(task.slices):
        asked = [request for item in items[index :: task.slices] for request in item]
        taken = {model: answer(model, asked) for model in ((ours, theirs) if index % 2 else (theirs, ours))}
        found.ours.append(taken[ours][0])
        found.theirs.append(taken[theirs][0])
        found.answers += zip(asked, taken[ours][1], taken[theirs][1], strict=True)
    return found


def choices(found: Found, which: int) -> list[int | bool]:
    """Each item's choice: the likeliest continuation, or whether the one continuation is what greedy decoding gives."""
    by_item: dict[int, list[Any]] = {}
    for entry in found.answers:
        by_item.setdefault(entry[0].doc_id, []).append(entry[which])
    return [
        bool(answers[0][1]) if len(answers) == 1 else max(range(len(answers)), key=lambda i: answers[i][0])
        for answers in by_item.values()
    ]


def agreement(found: Found) -> tuple[str, bool]:
    """How far the answers agree, in words, and whether that is as near as it has to be."""
    if isinstance(found.answers[0][1], float):
        words = sum(len(request.doc["page"].split()) for request, _, _ in found.answers)
        ours, theirs = (np.exp(-sum(entry[i] for entry in found.answers) / words) for i in (1, 2))
        apart = abs(ours / theirs - 1)
        return f"word perplexity {ours:.4f} and {theirs:.4f}, {apart:.1e} apart", bool(apart <= 1e-4)
    ours, theirs = choices(found, 1), choices(found, 2)
    same = sum(one == two for one, two in zip(ours, theirs, strict=True))
    apart = max(abs(entry[1][0] - entry[2][0]) for entry in found.answers)
    text = f"{same} of {len(ours)} choices equal, log-likelihoods at most {apart:.1e} nats apart"
    return text, same == len(ours) and apart <= 5e-3


def row(name: str, task: Task, found: Found) -> tuple[str, bool]:
    """The task's line of the table, and whether it holds what it is to hold."""
    ratios = [theirs / ours for ours, theirs in zip(found.ours, found.theirs, strict=True)]
    speed = median_estimate(ratios)
    text, agrees = agreement(found)
    items = len({entry[0].doc_id for entry in found.answers})
    interval = f"{speed.low:.2f} to {speed.high:.2f}" if speed.low is not None else "one slice"
    reached = task.target is None or speed.value >= task.target
    target = "" if task.target is None else f"{task.target:g}" + ("" if reached else ", missed")
    cells = [
        name, task.note, str(items), str(found.batch), f"{sum(found.theirs):.1f}", f"{sum(found.ours):.1f}",
        f"{speed.value:.2f} ({interval})", target, text + ("" if agrees else ": NOT THE SAME"),
    ]  # fmt: skip
    return f"| {' | '.join(cells)} |", agrees and reached


HEADER = """# Scoring beside lm-eval

`python -m benchmarks.scoring FOLDER --report FILE`, {date}. {model}, float32, {threads} threads, {machine}; load before
{before:.2f}, after {after:.2f}. lm-eval {lm_eval}'s `HFLM(softmax_dtype="float32")` at its best batch size of
{batches} (rolling: of 1 and 4), against this project's engine, on the same loaded weights and the same requests, slice
after slice in turns. *Times as fast*: median over the slices of lm-eval's seconds by ours, with the order-statistic
interval of at least 95 % (with fewer than six slices: the range). Seconds are of all slices.

| task | what it is | items | best batch | lm-eval, s | ours, s | times as fast | target | answers |
|---|---|---|---|---|---|---|---|---|
"""


def load(threads: int | None) -> tuple[EngineLM, HFLM]:
    """The default model, once, as both see it."""
    engines = backend("transformers")
    engine = default_model.load(engines, engines.scheme("fp32"), threads=threads)
    theirs = HFLM(
        pretrained=engine.model, tokenizer=engine.tokenizer, max_length=MAX_LENGTH, softmax_dtype="float32",
        batch_size=1, device="cpu",
    )  # fmt: skip
    return EngineLM(engine, MAX_LENGTH, lambda done, total: None), theirs


def main() -> int:
    """Measure, print, write; 1 if an answer differs or a target is missed."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path, help="folder of the items: arc_easy.jsonl, piqa.jsonl ...")
    parser.add_argument("--report", type=Path, help="Markdown file to write")
    parser.add_argument("--task", action="append", choices=list(TASKS), help="only these")
    parser.add_argument("--items", type=int, help="at most so many items of each task")
    parser.add_argument("--threads", type=int)
    options = parser.parse_args()
    before = condition().load_1min or 0.0
    ours, theirs = load(options.threads)
    rows, good = [], True
    for name in options.task or TASKS:
        task = TASKS[name]
        items = min(task.items, options.items or task.items)
        task = replace(task, items=items, slices=max(1, task.slices * items // task.items))
        start = time.perf_counter()
        print(name, flush=True)
        line, holds = row(name, task, run(name, task, options.folder, ours, theirs))
        rows.append(line)
        good &= holds
        print(f"  {line}\n  {time.perf_counter() - start:.0f} s", flush=True)
    machine = describe("cpu")
    header = HEADER.format(
        date=time.strftime("%Y-%m-%d", time.gmtime()), model=DEFAULT_MODEL, threads=torch.get_num_threads(),
        machine=machine.device, before=before, after=condition().load_1min or 0.0, lm_eval=version("lm_eval"),
        batches=", ".join(map(str, BATCHES)),
    )  # fmt: skip
    if options.report:
        options.report.parent.mkdir(parents=True, exist_ok=True)
        options.report.write_text(header + "\n".join(rows) + "\n", encoding="utf-8")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
