# SPDX-License-Identifier: Apache-2.0
"""OpenVINO's engine beside a bare loop over its library, and beside transformers at float32.

Three tables. Speeds: prefill and decode by the throughput suite and by the shortest loop that OpenVINO allows over the
same files, compiled with the same options, in one process, in turns. Likelihoods: tokens of four registers of the
probe text by each scheme and by transformers at float32, which answers from an environment of its own (`--peer`).
Scoring: the same ARC-easy items, built by lm-eval, slice after slice in turns by both processes, and their choices.

    python -m benchmarks.openvino FOLDER --peer PYTHON [--report FILE] [--rounds N] [--items N]
"""

import argparse
import gc
import json
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from statistics import mean, median
from typing import Any

import numpy as np

from bench.catalog.entries import DEFAULT_MODEL
from bench.engines.registry import backend
from bench.instruments import machine
from bench.instruments.clock import HostClock
from bench.judge.stats import median_estimate, ratio_of_medians
from benchmarks import default_model
from suites import probe
from suites.repeats import one_repeat

PROMPT, TOKENS = 512, 64
WINDOW, WINDOWS = 256, 16
REGISTERS = ("encyclopaedic", "dialogue", "instructions", "code")
SLICES = 10
SPEEDS = ("ov-fp32", "ov-bf16", "ov-int8", "ov-int4")
COMPARED = ("ov-fp32", "ov-fp16", "ov-bf16", "ov-int8")
SCORED = ("ov-fp32", "ov-bf16", "ov-int8")
MARK = "answer: "
MOST = 2048


class Bare:
    """The exported files compiled as they are, and a loop over them."""

    def __init__(self, engine: Any) -> None:
        from bench.engines.openvino.compiled import compiled, core
        from bench.engines.openvino.files import MODEL

        self.compiled, _ = compiled(core().read_model(engine.folder / MODEL), engine.way, engine.threads)
        self.request = self.compiled.create_infer_request()

    def read(self, tokens: list[int], held: int) -> Any:
        """Logits behind the last of the tokens."""
        count = len(tokens)
        self.request.infer(
            {
                "input_ids": np.array([tokens]), "attention_mask": np.ones((1, held + count), np.int64),
                "position_ids": np.arange(held, held + count)[None], "beam_idx": np.zeros(1, np.int32),
            },
            share_inputs=True,
        )  # fmt: skip
        return self.request.get_output_tensor(0).data[0, -1]

    def run(self, prompt: list[int], ends: list[int]) -> tuple[float, float]:
        """Seconds of the prompt, and from the first to the last of TOKENS tokens."""
        gc.collect()
        gc.disable()
        self.request.reset_state()
        first = 0.0
        start = time.perf_counter()
        logits = self.read(prompt, 0)
        read = time.perf_counter()
        for index in range(TOKENS):
            logits[ends] = -np.inf
            token = int(logits.argmax())
            if index == 0:
                first = time.perf_counter()
            if index < TOKENS - 1:
                logits = self.read([token], len(prompt) + index)
        end = time.perf_counter()
        gc.enable()
        return read - start, end - first


def speeds(scheme: str, rounds: int, threads: int) -> list[str]:
    """Rows of the first table."""
    engines = backend("openvino")
    engine = default_model.load(engines, engines.scheme(scheme), threads=threads)
    bare = Bare(engine)
    prompt, ends = probe.prompt(engine.encode, PROMPT), sorted(engine.end_tokens)

    def suite() -> tuple[float, float]:
        repeat = one_repeat(engine, HostClock(), [prompt], TOKENS)
        return repeat.prefill_s, sum(repeat.gaps_s)

    seconds: dict[tuple[str, str], list[float]] = {}
    for index in range(rounds + 1):
        for name in sorted(("bare", "suite"), reverse=bool(index % 2)):
            taken = suite() if name == "suite" else bare.run(prompt, ends)
            if index:  # the first round warms up
                for phase, value in zip(("prefill", "decode"), taken, strict=True):
                    seconds.setdefault((phase, name), []).append(value)
    engine.close()
    rows = []
    for phase, count in (("prefill", PROMPT), ("decode", TOKENS - 1)):
        own, other = seconds[phase, "suite"], seconds[phase, "bare"]
        ratio = ratio_of_medians(own, other)
        rows.append(
            f"| {scheme} | {phase} | {count / median(other):.1f} | {count / median(own):.1f} "
            f"| {ratio.value:.4f} ({ratio.low:.4f} to {ratio.high:.4f}) | {len(own)} |"
        )
    return rows


