# SPDX-License-Identifier: Apache-2.0
"""OpenVINO's engine beside a bare loop over OpenVINO, and beside transformers at float32: speed, distance, scoring.

Three tables of one run on the default model. *Speed*: prefill and decode by the throughput suite's repeat, by a bare
loop over the file as optimum-intel exports it, and by a bare loop over the very graph that the engine compiles; all of
one file, compiled with the same choices, taking turns in one process, the order swapped every round. A bare loop is an
infer request, the arg max of its last logits, and again; its timestamps are at the start, after the prompt and at the
first and the last token. *Distance*: log-likelihoods of pieces of every register of the probe text behind what stands
before them, from transformers at float32. *Scoring*: lm-eval's requests of real items (a folder that is no part of this
project, see `benchmarks.scoring`), slice after slice in turns. transformers computes in a process of its own, which
waits while OpenVINO computes, and in an environment of its own where `--python` names one.

    python -m benchmarks.openvino FOLDER [--report FILE] [--python PATH] [--part NAME ...] [--rounds N] [--items N]
"""

import argparse
import gc
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from statistics import fmean, median
from typing import Any

import numpy as np
from lm_eval.api.instance import Instance

from bench.catalog.entries import DEFAULT_MODEL
from bench.engines.openvino.compiled import WAYS, compiled, core
from bench.engines.openvino.files import MODEL
from bench.engines.registry import backend
from bench.instruments.clock import HostClock
from bench.instruments.machine import condition, describe
from bench.judge.stats import Estimate, median_estimate, ratio_of_medians
from bench.scoring.lm import EngineLM
from benchmarks import default_model, scoring
from benchmarks.answering import MAX_LENGTH, Build
from suites import probe
from suites.repeats import one_repeat

PARTS = ("speed", "distance", "scoring")
ROOT = Path(__file__).resolve().parents[1]
PROMPT, TOKENS = 512, 64
TIMED = ("ov-fp32", "ov-int8", "ov-int4")
WIDE = ("ov-fp32", "ov-fp16")
"""Schemes whose log-likelihoods are to be those of transformers at float32."""
PIECES, BEFORE, BEHIND = 10, 240, 60
"""Pieces of each register, and the characters that stand before each and that it has."""
WITHIN, NEAR, FASTER = 1.03, 1e-2, 1.5
"""What is to be reached: seconds of a bare loop's, nats on average, times as fast."""
SLICES = 10


class Bare:
    """An infer request, and the shortest loop over it."""

    def __init__(self, made: Any) -> None:
        self.request = made.create_infer_request()
        self.names = {name for port in made.inputs for name in port.names}

    def run(self, prompt: list[int], ends: list[int], count: int) -> tuple[float, float]:
        """Seconds of the prompt, and from the first to the last of `count` tokens."""
        self.request.reset_state()
        gc.collect()
        gc.disable()
        tokens, held, first = np.array([prompt], np.int64), 0, 0.0
        start = time.perf_counter()
        logits = self.read(tokens, held)
        read = time.perf_counter()
        for index in range(count):
            logits[ends] = -np.inf
            held += tokens.shape[1]
            tokens = np.array([[logits.argmax()]], np.int64)
            if index == 0:
                first = time.perf_counter()
            if index < count - 1:
                logits = self.read(tokens, held)
        end = time.perf_counter()
        gc.enable()
        return read - start, end - first

    def read(self, tokens: Any, held: int) -> Any:
        """Logits behind the last of some tokens, which `held` others precede."""
        count = tokens.shape[1]
        inputs = {
            "input_ids": tokens, "beam_idx": np.zeros(1, np.int32), "position_ids": np.arange(held, held + count)[None],
            "attention_mask": np.ones((1, held + count), np.int64), "rows": np.array([count - 1], np.int64),
        }  # fmt: skip
        if "mask" in self.names:
            inputs["mask"] = np.zeros((1, 1, count, held + count), np.float32)
            if count > 1:
                inputs["mask"][0, 0, :, held:][~np.tri(count, dtype=np.bool_)] = np.finfo(np.float32).min
        self.request.infer({name: value for name, value in inputs.items() if name in self.names}, share_inputs=True)
        return self.request.get_output_tensor(0).data.reshape(-1, self.request.get_output_tensor(0).shape[-1])[-1]


