# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: E402 - the libraries read the environment when they are imported
"""Scoring in every scheme: this build beside an earlier one and lm-eval's own model, on the same weights.

As `benchmarks.scoring`, whose tasks, requests and comparison these are, with a third who answers: an earlier checkout
of this project (`--before`). This build and that one score in processes of their own (`benchmarks.answering`), so that
nothing that one contender leaves in memory meets the next; who is not asked waits. lm-eval's model has the best
batch size of several, but one sequence at a time at LLM.int8(), where a score depends on what stands beside it. The
order of the three turns from slice to slice.

What must be computed at least, in a table of its own: the linear layers over every token that differs (a beginning that
requests share once, at LLM.int8() every sequence that differs), and the head where something is scored. Its share of
the roof is that number of operations over our seconds, over the best matrix rate that was measured of the type that the
scheme multiplies in.

    python -m benchmarks.packs FOLDER --before CHECKOUT [--before-commit NAME] [--scheme NAME] [--task NAME ...]
        [--items N] [--samples FILE] [--report FILE]

`--samples` keeps what was measured, so that one report may be made of several short turns.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

for variable in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "TRANSFORMERS_OFFLINE"):
    os.environ.setdefault(variable, "1")

import torch
from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM

from bench.engines.registry import backend
from bench.engines.token_tree import shared
from bench.instruments.machine import condition, describe
from bench.instruments.roof import measure_roof
from bench.judge.stats import median_estimate
from bench.paths import ROOT
from bench.scoring.lm import EngineLM
from benchmarks import default_model
from benchmarks.answering import Build, commit_of
from benchmarks.scoring import MAX_LENGTH, TASKS, Found, agreement, answer, best_batch, requests

MULTIPLIES = {"fp32": "fp32", "bf16": "bf16", "bnb-nf4": "bf16", "bnb-int8": "int8"}
"""The type of a scheme's products on a CPU with AVX-512 BF16."""
ROWS = (
    ("bnb-nf4", "arc_easy", 1.5, 3.0), ("bnb-nf4", "endings", 1.5, 3.0), ("bnb-int8", "arc_easy", None, 1.1),
    ("bnb-int8", "endings", None, 1.1), ("fp32", "lambada", 1.0, 1.15), ("fp32", "arc_easy", None, None),
    ("bf16", "arc_easy", None, None),
)  # fmt: skip
"""Scheme, task, and what is to be reached against the build before and against lm-eval."""
ITEMS, SLICES = {"arc_easy": 120, "endings": 30, "lambada": 120}, 6


def operations(lm: EngineLM, asked: Sequence[Instance], *, whole: bool) -> float:
    """Operations that answering takes at least; `whole`, where sequences share nothing."""
    pairs = [lm._encode_pair(*request.args) for request in asked]  # noqa: SLF001 - as it encodes them itself
    sequences = sorted({tuple((context + continuation)[:-1]) for context, continuation in pairs})
    tokens = sum(map(len, sequences)) - (0 if whole else sum(shared(a, b) for a, b in pairwise(sequences)))
    scored = {tuple((context + continuation)[: len(context) + at]) for context, continuation in pairs
              for at in range(len(continuation))}  # fmt: skip
    model = lm.engine.model  # type: ignore[attr-defined]  # of our engine
    head = model.get_output_embeddings()
    linear = sum(
        module.in_features * module.out_features
        for module in model.modules()
        if isinstance(module, torch.nn.Linear) and module is not head
    )
    return 2.0 * (tokens * linear + len(scored) * head.in_features * head.out_features)


def measure(
    folder: Path, builds: dict[str, Build], scheme: str, names: Sequence[str], items: int | None
) -> list[dict[str, Any]]:
    """One sample of every task: seconds of each slice by all three, and how the answers agree."""
    engines = backend("transformers")
    engine = default_model.load(engines, engines.scheme(scheme))
    whole = engine.scheme.whole_pass
    encoding = EngineLM(engine, MAX_LENGTH, lambda done, total: None)
    theirs = HFLM(
        pretrained=engine.model, tokenizer=engine.tokenizer, max_length=MAX_LENGTH, softmax_dtype="float32",
        batch_size=1, device="cpu",
    )  # fmt: skip
    calls: dict[str, Callable[[Sequence[Instance]], tuple[float, list[Any]]]] = {
        "ours": lambda asked: builds["ours"].answer(asked)[:2],
        "before": lambda asked: builds["before"].answer(asked)[:2],
        "lm-eval": partial(answer, theirs),
    }
    order = list(calls)
    samples = []
    for name in names:
        count = min(ITEMS[name], items or ITEMS[name])
        with tempfile.TemporaryDirectory() as scratch:
            made = requests(name, replace(TASKS[name], items=count), folder, Path(scratch))
        batch = 1 if whole else best_batch(theirs, made)
        theirs.batch_size_per_gpu = batch
        took: dict[str, list[float]] = {who: [] for who in order}
        for call in calls.values():
            call(made[0])  # what is made once is made now
        found, again = Found(batch=batch), Found()
        least = 0.0
        for index in range(SLICES):
            asked = [request for item in made[index::SLICES] for request in item]
            taken = {who: calls[who](asked) for who in [*order[index % 3 :], *order[: index % 3]]}
            for who, (seconds, _) in taken.items():
                took[who].append(seconds)
            found.answers += zip(asked, taken["ours"][1], taken["lm-eval"][1], strict=True)
            again.answers += zip(asked, taken["ours"][1], taken["before"][1], strict=True)
            least += operations(encoding, asked, whole=whole)
        samples.append(
            {"scheme": scheme, "task": name, "items": count, "batch": batch, "seconds": took, "operations": least,
             "answers": agreement(found)[0], "answers before": agreement(again)[0]}
        )  # fmt: skip
        print(scheme, name, {who: round(sum(values), 2) for who, values in took.items()}, flush=True)
    return samples


