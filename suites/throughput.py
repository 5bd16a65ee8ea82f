# SPDX-License-Identifier: Apache-2.0
"""Prefill and decode speed of one loaded model at batch 1, every sample kept.

One repeat reads a prompt of `prompt_tokens` of the project's probe text and then generates exactly `decode_tokens`
tokens greedily, end-of-sequence tokens suppressed so that no model stops early. Timestamps are taken on the host
after the device has finished: before the prompt is handed over, when its logits are there (`prefill_s`), when the
first token is on the host (`ttft_s`), and at each token after that; the gaps are `itl_s`, all of them. On reading,
prefill is prompt tokens / prefill_s and decode is (tokens - 1) / the sum of a repeat's gaps.

Warm-up rounds come first, at least `warmup_min` and at most `warmup_max`: a round is the prompt and eight tokens, and
warm-up ends when two rounds in a row differ by less than 5 % both in prefill and in the median gap; its samples are
kept apart. The garbage collector is off while a repeat runs, as in timeit. The text of the first repeat is kept and
checked: no text, or fewer tokens than asked for, and the cell has failed; a repeat that generates something else is
a caveat. A masked model has no tokens to generate: its repeats are forward passes, prefill alone. A model with fewer
positions than prompt and answer need gets a shorter prompt, with a warning.
"""

from __future__ import annotations

import gc
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from statistics import median
from typing import Any

from pydantic import JsonValue

from bench.engine import Engine
from bench.instruments import Clock
from bench.record import Caveat, Measurement, Unit
from bench.suite import SuiteRun, Work, measured
from suites import probe

VERSION = 1
PROFILES = {
    "smoke": {
        "prompt_tokens": 128, "decode_tokens": 16, "batch": 1, "repeats": 2, "warmup_min": 1, "warmup_max": 2,
    },
    "standard": {
        "prompt_tokens": 512, "decode_tokens": 128, "batch": 1, "repeats": 3, "warmup_min": 2, "warmup_max": 6,
    },
    "full": {
        "prompt_tokens": 512, "decode_tokens": 128, "batch": 1, "repeats": 10, "warmup_min": 2, "warmup_max": 10,
    },
}  # fmt: skip
WARMUP_TOKENS = 8
STEADY = 0.05
"""Two rounds that differ by less than this share count as steady."""


class EmptyOutput(Exception):
    """The model answered without text, or with fewer tokens than asked for: its speed means nothing."""


@dataclass(frozen=True)
class Repeat:
    """Seconds of one repeat, and the tokens it produced."""

    prefill_s: float
    ttft_s: float
    gaps_s: tuple[float, ...]
    tokens: tuple[int, ...]


def work(settings: Mapping[str, Any]) -> Work:
    """Repeats, and about three warm-up rounds."""
    rounds = settings["repeats"] + settings["warmup_min"] + 1
    decode = settings["repeats"] * settings["decode_tokens"] + (settings["warmup_min"] + 1) * WARMUP_TOKENS
    return Work(prefill_tokens=rounds * settings["prompt_tokens"], decode_tokens=decode)


def measure(run: SuiteRun) -> list[Measurement]:
    """Warm up until steady, then time the repeats."""
    settings, clock = run.settings, run.instruments.clock
    generates = settings.get("objective") != "masked"
    prompt = probe.prompt(run.engine.encode, probe.room(run, settings["decode_tokens"] if generates else 0))
    if not generates:
        return _forward_passes(run, prompt)
    rounds = _warm_up(run, prompt)
    repeats: list[Repeat] = []
    for index in range(settings["repeats"]):
        run.phase("repeat", index, settings["repeats"])
        repeats.append(one_repeat(run.engine, clock, prompt, settings["decode_tokens"]))
    run.phase("repeat", settings["repeats"], settings["repeats"])
    _check_output(run, repeats)
    labels: dict[str, JsonValue] = {"prompt_tokens": len(prompt), "batch": settings["batch"]}
    gaps = [gap for repeat in repeats for gap in repeat.gaps_s]
    per_repeat = settings["decode_tokens"] - 1
    return [
        measured("prefill_s", Unit.SECOND, [r.prefill_s for r in repeats], counter=clock.name, labels=labels),
        measured("ttft_s", Unit.SECOND, [r.ttft_s for r in repeats], counter=clock.name, labels=labels),
        measured("itl_s", Unit.SECOND, gaps, digits=6, counter=clock.name, labels={**labels, "per_repeat": per_repeat}),
        measured("warmup_prefill_s", Unit.SECOND, [r.prefill_s for r in rounds], counter=clock.name, labels=labels),
        measured("warmup_itl_s", Unit.SECOND, [median(r.gaps_s) for r in rounds], counter=clock.name, labels=labels),
    ]