def speeds(scheme: str, rounds: int, count: int) -> tuple[list[str], bool]:
    """Rows of the report for one scheme, and whether both phases are near enough."""
    engine = default_model.load(backend("openvino"), backend("openvino").scheme(scheme))
    exported, way = compiled(core().read_model(engine.folder / MODEL), WAYS[scheme], engine.request.threads)
    assert way == engine.way
    prompt, ends = probe.prompt(engine.encode, PROMPT), sorted(engine.end_tokens)
    whole, same = Bare(exported), Bare(engine.compiled)

    def suite() -> tuple[float, float]:
        repeat = one_repeat(engine, HostClock(), [prompt], count)
        return repeat.prefill_s, sum(repeat.gaps_s)

    timers: dict[str, Callable[[], tuple[float, float]]] = {
        "exported": lambda: whole.run(prompt, ends, count), "same": lambda: same.run(prompt, ends, count),
        "suite": suite,
    }  # fmt: skip
    seconds: dict[tuple[str, str], list[float]] = {}
    for index in range(rounds + 1):
        for name in sorted(timers, reverse=bool(index % 2)):
            taken = timers[name]()
            if index:  # the first round warms up
                for phase, value in zip(("prefill", "decode"), taken, strict=True):
                    seconds.setdefault((phase, name), []).append(value)
    engine.close()
    rows, near = [], True
    for phase, tokens in (("prefill", PROMPT), ("decode", count - 1)):
        own, theirs, graph = (seconds[phase, name] for name in ("suite", "exported", "same"))
        against = [ratio_of_medians(own, other) for other in (theirs, graph)]
        near &= max(ratio.value for ratio in against) <= WITHIN
        cells = [
            scheme, phase, *(f"{tokens / median(taken):.1f}" for taken in (theirs, graph, own)),
            *map(interval, against), str(len(own)),
        ]  # fmt: skip
        rows.append(f"| {' | '.join(cells)} |")
    return rows, near


def interval(found: Estimate, digits: int = 4) -> str:
    """A figure with its interval."""
    if found.low is None or found.high is None:
        return f"{found.value:.{digits}f}"
    return f"{found.value:.{digits}f} ({found.low:.{digits}f} to {found.high:.{digits}f})"


def pieces(register: str) -> list[Instance]:
    """Requests for the likelihood of pieces of a register behind what stands before each."""
    text = probe.text(register)
    step = (len(text) - BEFORE - BEHIND) // PIECES
    asked = []
    for index in range(PIECES):
        middle = BEFORE + index * step
        pair = text[middle - BEFORE : middle], text[middle : middle + BEHIND]
        asked.append(Instance("loglikelihood", {}, pair, index, metadata=(register, index, 1)))
    return asked


def distances(scheme: str, theirs: dict[str, Sequence[Any]]) -> tuple[list[str], bool]:
    """Rows of the report for one scheme, and whether every register is near enough to what transformers answered."""
    ours = loaded(scheme)
    rows, near = [], True
    for register, other in theirs.items():
        asked = pieces(register)
        own = ours.loglikelihood(asked, disable_tqdm=True)
        apart = [abs(one - two) for (one, _), (two, _) in zip(own, other, strict=True)]
        tokens = sum(len(ours.engine.encode(request.args[1])) for request in asked)
        near &= fmean(apart) <= NEAR
        cells = [
            scheme, register, str(len(apart)), str(tokens), f"{fmean(apart):.1e}", f"{max(apart):.1e}",
            f"{sum(apart) / tokens:.1e}", f"{-sum(value for value, _ in other) / tokens:.3f}",
        ]  # fmt: skip
        rows.append(f"| {' | '.join(cells)} |")
    ours.engine.close()
    return rows, near


def loaded(scheme: str) -> EngineLM:
    """The default model as lm-eval asks it."""
    engine = default_model.load(backend("openvino"), backend("openvino").scheme(scheme))
    return EngineLM(engine, MAX_LENGTH, lambda done, total: None)


def scored(folder: Path, items: int, theirs: Build) -> tuple[str, bool]:
    """The report's row of real items, and whether choices are equal and seconds few enough."""
    ours = loaded("ov-fp32")
    task = scoring.replace(scoring.TASKS["arc_easy"], items=items)
    with tempfile.TemporaryDirectory() as scratch:
        asked = scoring.requests("arc_easy", task, folder, Path(scratch))
    found = scoring.Found()
    slices = min(SLICES, items)
    warm = [request for item in asked[:2] for request in item]
    ours.loglikelihood(warm, disable_tqdm=True)
    theirs.answer(warm)
    for index in range(slices):
        part = [request for item in asked[index::slices] for request in item]
        answers: dict[str, Sequence[Any]] = {}
        for who in ("ours", "theirs") if index % 2 else ("theirs", "ours"):
            if who == "ours":
                start = time.perf_counter()
                answers[who] = ours.loglikelihood(part, disable_tqdm=True)
                found.ours.append(time.perf_counter() - start)
            else:
                taken, answers[who], _ = theirs.answer(part)
                found.theirs.append(taken)
        found.answers += zip(part, answers["ours"], answers["theirs"], strict=True)
    ours.engine.close()
    own, other = scoring.choices(found, 1), scoring.choices(found, 2)
    same = sum(one == two for one, two in zip(own, other, strict=True))
    apart = max(abs(entry[1][0] - entry[2][0]) for entry in found.answers)
    speed = median_estimate([theirs / ours for theirs, ours in zip(found.theirs, found.ours, strict=True)])
    cells = [
        "arc_easy", str(len(own)), f"{sum(found.theirs):.1f}", f"{sum(found.ours):.1f}", interval(speed, 2),
        f"{same} of {len(own)}", f"{apart:.1e}",
    ]  # fmt: skip
    return f"| {' | '.join(cells)} |", same == len(own) and speed.value >= FASTER


