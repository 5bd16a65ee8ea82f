# SPDX-License-Identifier: Apache-2.0
"""How soon is a verdict settled on real items? By the probability of the right choice with stopping, and by accuracy.

ARC-easy and PIQA (a folder that is no part of this project) are scored by the default model in 16 bits, LLM.int8() and
NF4, batch after batch in the order every row asks them. Then each 4- and 8-bit row is judged against the 16-bit row as
the quality suite does it, look after look, and as it was done before: by accuracy, in one go. Accuracy needs the
smallest look from which on its verdict is that of the whole set, and the whole set where it has none there. Seconds are
those of scoring the row's own items until then; the 16-bit row is scored once for all.

That is one order of the items. So comparisons are also drawn from the whole set, with replacement, whose own change is
then the truth: how often intervals hold it, how often verdicts are wrong, how many items the median comparison takes.

    python benchmarks/deciding.py FOLDER [--items N] [--report FILE] [--data FOLDER] [--threads N] [--draws N]

Scoring goes on from what the data folder holds, each row in a process of its own: on one thread of a busy
AVX-512 machine 0.1 to 0.4 s an item: 50 minutes for the whole sets, 7 with `--items 250`. Judging takes two minutes.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from bench.judge.choices import ItemChoices
from bench.judge.decisions import Decision, by_probability
from bench.judge.differences import score_difference
from bench.judge.sequential import ladder
from bench.judge.stats import Verdict
from bench.paths import cache_folder
from suites.stopping import following

REFERENCE = "bf16"
ROWS = ("bnb-nf4", "bnb-int8")
TASKS: dict[str, dict[str, Any]] = {
    "arc_easy": {"doc_to_text": "Question: {{question}}\nAnswer:", "doc_to_choice": "choices", "doc_to_target": "gold"},
    "piqa": {
        "doc_to_text": "Question: {{goal}}\nAnswer:", "doc_to_choice": "{{[sol1, sol2]}}", "doc_to_target": "label",
    },
}  # fmt: skip
SUBSETS = (60, 250)
"""Items of the comparisons whose coverage is counted."""
WANTED = 0.25
"""Of the seconds that accuracy needs."""


@dataclass(frozen=True)
class Items:
    """What one row answered of one task, in order."""

    choices: list[ItemChoices]
    seconds: list[float]

    def probabilities(self) -> list[float]:
        """Of each item's right choice."""
        return [item.probability for item in self.choices]

    def right(self) -> list[float]:
        """1 where the likeliest choice is the right one."""
        return [float(item.margin > 0) for item in self.choices]


def read(path: Path, limit: int | None) -> Items:
    """A file of scored items, nothing if there is none."""
    lines = [json.loads(line) for line in path.read_text("utf-8").splitlines()] if path.exists() else []
    lines = lines[:limit]
    choices = [ItemChoices(log_likelihoods=tuple(line["log_likelihoods"]), right=line["right"]) for line in lines]
    return Items(choices, [line["seconds"] for line in lines])


def score(folder: Path, data: Path, scheme: str, items: int, threads: int | None) -> None:
    """Answer both tasks in turns, as the quality suite does, on from what the files hold."""
    from bench.catalog.entries import DEFAULT_MODEL, read_catalog, select
    from bench.engines.contract import LoadRequest
    from bench.engines.registry import backend
    from bench.records.cell import Weights
    from bench.scoring.lm import opened

    engines = backend("transformers")
    model = select(read_catalog(), [DEFAULT_MODEL])[0]
    asked = LoadRequest(
        model=model, weights=Weights.PACKAGE, scheme=engines.scheme(scheme), device="cpu", threads=threads
    )
    engines.prepare(asked)
    engine = engines.load(asked)
    with tempfile.TemporaryDirectory() as scratch:
        files = {name: str(written(name, folder, Path(scratch))) for name in TASKS}
        evaluation = opened(engine, tasks=list(TASKS), items=items, max_length=2048, files=files)
        for task in TASKS:
            evaluation.done[task] = len(read(data / f"{task}-{scheme}.jsonl", None).choices)
        while left := [task for task in TASKS if evaluation.done[task] < evaluation.asked(task)]:
            task = min(left, key=lambda name: evaluation.done[name])
            before, start = evaluation.done[task], time.perf_counter()
            evaluation.advance(task, min(following(before), evaluation.asked(task)))
            count, spent = evaluation.done[task] - before, time.perf_counter() - start
            keep(data / f"{task}-{scheme}.jsonl", evaluation.result(task).choices, count, spent)
            print(f"{scheme} {task} {evaluation.done[task]}: {spent / count:.3f} s an item", flush=True)