class Peer:
    """An engine in a process of its own, which answers one question at a time and rests between."""

    def __init__(self, python: str, name: str, scheme: str, options: argparse.Namespace) -> None:
        command = [python, "-m", "benchmarks.openvino", str(options.folder), "--answer", name, scheme]
        command += ["--items", str(options.items), "--threads", str(options.threads)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.ask("ready")

    def ask(self, question: str) -> Any:
        """Its answer."""
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.write(question + "\n")
        self.process.stdin.flush()
        for line in self.process.stdout:
            if line.startswith(MARK):
                return json.loads(line.removeprefix(MARK))
        raise RuntimeError(f"the process ended before it answered {question!r}")

    def close(self) -> None:
        """End it."""
        assert self.process.stdin
        self.process.stdin.close()
        self.process.wait()


def answering(options: argparse.Namespace) -> None:
    """Be such a process."""
    from bench.scoring.lm import EngineLM
    from benchmarks.scoring import TASKS, answer, requests

    name, scheme = options.answer
    engines = backend(name)
    engine = default_model.load(engines, engines.scheme(scheme), threads=options.threads)
    model = EngineLM(engine, MOST, lambda done, total: None)
    with tempfile.TemporaryDirectory() as scratch:
        task = replace(TASKS["arc_easy"], items=options.items)
        items = requests("arc_easy", task, options.folder, Path(scratch))
    for line in sys.stdin:
        question, _, which = line.strip().partition(" ")
        found: Any = None
        if question == "likelihoods":
            windows = probe.windows(engine.encode, WINDOWS * 2, WINDOW)
            windows = [(register, tokens) for register, tokens in windows if register in REGISTERS][:WINDOWS]
            found = [
                (register, tokens, engine.log_probs(tokens)[np.arange(len(tokens) - 1), tokens[1:]].tolist())
                for register, tokens in windows
            ]
        elif question == "score":
            asked = [request for item in items[int(which) :: SLICES] for request in item]
            seconds, answers = answer(model, asked)
            found = seconds, [[a.doc_id, b[0]] for a, b in zip(asked, answers, strict=True)]
        print(MARK + json.dumps(found), flush=True)
    engine.close()


def choices(found: list[list[float]]) -> dict[int, int]:
    """By item, the index of its likeliest answer."""
    by_item: dict[int, list[float]] = {}
    for item, value in found:
        by_item.setdefault(int(item), []).append(value)
    return {item: int(np.argmax(values)) for item, values in by_item.items()}


def likelihoods(peer: Peer, options: argparse.Namespace) -> list[str]:
    """Rows of the second table."""
    wanted = peer.ask("likelihoods")
    rows = []
    for scheme in COMPARED:
        own = Peer(sys.executable, "openvino", scheme, options)
        found = own.ask("likelihoods")
        own.close()
        assert [tokens for _, tokens, _ in found] == [tokens for _, tokens, _ in wanted], "other tokens"
        apart = {register: [] for register in REGISTERS}
        for (register, _, these), (_, _, those) in zip(found, wanted, strict=True):
            apart[register] += np.abs(np.subtract(these, those)).tolist()
        cells = [f"{mean(apart[register]):.1e}" for register in REGISTERS]
        rows.append(f"| {scheme} | {' | '.join(cells)} | {max(map(max, apart.values())):.1e} |")
    return rows


def scoring(peer: Peer, options: argparse.Namespace) -> list[str]:
    """Rows of the third table."""
    rows = []
    for scheme in SCORED:
        own = Peer(sys.executable, "openvino", scheme, options)
        taken: dict[Peer, list[float]] = {own: [], peer: []}
        answers: dict[Peer, list[list[float]]] = {own: [], peer: []}
        own.ask("score 0")
        for index in range(SLICES):
            for one in (own, peer) if index % 2 else (peer, own):
                seconds, found = one.ask(f"score {index}")
                taken[one].append(seconds)
                answers[one] += found
        own.close()
        speed = median_estimate([b / a for a, b in zip(taken[own], taken[peer], strict=True)])
        ours, theirs = choices(answers[own]), choices(answers[peer])
        same = sum(ours[item] == theirs[item] for item in theirs)
        rows.append(
            f"| {scheme} | {sum(taken[peer]):.1f} | {sum(taken[own]):.1f} | {speed.value:.2f} ({speed.low:.2f} to "
            f"{speed.high:.2f}) | {same} of {len(theirs)} |"
        )
    return rows


HEADER = """# OpenVINO beside a bare loop and beside transformers

`python -m benchmarks.openvino`, {date}. {model}, {threads} threads, {machine}; OpenVINO {openvino}.

## Speeds

Prompt {prompt}, {tokens} tokens, in turns in one process, medians; the ratio is seconds of the suite over seconds of a
bare loop over the same files, with its 95 % interval. The exported files compute logits of every position of a prompt;
the engine asks for the last alone.

| scheme | phase | bare, tokens/s | suite, tokens/s | suite / bare, seconds | n |
|---|---|---|---|---|---|
"""
SECOND = """
## Likelihoods

Nats between the log-probability of each token of {windows} windows of {window} tokens and transformers' at float32:
means by register, and the largest.

| scheme | {registers} | largest |
|---|---|---|---|---|---|
"""
THIRD = """
## Scoring

ARC-easy, {items} items, slice after slice in turns in two processes. *Times as fast*: median over {slices} slices of
transformers' seconds at float32 by OpenVINO's, with its interval.

| scheme | transformers fp32, s | OpenVINO, s | times as fast | choices equal |
|---|---|---|---|---|
"""


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path, help="folder of the items: arc_easy.jsonl")
    parser.add_argument("--peer", help="Python of an environment with the extra `transformers`")
    parser.add_argument("--report", type=Path, help="Markdown file to write")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--items", type=int, default=500)
    parser.add_argument("--threads", type=int, default=machine.describe("cpu").logical_cpus)
    parser.add_argument("--answer", nargs=2, metavar=("BACKEND", "SCHEME"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.answer:
        answering(options)
        return
    report = HEADER.format(
        date=time.strftime("%Y-%m-%d", time.gmtime()), model=DEFAULT_MODEL, threads=options.threads,
        machine=machine.describe("cpu").device, openvino=version("openvino"), prompt=PROMPT, tokens=TOKENS,
    )  # fmt: skip
    for scheme in SPEEDS:
        report += "".join(f"{row}\n" for row in speeds(scheme, options.rounds, options.threads))
    print(report, end="", flush=True)
    peer = Peer(options.peer or sys.executable, "transformers", "fp32", options)
    second = SECOND.format(windows=WINDOWS, window=WINDOW, registers=" | ".join(REGISTERS))
    second += "".join(f"{row}\n" for row in likelihoods(peer, options))
    print(second, end="", flush=True)
    third = THIRD.format(items=options.items, slices=SLICES)
    third += "".join(f"{row}\n" for row in scoring(peer, options))
    print(third, end="", flush=True)
    peer.close()
    if options.report:
        options.report.write_text(report + second + third, encoding="utf-8")


if __name__ == "__main__":
    main()
