# SPDX-License-Identifier: Apache-2.0
"""The rounds of the throughput suite: warm-up until steady, repeats until narrow, as many as the budget holds.

Part of the throughput suite, whose docstring says when rounds end.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import pairwise
from statistics import median

from bench.engines.contract import Engine
from bench.instruments import Clock
from bench.judge.stats import median_estimate
from bench.records.record import Caveat
from bench.suite import SuiteRun
from suites.sweep import Point

WARMUP_TOKENS = 8
LEAST_REPEATS, LEAST_TOKENS = 2, 16
"""What is repeated and generated whatever the budget, where that much is asked for."""
STEADY = 0.05
"""Two rounds that differ by less than this share count as steady."""
NOISY = 0.10
"""An interval wider than this share of its median is worth more repeats, then a caveat."""


@dataclass(frozen=True)
class Repeat:
    """Seconds of one repeat, and the tokens it produced, of all sequences in turn."""

    prefill_s: float
    ttft_s: float
    gaps_s: tuple[float, ...]
    tokens: tuple[int, ...]
    position_bytes: float
    """Bytes of the cache for one position of every sequence."""
    fixed_bytes: int
    """Bytes of the cache that are there whatever the positions: states of recurrent and convolution layers."""
    finite: bool
    """Whether the logits of its last tokens were numbers."""


Once = Callable[[int, str], Repeat]
"""One repeat of so many tokens; the text says which one, where its logits are no numbers."""


def samples(run: SuiteRun, point: Point, once: Once) -> tuple[list[Repeat], list[Repeat]]:
    """Warm-up rounds until steady, then repeats until the interval is narrow; says what stayed open."""
    clock = run.instruments.clock
    rounds = _warm_up(run, point, once)
    tokens = _affordable_tokens(run, point, rounds[-1]) if rounds else point.decode_tokens
    repeats: list[Repeat] = []
    lasted = 0.0
    while len(repeats) < point.repeats or (len(repeats) < point.repeats_max and _noise(repeats)):
        if len(repeats) >= LEAST_REPEATS and run.spent(lasted):
            break
        run.phase("repeat" if point.main else str(point), len(repeats), max(point.repeats, len(repeats) + 1))
        start = clock.now()
        repeats.append(once(tokens, f"repeat {len(repeats) + 1}"))
        lasted = clock.now() - start
    for name, width in _noise(repeats).items():
        run.caveats.append(_noisy(point, name, width, len(repeats), spent=len(repeats) < point.repeats_max))
    _tell_cuts(run, point, len(repeats), tokens)
    return rounds, repeats


def _tell_cuts(run: SuiteRun, point: Point, repeats: int, tokens: int) -> None:
    cuts = [f"{repeats} of {point.repeats} repeats"] if repeats < point.repeats else []
    cuts += [f"{tokens} of {point.decode_tokens} generated tokens"] if tokens < point.decode_tokens else []
    if cuts:
        run.cut(f"throughput{'' if point.main else f' at {point}'}: {', '.join(cuts)}")


def _seconds(last: Repeat, tokens: int) -> float:
    """What one repeat of so many tokens takes, by a round that was just timed."""
    return last.ttft_s + (tokens - 1) * (median(last.gaps_s) if last.gaps_s else 0.0)


def _affordable_tokens(run: SuiteRun, point: Point, last: Repeat) -> int:
    """The answer's length: as asked, or halved until the least repeats fit the share."""
    tokens = point.decode_tokens
    while tokens > LEAST_TOKENS and last.gaps_s and run.spent(LEAST_REPEATS * _seconds(last, tokens)):
        tokens = max(LEAST_TOKENS, tokens // 2)
    return tokens


def _warm_up(run: SuiteRun, point: Point, once: Once) -> list[Repeat]:
    rounds: list[Repeat] = []
    low, high = point.warmup_min, point.warmup_max
    while len(rounds) < high:
        if rounds and run.spent(rounds[-1].ttft_s + LEAST_REPEATS * _seconds(rounds[-1], point.decode_tokens)):
            return rounds  # repeats are worth more than another round before them
        run.phase("warm-up", len(rounds), high)
        rounds.append(once(WARMUP_TOKENS, "the warm-up"))
        if len(rounds) >= max(2, low) and _steady(rounds[-2], rounds[-1]):
            return rounds
    if high >= 2:
        where = "" if point.main else f" at {point}"
        run.caveats.append(
            Caveat(
                kind="not_steady",
                text=f"speed{where} still changed by more than {STEADY:.0%} between the last of {high} warm-up rounds",
                advice="close other programs and measure again; trust the interval, not the median alone",
            )
        )
    return rounds


def _steady(before: Repeat, after: Repeat) -> bool:
    pairs = [(before.prefill_s, after.prefill_s)]
    if before.gaps_s:  # a masked model has none
        pairs.append((median(before.gaps_s), median(after.gaps_s)))
    return all(abs(a - b) <= STEADY * min(a, b) for a, b in pairs)


def _noise(repeats: Sequence[Repeat]) -> dict[str, float]:
    """Width of the median's interval as a share of it, of each rate that is noisy."""
    if len(repeats) < 2:
        return {}
    rates = {"prefill": [1 / r.prefill_s for r in repeats]}
    if repeats[0].gaps_s:
        rates["decode"] = [1 / sum(r.gaps_s) for r in repeats]
    estimates = {name: median_estimate(samples) for name, samples in rates.items()}
    widths = {name: 2 * (found.half_width or 0.0) / found.value for name, found in estimates.items()}
    return {name: width for name, width in widths.items() if width > NOISY}


def _noisy(point: Point, name: str, width: float, repeats: int, *, spent: bool) -> Caveat:
    where = name if point.main else f"{name} at {point}"
    text = f"{where}: the interval is {width:.0%} of the median after {repeats} repeats"
    if spent:
        text = f"{text}, and the budget was spent"
        return Caveat(kind="undecided", text=text, advice="give a larger --budget, or none")
    return Caveat(kind="noisy", text=text, advice="close other programs and measure again, or with --profile full")


def one_repeat(engine: Engine, clock: Clock, prompts: Sequence[Sequence[int]], decode_tokens: int) -> Repeat:
    """Read the prompts and generate exactly `decode_tokens` tokens of each, with a timestamp for each step."""
    collecting = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        now = clock.now
        start = now()
        with closing(engine.prefill(prompts, suppress=engine.end_tokens)) as generation:
            read = now()
            tokens = list(generation.step())
            stamps = [now()]
            for _ in range(decode_tokens - 1):
                tokens += generation.step()
                stamps.append(now())
            fixed_bytes = getattr(generation, "fixed_bytes", 0)
            position_bytes = (generation.cache_bytes - fixed_bytes) / max(1, generation.cache_tokens)
            finite = generation.finite  # after the last timestamp
    finally:
        if collecting:
            gc.enable()
    gaps = tuple(later - earlier for earlier, later in pairwise(stamps))
    return Repeat(read - start, stamps[0] - start, gaps, tuple(tokens), position_bytes, fixed_bytes, finite)
