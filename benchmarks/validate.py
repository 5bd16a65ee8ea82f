# SPDX-License-Identifier: Apache-2.0
"""This harness beside its peers: the same model, machine and run, taking turns; prints a Markdown report of ratios.

Quantities, each asked of the default model in fp32 (256 prompt tokens, 32 generated) except llama.cpp's:

- a bare loop: the model called by hand, three timestamps; decode and prefill. Target: medians within 3 %.
- `generate()`: transformers' own loop, timed by hand: one token for prefill, all for decode by difference.
- `optimum-benchmark` 0.6.0, in an environment of its own (transformers below 5): its inline launcher, target within
  5 % or the difference named; and its default process launcher, whose waiting parent spins.
- llama-cpp-python: prompt 512 and 128 tokens evaluated by hand as llama-bench does, beside our llamacpp backend. That
  attends plainly, as the class Llama does; llama-bench leaves flash attention to the library, which switches it on, and
  on a CPU that decides both rates, so both are timed.
- peak memory: our high-water mark against the kernel's own for the same process (`wait4`). Target: within 2 %.

Every contender is a process of its own, started anew each round; rounds go through all contenders in an order that is
reversed every other round. A round's median is one sample; a ratio's interval is that of the ratio of medians over the
rounds. A contender that cannot run here is named with its reason.

    python -m benchmarks.validate [--rounds 5] [--peer-python PATH] [--out REPORT.md]
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from bench.catalog.entries import DEFAULT_MODEL
from bench.engines.registry import backend
from bench.instruments.machine import describe, installed
from bench.judge.stats import ratio_of_medians
from bench.paths import ROOT
from benchmarks import default_model

HERE = Path(__file__).resolve().parent
LLAMA = "llama_cpp_python"
Answer = dict[str, Any]
"""What one process printed, with `wait4`: the kernel's peak of it in bytes; or `reason`, why there is nothing."""


@dataclass(frozen=True, kw_only=True)
class Contender:
    """Who is timed, and in what way it counts."""

    name: str
    command: tuple[str, ...]
    against: str
    """Whose rates are divided by its own."""
    target: float | None = None
    """How far from 1 the ratios may be."""
    ours: bool = True
    """Whether it needs this project on its path."""


def contenders(work: tuple[int, int, int], peer: str | None, llama: bool) -> list[Contender]:
    """Everyone that can be asked with what is here. `work`: prompt tokens, generated tokens, repeats."""

    def own(name: str, *more: str, sizes: tuple[int, int, int] = work) -> tuple[str, ...]:
        options = [f"--{key}={value}" for key, value in zip(("prompt", "tokens", "repeats"), sizes, strict=True)]
        return (sys.executable, "-m", "benchmarks.contenders", name, *options, *more)

    found = [
        Contender(name="ours", command=own("ours"), against="ours"),
        Contender(name="bare loop", command=own("bare"), against="ours", target=0.03),
        Contender(name="generate()", command=own("generate"), against="ours"),
    ]
    folder = default_folder()
    if peer:
        peer = str(Path(peer).absolute())  # contenders run elsewhere; not resolved, a venv's python is a link
        script, sizes = str(HERE / "contender_optimum.py"), tuple(map(str, work))
        for launcher, target in (("inline", 0.05), ("process", None)):
            command = (peer, script, launcher, str(folder), *sizes)
            name = f"optimum-benchmark, {launcher} launcher"
            found.append(Contender(name=name, command=command, against="ours", target=target, ours=False))
    if llama:
        sizes = (512, 128, work[2])
        flash = ("--flash-attention",)
        for name, who, more, target in (
            ("ours, llama.cpp", "llama-ours", (), None),
            ("llama-cpp-python, plain attention as ours", "llama-peer", (), 0.05),
            ("llama-cpp-python, flash attention", "llama-peer", flash, None),
        ):
            command = own(who, *more, sizes=sizes)
            found.append(Contender(name=name, command=command, against="ours, llama.cpp", target=target))
    return found


def default_folder() -> Path:
    """The default model as a folder in Hub layout, converted first: wait4 would count a contender's converter too."""
    from bench.engines.weights.locate import locate

    engines = backend("transformers")
    asked = default_model.asked_for(engines, engines.schemes[0])
    engines.prepare(asked)
    folder = locate(asked).folder
    assert folder is not None
    return folder


def ask(contender: Contender) -> Answer:
    """One process, its answer and the kernel's own peak of it."""
    with tempfile.TemporaryDirectory(prefix="bench-validate-") as folder:
        out, log = Path(folder) / "out", Path(folder) / "log"
        env = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
        env = {**env, "PYTHONPATH": str(ROOT)} if contender.ours else {k: env[k] for k in env if k != "PYTHONPATH"}
        with out.open("wb") as output, log.open("wb") as errors:
            process = subprocess.Popen(contender.command, stdout=output, stderr=errors, cwd=folder, env=env)
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            last = next((x for x in reversed(log.read_text(errors="replace").splitlines()) if x.strip()), "no output")
            return {"reason": f"exit {process.returncode}: {last[:160]}"}
        found: Answer = json.loads(out.read_text().strip().splitlines()[-1])
        return {**found, "wait4": usage.ru_maxrss * 1024}