HEADER = """# OpenVINO beside itself and beside transformers

`python -m benchmarks.openvino FOLDER{given}`, {date}. {model}, {machine}; load before {before:.2f}, after {after:.2f}.
OpenVINO {openvino}, optimum-intel {intel}, nncf {nncf} on {threads} threads; transformers {transformers} with torch
{torch} in a process of its own, which waits while OpenVINO computes. {verdict}
"""
SPEED = """
Prompt of {prompt} tokens, {count} generated. *exported*: a bare loop over the file as optimum-intel writes it; *same
graph*: a bare loop over what the engine compiles, whose head computes the last position alone; *suite*: the throughput
suite's repeat. Tokens per second of medians; ratios of seconds with 95 % intervals, 1.03 or less is wanted.

| scheme | phase | exported | same graph | suite | suite / exported, seconds | suite / same graph, seconds | n |
| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |
"""
DISTANCE = """
Log-likelihoods of {pieces} pieces of {behind} characters of each register behind the {before} before them: absolute
differences from transformers at float32 in nats of a whole piece, 0.01 or less on average is wanted; the same by token,
and what transformers itself gives a token.

| scheme | register | pieces | tokens | mean | largest | by token | nats a token |
| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |
"""
SCORING = """
Real items, {slices} slices in turns, ov-fp32. *Times as fast*: median over the slices of transformers' seconds by
OpenVINO's with the order-statistic interval of at least 95 %; 1.5 and equal choices are wanted.

| task | items | transformers, s | OpenVINO, s | times as fast | equal choices | log-likelihoods at most apart, nats |
| --- | ---: | ---: | ---: | ---: | --- | ---: |
"""
VERSIONS = (
    "import json; from importlib.metadata import version as v; print(json.dumps([v('transformers'), v('torch')]))"
)


def asked() -> argparse.Namespace:
    """What is to be measured."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("folder", type=Path, help="folder of the items: arc_easy.jsonl")
    parser.add_argument("--report", type=Path, help="Markdown file to write")
    parser.add_argument("--python", default=sys.executable, help="interpreter of transformers' environment")
    parser.add_argument("--part", action="append", choices=PARTS, help="only these")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--items", type=int, default=500)
    parser.add_argument("--tokens", type=int, default=TOKENS)
    options = parser.parse_args()
    own = ("rounds", "items", "tokens")
    changed = [name for name in own if getattr(options, name) != parser.get_default(name)]
    options.given = "".join(f" --{name} {getattr(options, name)}" for name in changed)
    return options


def section(part: str, options: argparse.Namespace) -> tuple[str, list[str]]:
    """The report of one part, and what it missed."""
    if part == "speed":
        found = {scheme: speeds(scheme, options.rounds, options.tokens) for scheme in TIMED}
        head = SPEED.format(prompt=PROMPT, count=options.tokens)
        rows = [row for of_scheme, _ in found.values() for row in of_scheme]
        return head + "\n".join(rows) + "\n", [f"speed of {scheme}" for scheme, (_, near) in found.items() if not near]
    theirs = Build(options.python, ROOT, ("transformers", "fp32"))
    if part == "scoring":
        line, reached = scored(options.folder, options.items, theirs)
        theirs.close()
        head = SCORING.format(slices=min(SLICES, options.items))
        return f"{head}{line}\n", [] if reached else ["scoring"]
    answers = {register: theirs.answer(pieces(register))[1] for register in probe.REGISTERS}
    theirs.close()
    found = {scheme: distances(scheme, answers) for scheme in WIDE}
    rows = [row for of_scheme, _ in found.values() for row in of_scheme]
    head = DISTANCE.format(pieces=PIECES, behind=BEHIND, before=BEFORE)
    return head + "\n".join(rows) + "\n", [f"distance of {scheme}" for scheme, (_, near) in found.items() if not near]


def main() -> int:
    """Measure, print, write after each part; 1 if something is missed."""
    options = asked()
    told = subprocess.run([options.python, "-c", VERSIONS], capture_output=True, text=True, check=True)
    transformers, torch = json.loads(told.stdout)
    machine, before = describe("cpu"), condition().load_1min or 0.0
    sections, missed = list[str](), list[str]()
    for part in options.part or PARTS:
        text, short = section(part, options)
        sections.append(text)
        missed += short
        print(text, flush=True)
        header = HEADER.format(
            given=options.given, date=time.strftime("%Y-%m-%d", time.gmtime()), model=DEFAULT_MODEL,
            machine=machine.device, before=before, after=condition().load_1min or 0.0, openvino=version("openvino"),
            intel=version("optimum-intel"), nncf=version("nncf"), threads=machine.logical_cpus,
            transformers=transformers, torch=torch,
            verdict=f"Missed: {', '.join(missed)}." if missed else "All that was wanted is reached.",
        )  # fmt: skip
        if options.report:
            options.report.parent.mkdir(parents=True, exist_ok=True)
            options.report.write_text(header + "".join(sections), encoding="utf-8")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