def written(name: str, folder: Path, scratch: Path) -> Path:
    """The task as a file that lm-eval reads."""
    config = {
        "task": name, "dataset_path": "json", "test_split": "test", "output_type": "multiple_choice",
        "dataset_kwargs": {"data_files": {"test": str((folder / f"{name}.jsonl").resolve())}},
        "metric_list": [{"metric": "acc"}], **TASKS[name],
    }  # fmt: skip
    path = scratch / f"{name}.yaml"
    path.write_text(json.dumps(config), "utf-8")  # JSON is YAML
    return path


def keep(path: Path, choices: Any, count: int, seconds: float) -> None:
    """Append the last batch's items, each with its share of the seconds."""
    new = list(zip(choices.log_likelihoods, choices.right, strict=True))[-count:]
    with path.open("a", encoding="utf-8") as file:
        for log_likelihoods, right in new:
            line = {"right": right, "log_likelihoods": log_likelihoods, "seconds": seconds / count}
            file.write(json.dumps(line) + "\n")


@dataclass(frozen=True)
class Pair:
    """One row and the reference on the same items of one task."""

    after: list[float]
    before: list[float]
    answers: list[float]
    base: list[float]
    chance: float
    looks: tuple[int, ...]

    def taken(self, places: Sequence[int]) -> Pair:
        """The same for some of the items, in that order."""
        columns = ([column[i] for i in places] for column in (self.after, self.before, self.answers, self.base))
        return Pair(*columns, chance=self.chance, looks=ladder(len(places)))

    def by_choice(self, items: int, looks: tuple[int, ...] = ()) -> Decision:
        """The verdict on the first items' probabilities."""
        return by_probability("", self.after[:items], self.before[:items], self.chance, looks=looks)

    def stopped(self) -> tuple[int, Decision]:
        """Items and decision where a row is left."""
        for look in self.looks:
            found = self.by_choice(look, self.looks)
            if found.settled:
                break
        return look, found

    def by_accuracy(self, items: int) -> Verdict:
        """The verdict on the first items' answers, in one go."""
        return score_difference(self.answers[:items], self.base[:items], self.chance).verdict

    def accuracy_needs(self) -> tuple[int, Verdict]:
        """Items from which on accuracy's verdict is the whole set's; all where that is none."""
        verdicts = [self.by_accuracy(look) for look in self.looks]
        last, needed = verdicts[-1], self.looks[-1]
        if last in {Verdict.UNDECIDED, Verdict.NOT_MEASURABLE}:
            return needed, last
        for look, verdict in zip(reversed(self.looks), reversed(verdicts), strict=True):
            if verdict is not last:
                break
            needed = look
        return needed, last


def pair(row: Items, reference: Items) -> Pair:
    """What both have answered."""
    n = min(len(row.choices), len(reference.choices))
    row, reference = Items(row.choices[:n], row.seconds[:n]), Items(reference.choices[:n], reference.seconds[:n])
    chance = float(np.mean([1 / len(item.log_likelihoods) for item in reference.choices]))
    return Pair(row.probabilities(), reference.probabilities(), row.right(), reference.right(), chance, ladder(n))


def wrong(decision: Decision, truth: float) -> bool:
    """Whether a verdict says what is not so in the set that the items were drawn from."""
    return {
        Verdict.WORSE: truth >= 0,
        Verdict.BETTER: truth <= 0,
        Verdict.EQUIVALENT: abs(truth) >= decision.margin,
    }.get(decision.verdict, False)


def holds(decision: Decision, truth: float) -> bool:
    """Whether the interval holds the truth."""
    low, high = decision.difference.low, decision.difference.high
    return low is not None and high is not None and low <= truth <= high


def drawn(whole: Pair, draws: int) -> list[str]:
    """Cells of the table of redrawn comparisons: coverage, wrong verdicts, items until settled and by accuracy."""
    truth, n = float(np.mean(whole.after) - np.mean(whole.before)), len(whole.after)
    draw = np.random.default_rng(0)
    covered = dict.fromkeys(SUBSETS, 0)
    errors, stops, needs, settled = 0, [], [], 0
    for _ in range(draws):
        one = whole.taken(draw.integers(0, n, n).tolist())
        for size in SUBSETS:
            covered[size] += holds(one.by_choice(min(size, n)), truth)
        items, decision = one.stopped()
        errors += wrong(decision, truth)
        settled += decision.settled
        stops.append(items)
        needs.append(one.accuracy_needs()[0])
    shares = [f"{covered[size] / draws:.1%}" for size in SUBSETS]
    return [*shares, f"{errors / draws:.1%}", f"{settled / draws:.0%}", f"{median(stops):.0f}", f"{median(needs):.0f}"]