def take_turns(everyone: Sequence[Contender], rounds: int) -> dict[str, list[Answer]]:
    """Each one's answers, round by round, the order reversed every other round."""
    answers: dict[str, list[Answer]] = {contender.name: [] for contender in everyone}
    for number in range(rounds):
        for contender in everyone if number % 2 == 0 else everyone[::-1]:
            answers[contender.name].append(ask(contender))
    return answers


def rates(answers: Sequence[Answer], figure: str) -> list[float]:
    """The median of each round that has an answer."""
    return [median(found[figure]) for found in answers if figure in found]


def row(contender: Contender, answers: Mapping[str, Sequence[Answer]]) -> str:
    """A contender's line: its rates, and ours divided by them."""
    found, base = answers[contender.name], answers[contender.against]
    if not rates(found, "decode") or not rates(base, "decode"):
        reason = next((str(answer["reason"]) for answer in (*found, *base) if "reason" in answer), "no answer")
        return f"| {contender.name} | not run: {reason} | | | | |"
    cells = [contender.name, *(f"{median(rates(found, figure)):.1f}" for figure in ("prefill", "decode"))]
    if contender.name == contender.against:
        return f"| {' | '.join(cells)} | | | |"
    missed = []
    for figure in ("prefill", "decode"):
        ratio = ratio_of_medians(rates(base, figure), rates(found, figure))
        interval = f" ({ratio.low:.3f} to {ratio.high:.3f})" if ratio.low is not None else ""
        cells.append(f"{ratio.value:.3f}{interval}")
        if contender.target and abs(ratio.value - 1) > contender.target:
            missed.append(figure)
    verdict = (
        ""
        if contender.target is None
        else f"within {contender.target:.0%}: " + (f"no, {' and '.join(missed)}" if missed else "yes")
    )
    return f"| {' | '.join([*cells, verdict])} |"


def peak_line(answers: Sequence[Answer]) -> str:
    """Our mark of a process beside the kernel's own."""
    peaks = [(found["peak"], found["wait4"]) for found in answers if "peak" in found]
    if not peaks:
        return "Peak memory: not measured."
    ours, kernel = median(peak for peak, _ in peaks), median(mark for _, mark in peaks)
    apart = max(abs(peak / mark - 1) for peak, mark in peaks)
    counter = next(found["counter"] for found in answers if "counter" in found)
    within = "yes" if apart <= 0.02 else "no"
    return (
        f"Peak memory of our process: {counter} {ours:.0f} bytes, the kernel's ru_maxrss (wait4) {kernel:.0f} bytes; "
        f"ratio {ours / kernel:.4f}, furthest from 1 in any round {apart:.4f}; within 2 %: {within}."
    )


def texts_line(answers: Mapping[str, Sequence[Answer]]) -> str:
    """Whether everyone who chose tokens chose the same ones: only then was the same work timed."""
    chosen = {name: {tuple(a["chosen"]) for a in found if a.get("chosen")} for name, found in answers.items()}
    chosen = {name: texts for name, texts in chosen.items() if texts and "llama" not in name}
    same = len(set().union(*chosen.values())) == 1 if chosen else False
    return f"Tokens chosen by {', '.join(chosen)}: {'the same, token for token' if same else 'NOT the same'}."


def report(
    everyone: Sequence[Contender], answers: Mapping[str, Sequence[Answer]], work: tuple[int, int, int], machine: str
) -> str:
    """The Markdown page."""
    prompt, tokens, repeats = work
    rounds = max(len(found) for found in answers.values())
    how = (
        f"`nox -s validate`, {time.strftime('%Y-%m-%d', time.gmtime())}, {machine}. {DEFAULT_MODEL}, fp32, prompt "
        f"{prompt}, {tokens} tokens generated (llama.cpp: 512 and 128, q8_0). Every contender is a process of its own, "
        f"{rounds} rounds in turns, one warm-up and {repeats} repeats each; rates are medians over the rounds' medians "
        "in tokens/s, ratios are ours / theirs with 95 % intervals."
    )
    head = "| contender | prefill | decode | ours / it, prefill | ours / it, decode | target |"
    lines = ["# Beside the peers", "", how, "", head, "| --- | ---: | ---: | ---: | ---: | --- |"]
    lines += [row(contender, answers) for contender in everyone]
    return "\n".join([*lines, "", peak_line(answers["ours"]), "", texts_line(answers), ""])


def main() -> None:
    """Take turns, then print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--prompt", type=int, default=256)
    parser.add_argument("--tokens", type=int, default=32)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--peer-python", help="of an environment with optimum-benchmark 0.6.0")
    parser.add_argument("--out", type=Path, help="where to write the report too")
    options = parser.parse_args()
    work = (options.prompt, options.tokens, options.repeats)
    llama = bool(installed([LLAMA]))
    everyone = contenders(work, options.peer_python, llama)
    text = report(everyone, take_turns(everyone, options.rounds), work, describe("cpu").device)
    absent = [name for name, here in ((LLAMA, llama), ("optimum-benchmark", options.peer_python)) if not here]
    if absent:
        text += f"\nLeft out, for it is not installed: {', '.join(absent)}.\n"
    if options.out:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
