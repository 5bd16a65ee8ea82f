# SPDX-License-Identifier: Apache-2.0
"""Seconds from `bench run` to the first token that a suite reads, of this build and of an earlier one in turns.

Each round starts `bench run` on the default model (suite quality, profile smoke) with a warm cache and a results folder
of its own. A `sitecustomize` on the path of all its processes notes the time when Python begins, when the roof has been
measured, when the first engine method of the worker reads a token (its warm-up), when the suite's first token is about
to be read, and what the worker's memory was at most. The first round of each build warms the cache and is dropped.

    python -m benchmarks.starting --before CHECKOUT [--rounds N] [--precision NAME] [--report FILE]
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

from bench.instruments.machine import condition, describe

HOOK = """
import atexit, importlib.util, json, os, sys, time
WHERE, ENGINE = os.environ["STARTING_MARKS"], "bench.engines.transformers.causal"
NAMED = " ".join(getattr(sys, "orig_argv", []))
KIND = next((kind for kind in ("roof_worker", "run.worker") if kind in NAMED), "other")

def mark(what, **facts):
    with open(WHERE, "a") as file:
        file.write(json.dumps({"what": f"{KIND} {what}", "at": time.time(), **facts}) + "\\n")

def ended():
    with open("/proc/self/status") as file:
        peak = next(int(line.split()[1]) << 10 for line in file if line.startswith("VmHWM"))
    mark("ends", peak=peak)

class Finder:
    def find_spec(self, name, path=None, target=None):
        if name != ENGINE:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        run = spec.loader.exec_module
        def execute(module):
            run(module)
            for method in ("warm", "score"):
                noted(module.CausalEngine, method)
        spec.loader.exec_module = execute
        return spec

def noted(owner, name):
    method, seen = getattr(owner, name), []
    def call(*given, **named):
        if not seen:
            seen.append(name)
            mark(name)
        return method(*given, **named)
    setattr(owner, name, call)

mark("begins")
atexit.register(ended)
if KIND == "run.worker":
    sys.meta_path.insert(0, Finder())
"""
STEPS = {
    "roof_worker ends": "roof measured",
    "run.worker begins": "worker begins",
    "run.worker warm": "first token at all (warm-up)",
    "run.worker score": "first token of the suite",
}


def once(tree: Path, precision: str, scratch: Path) -> dict[str, float]:
    """Seconds since the command at each step, and the worker's peak bytes."""
    marks, results = scratch / "marks", scratch / "results"
    for path in (marks, scratch / "hook"):
        path.mkdir(exist_ok=True, parents=True)
    (scratch / "hook" / "sitecustomize.py").write_text(HOOK, "utf-8")
    file = marks / f"{time.time_ns()}.jsonl"
    own = {
        "STARTING_MARKS": str(file), "BENCH_CACHE": str(scratch / f"cache-{tree.name}"),
        "PYTHONPATH": f"{tree}{os.pathsep}{scratch / 'hook'}", "PYTHONPYCACHEPREFIX": str(scratch / "compiled"),
        "PYTHONDONTWRITEBYTECODE": "",  # as for whoever has started it before: what is imported is compiled
    }  # fmt: skip
    command = [sys.executable, "-m", "bench", "run", "--precision", precision, "--suite", "quality"]
    start = time.time()
    subprocess.run(
        [*command, "--profile", "smoke", "--quiet", "--results", str(results / tree.name)],
        check=True, cwd=tree, env={**os.environ, **own}, stdout=subprocess.DEVNULL,
    )  # fmt: skip
    found: dict[str, float] = {}
    for line in file.read_text("utf-8").splitlines():
        noted = json.loads(line)
        found.setdefault(noted["what"], noted["at"] - start)
        if noted["what"] == "run.worker ends":
            found["peak"] = noted["peak"]
    return found


def main() -> int:
    """Measure in turns, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--before", type=Path, required=True, help="a checkout of an earlier build")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--precision", default="fp16")
    parser.add_argument("--cache", type=Path, help="folder that keeps both caches between turns")
    parser.add_argument("--report", type=Path, help="Markdown file to write")
    options = parser.parse_args()
    trees = {"before": options.before.resolve(), "now": Path(__file__).resolve().parents[1]}
    seen: dict[str, list[dict[str, float]]] = {name: [] for name in trees}
    others = []
    with tempfile.TemporaryDirectory() as folder:
        scratch = options.cache or Path(folder)
        for turn in range(options.rounds + 1):
            for name in list(trees) if turn % 2 else list(reversed(trees)):
                others.append(condition("cpu").others_cpu or 0.0)
                found = once(trees[name], options.precision, scratch)
                print(name, turn, {step: round(value, 2) for step, value in found.items()}, flush=True)
                if turn:
                    seen[name].append(found)
    text = report(seen, options.precision, max(others))
    print(text)
    if options.report:
        options.report.write_text(text, "utf-8")
    return 0


def report(seen: dict[str, list[dict[str, float]]], precision: str, others: float) -> str:
    """The table."""
    lines = []
    for step, words in STEPS.items():
        before, now = ([found[step] for found in seen[name]] for name in ("before", "now"))
        ratios = [b / a for a, b in zip(before, now, strict=True)]
        spans = [f"{median(values):.2f} ({min(values):.2f} to {max(values):.2f})" for values in (before, now, ratios)]
        lines.append(f"| {words} | {' | '.join(spans)} |")
    peaks = [[found["peak"] / 2**20 for found in seen[name]] for name in ("before", "now")]
    spans = [f"{median(values):.0f} ({min(values):.0f} to {max(values):.0f})" for values in peaks]
    lines.append(f"| peak of the worker, MiB | {' | '.join(spans)} | {median(peaks[1]) / median(peaks[0]):.2f} |")
    return (
        "# From `bench run` to the first token\n\n"
        "`python -m benchmarks.starting --before CHECKOUT --report FILE`, "
        f"{time.strftime('%Y-%m-%d', time.gmtime())}, "
        f"{describe('cpu').device}, default model, {precision}, suite quality, profile smoke, warm cache, "
        f"{len(seen['now'])} rounds in turns; others used {others:.1f} CPUs at most as a round began. Seconds since "
        "the command, median (least to most); *share*: now by before, round by round.\n\n"
        "| step | before | now | share |\n|---|---|---|---|\n" + "\n".join(lines) + "\n"
    )


if __name__ == "__main__":
    sys.exit(main())
