# SPDX-License-Identifier: Apache-2.0
"""What the scripts share that time an engine of an exported graph beside bare loops over its library.

Loops take turns in one process on one loaded graph, the order swapped every round; the first round warms up. Distances
are those of log-likelihoods of pieces of the probe text from transformers at float32, which computes in a process of
its own and, where another interpreter is named, in an environment of its own.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Sequence
from statistics import fmean, median
from typing import Any, Protocol

import numpy as np
from lm_eval.api.instance import Instance

from bench.engines.registry import backend
from bench.instruments.clock import HostClock
from bench.judge.stats import Estimate, ratio_of_medians
from bench.scoring.lm import EngineLM
from benchmarks import default_model
from benchmarks.answering import MAX_LENGTH
from suites import probe
from suites.repeats import one_repeat

PROMPT, TOKENS = 512, 64
PIECES, BEFORE, BEHIND = 10, 240, 60
"""Pieces of each register, and the characters that stand before each and that it has."""
WITHIN, NEAR = 1.03, 1e-2
"""What is to be reached: seconds of a bare loop's, nats on average."""


class Bare(Protocol):
    """A library's own call, and no more."""

    def clear(self) -> None:
        """Carry nothing."""

    def read(self, tokens: Any, held: int) -> Any:
        """Logits (vocabulary) behind the last of some tokens (1, count), which `held` others precede."""


def run(bare: Bare, prompt: list[int], ends: list[int], count: int) -> tuple[float, float]:
    """Seconds of the prompt, and from the first to the last of `count` tokens: the arg max, and again."""
    bare.clear()
    gc.collect()
    gc.disable()
    tokens, held, first = np.array([prompt], np.int64), 0, 0.0
    start = time.perf_counter()
    logits = bare.read(tokens, held)
    read = time.perf_counter()
    for index in range(count):
        logits[ends] = -np.inf
        held += tokens.shape[1]
        tokens = np.array([[logits.argmax()]], np.int64)
        if index == 0:
            first = time.perf_counter()
        if index < count - 1:
            logits = bare.read(tokens, held)
    end = time.perf_counter()
    gc.enable()
    bare.clear()
    return read - start, end - first


def speeds(scheme: str, engine: Any, loops: dict[str, Bare], rounds: int, count: int) -> tuple[list[str], bool]:
    """Rows of a report: each phase of the throughput suite's repeat beside each loop; whether all are near enough."""
    prompt, ends = probe.prompt(engine.encode, PROMPT), sorted(engine.end_tokens)

    def suite() -> tuple[float, float]:
        repeat = one_repeat(engine, HostClock(), [prompt], count)
        return repeat.prefill_s, sum(repeat.gaps_s)

    def timer(bare: Bare) -> Callable[[], tuple[float, float]]:
        return lambda: run(bare, prompt, ends, count)

    timers = {"suite": suite} | {name: timer(bare) for name, bare in loops.items()}
    seconds: dict[tuple[str, str], list[float]] = {}
    for index in range(rounds + 1):
        for name in sorted(timers, reverse=bool(index % 2)):
            taken = timers[name]()
            if index:  # the first round warms up
                for phase, value in zip(("prefill", "decode"), taken, strict=True):
                    seconds.setdefault((phase, name), []).append(value)
    rows, near = [], True
    for phase, tokens in (("prefill", PROMPT), ("decode", count - 1)):
        own, theirs = seconds[phase, "suite"], [seconds[phase, name] for name in loops]
        against = [ratio_of_medians(own, other) for other in theirs]
        near &= max(ratio.value for ratio in against) <= WITHIN
        cells = [
            scheme, phase, *(f"{tokens / median(taken):.1f}" for taken in (*theirs, own)), *map(interval, against),
            str(len(own)),
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


def distances(engine: str, scheme: str, theirs: dict[str, Sequence[Any]]) -> tuple[list[str], bool]:
    """Rows of a report for one scheme; whether every register is near enough to what transformers answered."""
    ours = EngineLM(
        default_model.load(backend(engine), backend(engine).scheme(scheme)), MAX_LENGTH, lambda done, total: None
    )
    rows, near = [], True
    for register, other in theirs.items():
        asked = pieces(register)
        own = ours.loglikelihood(asked, disable_tqdm=True)
        apart = [abs(one - two) for (one, _), (two, _) in zip(own, other, strict=True)]
        tokens = sum(len(ours.engine.encode(request.args[1])) for request in asked)
        near &= fmean(apart) <= NEAR
        cells = [
            scheme, register, str(len(apart)), str(tokens), f"{fmean(apart):.1e}", f"{max(apart):.1e}",
            f"{-sum(value for value, _ in other) / tokens:.3f}",
        ]  # fmt: skip
        rows.append(f"| {' | '.join(cells)} |")
    ours.engine.close()
    return rows, near