HEADER = """# How soon a verdict is settled

`python benchmarks/deciding.py FOLDER --report FILE`, {date}. Default model, {machine}, {threads} threads; each 4- and
8-bit row against {reference}. *By choice*: paired difference of the probability of the right choice, looked at after
16, 24, 32, 48 … items and left when it is settled (Pocock's level, 5 % over all looks); margin: 0.01 of probability.
*By accuracy*: as it was judged before, in one go: the smallest look from which on its verdict is the whole set's, and
the whole set where that is undecided. Seconds are of the row's own items.

| task | row | items | by choice | change, points | items | s | by accuracy | items | s | share of s |
|---|---|---:|---|---|---:|---:|---|---:|---:|---:|
"""
DRAWN = """
Comparisons redrawn {draws:,} times from all these items with replacement, whose own change is the truth. *Held*: how
often the 95 % interval of that many items holds it (94 to 96 % are wanted). *Wrong*: verdicts with stopping that are
not so (at most 5 %). *Settled*: those that have one before the last item. Items: of the median comparison.

| task | row | held, {first} items | held, {second} items | wrong | settled | items by choice | items by accuracy |
|---|---|---:|---:|---:|---:|---:|---:|
"""


def report(data: Path, limit: int | None, draws: int, threads: int | None) -> tuple[str, bool]:
    """The page, and whether every row is settled as soon as wanted."""
    from bench.instruments.machine import describe

    lines, redrawn, good = [], [], True
    for task in TASKS:
        reference = read(data / f"{task}-{REFERENCE}.jsonl", limit)
        for scheme in ROWS:
            row = read(data / f"{task}-{scheme}.jsonl", limit)
            both = pair(row, reference)
            items, decision = both.stopped()
            needed, verdict = both.accuracy_needs()
            taken, spent = sum(row.seconds[:items]), sum(row.seconds[:needed])
            good &= decision.settled and taken <= WANTED * spent
            change = decision.difference.scaled(100)
            points = f"{change.value:+.2f} [{change.low:+.2f}, {change.high:+.2f}]"
            lines.append(
                f"| {task} | {scheme} | {len(both.after):,} | {decision.verdict} | {points} | {items:,} | {taken:.0f} "
                f"| {verdict} | {needed:,} | {spent:.0f} | {taken / spent:.2f} |"
            )
            print(lines[-1], flush=True)
            redrawn.append(f"| {task} | {scheme} | {' | '.join(drawn(both, draws))} |")
            print(redrawn[-1], flush=True)
    header = HEADER.format(
        date=time.strftime("%Y-%m-%d", time.gmtime()), machine=describe("cpu").device, threads=threads or "all",
        reference=REFERENCE,
    )  # fmt: skip
    second = DRAWN.format(draws=draws, first=SUBSETS[0], second=SUBSETS[1])
    return header + "\n".join(lines) + "\n" + second + "\n".join(redrawn) + "\n", good


def main() -> int:
    """Score what is missing, judge, print, write; 1 if a row is not settled in a quarter of accuracy's seconds."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("folder", type=Path, help="folder of arc_easy.jsonl and piqa.jsonl")
    parser.add_argument("--items", type=int, default=100_000, help="at most so many items of each task")
    parser.add_argument("--report", type=Path, help="Markdown file to write")
    parser.add_argument("--data", type=Path, default=None, help="where scored items are kept (default: the cache)")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--draws", type=int, default=500)
    parser.add_argument("--score", help=argparse.SUPPRESS)
    options = parser.parse_args()
    data = options.data or cache_folder() / "deciding"
    data.mkdir(parents=True, exist_ok=True)
    if options.score:
        score(options.folder, data, options.score, options.items, options.threads)
        return 0
    offline = dict.fromkeys(("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "TRANSFORMERS_OFFLINE"), "1")
    for scheme in (REFERENCE, *ROWS):
        subprocess.run([sys.executable, *sys.argv, "--score", scheme], check=True, env=os.environ | offline)
    page, good = report(data, options.items, options.draws, options.threads)
    if options.report:
        options.report.parent.mkdir(parents=True, exist_ok=True)
        options.report.write_text(page, encoding="utf-8")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