def _forward_passes(run: SuiteRun, prompt: list[int]) -> list[Measurement]:
    """Prefill alone, its warm-up rounds first, for a model that does not generate."""
    settings, clock = run.settings, run.instruments.clock
    seconds: list[float] = []
    for index in range(settings["warmup_max"] + settings["repeats"]):
        run.phase("repeat", index, settings["warmup_max"] + settings["repeats"])
        start = clock.now()
        run.engine.prefill([prompt]).close()
        seconds.append(clock.now() - start)
    labels: dict[str, JsonValue] = {"prompt_tokens": len(prompt), "batch": settings["batch"]}
    return [
        measured(name, Unit.SECOND, values, counter=clock.name, labels=labels)
        for name, values in (
            ("prefill_s", seconds[settings["warmup_max"] :]),
            ("warmup_prefill_s", seconds[: settings["warmup_max"]]),
        )
    ]


def one_repeat(engine: Engine, clock: Clock, prompt: list[int], decode_tokens: int) -> Repeat:
    """Read the prompt and generate exactly `decode_tokens` tokens, with a timestamp for each."""
    collecting = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        now = clock.now
        start = now()
        generation = engine.prefill([prompt], suppress=engine.end_tokens)
        read = now()
        tokens = generation.step()
        stamps = [now()]
        for _ in range(decode_tokens - 1):
            tokens += generation.step()
            stamps.append(now())
        generation.close()
    finally:
        if collecting:
            gc.enable()
    gaps = tuple(later - earlier for earlier, later in pairwise(stamps))
    return Repeat(read - start, stamps[0] - start, gaps, tuple(tokens))


def _warm_up(run: SuiteRun, prompt: list[int]) -> list[Repeat]:
    rounds: list[Repeat] = []
    low, high = run.settings["warmup_min"], run.settings["warmup_max"]
    while len(rounds) < high:
        run.phase("warm-up", len(rounds), high)
        rounds.append(one_repeat(run.engine, run.instruments.clock, prompt, WARMUP_TOKENS))
        if len(rounds) >= max(2, low) and _steady(rounds[-2], rounds[-1]):
            return rounds
    if high >= 2:
        run.caveats.append(
            Caveat(
                kind="not_steady",
                text=f"speed still changed by more than {STEADY:.0%} between the last of {high} warm-up rounds",
                advice="close other programs and measure again; trust the interval, not the median alone",
            )
        )
    return rounds


def _steady(before: Repeat, after: Repeat) -> bool:
    pairs = [(before.prefill_s, after.prefill_s), (median(before.gaps_s), median(after.gaps_s))]
    return all(abs(a - b) <= STEADY * min(a, b) for a, b in pairs)


def _check_output(run: SuiteRun, repeats: list[Repeat]) -> None:
    wanted = run.settings["decode_tokens"]
    text = run.engine.decode(repeats[0].tokens)
    run.keep_text("generated", text, len(repeats[0].tokens))
    if not text.strip():
        raise EmptyOutput(f"{wanted} tokens were generated but decode to no text")
    for repeat in repeats:
        if len(repeat.tokens) != wanted:
            raise EmptyOutput(f"{len(repeat.tokens)} tokens came back where {wanted} were asked for")
    different = sum(repeat.tokens != repeats[0].tokens for repeat in repeats)
    if different:
        run.caveats.append(
            Caveat(
                kind="not_repeatable",
                text=f"{different} of {len(repeats)} repeats generated a different text from the same prompt",
                advice="the kernels of this device are not deterministic; quality intervals must allow for it",
            )
        )
