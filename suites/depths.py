# SPDX-License-Identifier: Apache-2.0
"""Speed behind a text that has been read already, part of the throughput suite: llama-bench's `pp512 @ d2048`.

At each of `depths` a cache of so many tokens is filled with the probe text, untimed. Then `depth_prompt_tokens` more
are read in one piece (`pp`), and behind a cache filled anew `depth_decode_tokens` are generated (`tg`), greedily, each
`depth_repeats` times after one round that is not counted. At depth 0 a prompt is read as everywhere else; generating
begins behind one token, which every text has. A model that cannot go on reading behind its cache, or has too few
positions, has no such samples, and a warning says why. Nothing here is measured once the cell's share is spent.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from typing import Any

from bench.engines.abilities import ReadsOn
from bench.engines.contract import DoesNotFit, Generation, Unsupported
from bench.records.record import Caveat, Measurement, Unit
from bench.suite import SuiteRun, Work, measured
from suites import probe


def work(settings: Mapping[str, Any]) -> Work:
    """Two caches for every repeat and the round before them, and what is timed behind each."""
    depths, rounds = settings.get("depths", ()), 1 + settings.get("depth_repeats", 0)
    read = sum(2 * depth + settings["depth_prompt_tokens"] for depth in depths)
    generated = len(depths) * settings.get("depth_decode_tokens", 0)
    return Work(prefill_tokens=rounds * read, decode_tokens=rounds * generated, rounds=2 * rounds * len(depths))


def done(measurements: Sequence[Measurement]) -> Work:
    """What the samples show."""
    prefill = decode = begun = 0
    for one in measurements:
        if one.name == "depth_prefill_s":
            rounds = len(one.values) + 1
            prefill += rounds * int(str(one.labels["depth"])) * 2 + rounds * int(str(one.labels["tokens"]))
            begun += 2 * rounds
        elif one.name == "depth_decode_s":
            decode += (len(one.values) + 1) * int(str(one.labels["tokens"]))
    return Work(prefill_tokens=prefill, decode_tokens=decode, rounds=begun)


def measure(run: SuiteRun) -> list[Measurement]:
    """Seconds of both tests at every depth that fits."""
    found: list[Measurement] = []
    lasted = 0.0
    for depth in run.settings.get("depths", ()):
        if run.spent(lasted):
            run.cut(f"throughput at depth {depth}: the budget was spent before it")
            continue
        start = run.instruments.clock.now()
        try:
            found += _at(run, depth)
        except Unsupported as reason:
            run.caveats.append(Caveat(kind="not_measured", text=f"throughput at depth {depth}: {reason}"))
        except DoesNotFit as error:
            text = f"throughput at depth {depth}: it did not fit in {error.phase}"
            run.caveats.append(Caveat(kind="not_measured", text=text))
        lasted = run.instruments.clock.now() - start
    return found


def _at(run: SuiteRun, depth: int) -> Iterator[Measurement]:
    """Raises Unsupported, DoesNotFit."""
    prompt, decode = run.settings["depth_prompt_tokens"], run.settings["depth_decode_tokens"]
    if (needed := depth + max(prompt, decode)) > run.engine.context_length:
        raise Unsupported(f"{needed} tokens are more than this model's context of {run.engine.context_length}")
    text = probe.prompt(run.engine.encode, depth + prompt)
    if len(text) < depth + prompt:
        raise Unsupported(f"the probe text has {len(text)} tokens")
    rounds, clock = 1 + run.settings["depth_repeats"], run.instruments.clock
    for name, tokens, once in (("depth_prefill_s", prompt, _read), ("depth_decode_s", decode, _generate)):
        seconds = []
        for index in range(rounds):
            run.phase(f"depth {depth}", index, rounds)
            seconds.append(once(run, text, depth, tokens))
        labels = {"depth": depth, "tokens": tokens}
        yield measured(name, Unit.SECOND, seconds[1:], counter=clock.name, labels=labels)


def _read(run: SuiteRun, text: list[int], depth: int, tokens: int) -> float:
    """Seconds of reading so many tokens behind the cache."""
    now = run.instruments.clock.now
    if depth == 0:
        start = now()
        generation = run.engine.prefill([text[:tokens]])
        seconds = now() - start
    else:
        generation = run.engine.prefill([text[:depth]])
    with closing(generation):
        if depth:
            if not isinstance(generation, ReadsOn):
                raise Unsupported("this engine reads no more behind what its cache holds")
            _make_room(generation, tokens)
            start = now()
            generation.read([text[depth : depth + tokens]])
            seconds = now() - start
        generation.step()
        run.require_finite(generation.finite, f"{tokens} tokens read at depth {depth}")
    return seconds


def _make_room(generation: Generation, tokens: int) -> None:
    """Where the engine must, so that no move is timed."""
    if reserve := getattr(generation, "reserve", None):
        reserve(tokens)


def _generate(run: SuiteRun, text: list[int], depth: int, tokens: int) -> float:
    """Seconds of generating so many tokens behind the cache, each with its own pass."""
    now = run.instruments.clock.now
    with closing(run.engine.prefill([text[: max(1, depth)]], suppress=run.engine.end_tokens)) as generation:
        _make_room(generation, tokens)
        generation.step()  # chosen by what the prompt left
        start = now()
        for _ in range(tokens):
            generation.step()
        seconds = now() - start
        run.require_finite(generation.finite, f"token {tokens} generated at depth {depth}")
    return seconds