def times(slower: Sequence[float], faster: Sequence[float], target: float | None) -> str:
    """Median of the slices' ratios with its interval, and whether it reaches what it is to."""
    found = median_estimate([a / b for a, b in zip(slower, faster, strict=True)])
    aim = "" if target is None else f"; target {target:g}" + ("" if found.value >= target else ", missed")
    return f"{found.value:.2f} ({found.low:.2f} to {found.high:.2f}{aim})"


HEADER = """# Scoring by scheme

`python -m benchmarks.packs FOLDER --before CHECKOUT --scheme NAME --samples FILE --report FILE`, {date}. Default model,
{threads} threads, {machine}. *Before*: the scoring of commit {before}. *Ours*: commit {ours}. lm-eval {lm_eval}'s own
model at its best batch, at LLM.int8() one sequence at a time. All three score the same requests with the same weights,
each in a process of its own, slice after slice in turns; times as fast are medians over {slices} slices with the
order-statistic interval of at least 95 %. *Of the limit*: the least number of operations (linear layers over every
token that differs, the head where something is scored) over our seconds, as a share of the best rate of a matrix
product in that type by torch's own choice of library, measured before and after: oneDNN's at float32 is faster.

| scheme | task | items | batch | lm-eval, s | before, s | ours, s | times before | times lm-eval | of the limit |
|---|---|---|---|---|---|---|---|---|---|
"""


def report(samples: Sequence[dict[str, Any]], before: str) -> str:
    """The tables."""
    from importlib.metadata import version

    latest = {(one["scheme"], one["task"]): one for one in samples}
    lines, words = [], []
    for scheme, task, old, peer in ROWS:
        one = latest.get((scheme, task))
        if one is None:
            continue
        took = one["seconds"]
        share = one["operations"] / sum(took["ours"]) / one["roof"]
        cells = [
            scheme, task, str(one["items"]), str(one["batch"]),
            *(f"{sum(took[who]):.1f}" for who in ("lm-eval", "before", "ours")),
            times(took["before"], took["ours"], old), times(took["lm-eval"], took["ours"], peer),
            f"{share:.0%} of {one['roof'] / 1e9:.0f} Gop/s in {MULTIPLIES[scheme]}",
        ]  # fmt: skip
        lines.append(f"| {' | '.join(cells)} |")
        words.append(f"- {scheme}, {task}: against lm-eval {one['answers']}; against before {one['answers before']}.")
    head = HEADER.format(
        date=time.strftime("%Y-%m-%d", time.gmtime()), threads=torch.get_num_threads(), before=before,
        ours=commit_of(ROOT), machine=describe("cpu").device, lm_eval=version("lm_eval"), slices=SLICES,
    )  # fmt: skip
    return head + "\n".join(lines) + "\n\nAnswers:\n\n" + "\n".join(words) + "\n"


def main() -> int:
    """Measure one scheme, keep what was found, write the report of all that was kept."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path, help="folder of the items: arc_easy.jsonl ...")
    parser.add_argument("--before", type=Path, required=True, help="a checkout of an earlier build")
    parser.add_argument("--before-commit", help="its commit; without it git is asked")
    parser.add_argument("--scheme", choices=list(MULTIPLIES), help="none: only write the report")
    parser.add_argument("--task", action="append", choices=list(ITEMS), help="default: those of the table")
    parser.add_argument("--items", type=int, help="at most so many of each task")
    parser.add_argument("--samples", type=Path, help="file that keeps what is measured, a line a task")
    parser.add_argument("--report", type=Path, help="Markdown file to write")
    options = parser.parse_args()
    before = options.before_commit or commit_of(options.before)
    kept: list[dict[str, Any]] = []
    if options.samples and options.samples.exists():
        kept = [json.loads(line) for line in options.samples.read_text("utf-8").splitlines()]
    if options.scheme:
        kind = MULTIPLIES[options.scheme]
        others = condition("cpu").others_cpu
        looks = [measure_roof("torch", "cpu").rates()[kind]]
        names = options.task or [task for scheme, task, *_ in ROWS if scheme == options.scheme]
        engine = ("transformers", options.scheme)
        builds = {who: Build(sys.executable, at, engine) for who, at in (("ours", ROOT), ("before", options.before))}
        try:
            made = measure(options.folder, builds, options.scheme, names, options.items)
        finally:
            for build in builds.values():
                build.close()
        looks.append(measure_roof("torch", "cpu").rates()[kind])
        kept += [one | {"roof": max(looks), "others": others} for one in made]
        if options.samples:
            options.samples.write_text("".join(json.dumps(one) + "\n" for one in kept), "utf-8")
    text = report(kept, before)
    print(text)
    if options.report:
        options.report.write_text(text, "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
