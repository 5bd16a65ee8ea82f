# SPDX-License-Identifier: Apache-2.0
"""Prefill and decode speed of one loaded model, every sample kept; larger batches and other prompts as further points.

One repeat reads a prompt of `prompt_tokens` of the project's probe text and then generates exactly `decode_tokens`
tokens greedily, end-of-sequence tokens suppressed so that no model stops early. Timestamps are taken on the host
after the device has finished: before the prompt is handed over, when its logits are there (`prefill_s`), when the
first token is on the host (`ttft_s`), and at each token after that; the gaps are `itl_s`, all of them. On reading,
prefill is prompt tokens x batch / prefill_s and decode is (tokens - 1) x batch / the sum of a repeat's gaps: both
are aggregate rates, and a sequence's own is that divided by the batch.

Warm-up rounds come first, at least `warmup_min` and at most `warmup_max`: a round is the prompt and eight tokens, and
warm-up ends when two rounds in a row differ by less than 5 % both in prefill and in the median gap; its samples are
kept apart. Then `repeats` repeats, and more up to `repeats_max` while the 95 % interval of the median prefill or
decode rate is wider than 10 % of it; what is still wider is marked `noisy`. Five repeats are the least for which two
runs' intervals, which up to five samples are their whole range, miss each other in fewer than one of a hundred runs
of the same machine (2 / binomial(10, 5)); three miss in one of ten. The garbage collector is off while a repeat runs,
as in timeit. The text of the first repeat is kept and checked: no text, or fewer tokens than asked for, and the cell
has failed; so has it where the logits of a repeat's last tokens, looked at after its last timestamp, are NaN or
infinite. A repeat that generates something else is a caveat. A masked model has no tokens to generate: its repeats
are forward passes, prefill alone, at the main point, by the same rules. A model with fewer positions than prompt and
answer need gets a shorter prompt there, with a warning.

`points` are further (batch, prompt) pairs, the smallest first, each with `point_repeats` to `point_repeats_max`
repeats of `point_decode_tokens` tokens; their measurements carry the label `point`. A batch is the prompt and its
rotations, so that no sequence equals another. A point is left out with its reason where the context is too short,
where memory grown in proportion from the point before it would not fit, or where it did not fit.

`depths` are tests behind a text read already (`suites/depths.py`), in the full profile.

One warm-up round and two repeats are measured whatever the budget. Where a cell's share of it does not hold two repeats
of the whole length, the answer is halved until it does, down to 16 tokens. Every further round is measured only where
the share still holds what the last one took. What was left out is a warning; the labels `repeats_asked` and
`decode_asked` stand beside samples that are fewer or shorter than was asked for, and rows whose answers have different
lengths are compared over the tokens that both generated.

Bytes that one decode step must read (weights but the looked-up embeddings and a mixture's experts that no sequence is
sent through, and the cache at half of the generation, states of fixed size whole) and operations that one prompt token
costs (two for each linear weight of the experts it is sent through; the head reads the last position alone) stand
beside the samples, so that a reader can hold both rates against the device's roofs. Only decoders have them: an encoder
computes each prompt token with half of its model alone, and a masked model's head reads every position.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from statistics import median
from typing import Any

from pydantic import JsonValue

from bench.engines.contract import DoesNotFit
from bench.records.record import Caveat, How, Measurement, Unit
from bench.suite import SuiteRun, Work, measured
from suites import depths, energy, probe
from suites.repeats import (
    LEAST_REPEATS,
    LEAST_TOKENS,
    WARMUP_TOKENS,
    Repeat,
    one_repeat,
    samples,
)  # fmt: skip
from suites.sweep import Point, points

VERSION = 2
MAIN: dict[str, JsonValue] = {"prompt_tokens": 512, "decode_tokens": 128, "batch": 1}
POINTS: list[JsonValue] = [[1, 128], [4, 128], [16, 128], [1, 2048], [4, 512], [16, 512], [4, 2048], [16, 2048]]
PROFILES: dict[str, dict[str, JsonValue]] = {
    "smoke": {
        "prompt_tokens": 128, "decode_tokens": 16, "batch": 1, "repeats": 2, "repeats_max": 2,
        "warmup_min": 1, "warmup_max": 2, "points": [],
    },
    "standard": {
        **MAIN, "repeats": 5, "repeats_max": 10, "warmup_min": 2, "warmup_max": 6, "points": [],
    },
    "full": {
        **MAIN, "repeats": 10, "repeats_max": 30, "warmup_min": 2, "warmup_max": 10, "points": POINTS,
        "point_decode_tokens": 32, "point_repeats": 4, "point_repeats_max": 8,
        "depths": [0, 2048, 8192], "depth_prompt_tokens": 512, "depth_decode_tokens": 32, "depth_repeats": 3,
    },
}  # fmt: skip
ROOM = 0.9
"""Share of the device's memory that a point may be expected to need."""


class EmptyOutput(Exception):
    """The model answered without text, or with fewer tokens than asked for: its speed means nothing."""


def work(settings: Mapping[str, Any]) -> Work:
    """Repeats, and about one warm-up round more than the least; a masked model generates nothing."""
    prefill = decode = begun = 0.0
    for point in points(settings):
        rounds = point.warmup_min + 1
        begun += point.repeats + rounds
        prefill += (point.repeats + rounds) * point.batch * point.prompt_tokens
        decode += point.repeats * point.decode_tokens + rounds * WARMUP_TOKENS
    if settings.get("objective") == "masked":
        return Work(prefill_tokens=round(prefill), decode_tokens=0, rounds=round(begun))
    behind = depths.work(settings)
    return Work(
        prefill_tokens=round(prefill) + behind.prefill_tokens, decode_tokens=round(decode) + behind.decode_tokens,
        rounds=round(begun) + behind.rounds,
    )  # fmt: skip


def least(settings: Mapping[str, Any]) -> Work:
    """One warm-up round and two repeats of the shortest answer, at the main point."""
    main = points(settings)[0]
    repeats, tokens = min(LEAST_REPEATS, main.repeats), min(LEAST_TOKENS, main.decode_tokens)
    decode = 0 if settings.get("objective") == "masked" else repeats * tokens + WARMUP_TOKENS
    prefill = (repeats + 1) * main.batch * main.prompt_tokens
    return Work(prefill_tokens=prefill, decode_tokens=decode, rounds=repeats + 1)


def done(settings: Mapping[str, Any], measurements: Sequence[Measurement]) -> Work:
    """The rounds and repeats that have samples."""
    behind = depths.done(measurements)
    prefill, decode, begun = behind.prefill_tokens, behind.decode_tokens, behind.rounds
    for measurement in measurements:
        rounds = len(measurement.values)
        if measurement.name in {"prefill_s", "warmup_prefill_s"}:
            labels = measurement.labels
            begun += rounds
            prefill += rounds * int(str(labels["batch"])) * int(str(labels["prompt_tokens"]))
        elif measurement.name == "warmup_itl_s":
            decode += rounds * WARMUP_TOKENS
        elif measurement.name in {"itl_s", "ttft_s"}:
            decode += rounds
    return Work(prefill_tokens=prefill, decode_tokens=decode, rounds=begun)


def measure(run: SuiteRun) -> list[Measurement]:
    """Time the main point, then every other that fits."""
    main, *others = points(run.settings)
    generates = run.settings.get("objective") != "masked"
    main = replace(main, prompt_tokens=probe.room(run, main.decode_tokens if generates else 0))
    prompt = probe.prompt(run.engine.encode, main.prompt_tokens)
    if not generates:
        return _forward_passes(run, main, prompt) + energy.measure(run, prompt, generates=False)
    found, growth = list[Measurement](), 0.0  # bytes that the point before needed for each of its tokens
    for point in (main, *others):
        if not point.main and run.spent():
            run.cut(f"throughput at {point}: the budget was spent before it")
            continue
        lacking = None if point.main else _why_not(run, point, growth)
        if lacking is None:
            run.instruments.memory.reset_peak()
            before = run.instruments.memory.read().total_bytes
            try:
                found += _point(run, point)
            except DoesNotFit as error:
                if point.main:
                    raise
                lacking = f"it did not fit in {error.phase}"
            growth = max(0, run.instruments.memory.peak().total_bytes - before) / point.tokens
        if lacking:
            run.caveats.append(Caveat(kind="not_measured", text=f"throughput at {point}: {lacking}"))
    return found + _roof_terms(run, found) + depths.measure(run) + energy.measure(run, prompt)


def _why_not(run: SuiteRun, point: Point, growth: float) -> str | None:
    """Why a point is not even tried."""
    held = point.prompt_tokens + point.decode_tokens
    if held > run.engine.context_length:
        return f"{held} tokens are more than this model's context of {run.engine.context_length}"
    most = getattr(run.engine, "most_sequences", None)
    if most and point.batch > most:
        return f"this engine generates at most {most} sequences at once"
    memory = run.instruments.memory
    wanted, room = memory.read().total_bytes + growth * point.tokens, memory.capacity_bytes()
    if wanted > ROOM * room:
        return f"it would need about {wanted / 2**30:.1f} GiB, {room / 2**30:.1f} GiB are there"
    return None


def _point(run: SuiteRun, point: Point) -> list[Measurement]:
    """Samples of one point, and its text checked."""
    prompts, clock = _prompts(run.engine.encode, point), run.instruments.clock

    def once(tokens: int, where: str) -> Repeat:
        found = one_repeat(run.engine, clock, prompts, tokens)
        run.require_finite(found.finite, f"token {tokens} of the text, in {where}")
        return found

    asked = point
    rounds, repeats = samples(run, asked, once)
    point = replace(asked, decode_tokens=len(repeats[0].gaps_s) + 1)
    _check_output(run, point, repeats)
    labels, gaps = _labels(asked, len(repeats)), [gap for repeat in repeats for gap in repeat.gaps_s]
    seconds = {
        "prefill_s": [r.prefill_s for r in repeats], "ttft_s": [r.ttft_s for r in repeats],
        "warmup_prefill_s": [r.prefill_s for r in rounds], "warmup_itl_s": [median(r.gaps_s) for r in rounds],
    }  # fmt: skip
    found = [measured(n, Unit.SECOND, values, counter=clock.name, labels=labels) for n, values in seconds.items()]
    per_repeat = {**labels, "per_repeat": point.decode_tokens - 1}
    if point.decode_tokens < asked.decode_tokens:
        per_repeat["decode_asked"] = asked.decode_tokens
    found.append(measured("itl_s", Unit.SECOND, gaps, digits=6, counter=clock.name, labels=per_repeat))
    held, fixed = round(repeats[0].position_bytes), repeats[0].fixed_bytes
    of = point.labels | ({"fixed_bytes": fixed} if fixed else {})
    return [*found, measured("position_bytes", Unit.BYTE, held, counter="cache tensors", labels=of)]


def _labels(point: Point, repeats: int) -> dict[str, JsonValue]:
    """A point's own labels, and how many repeats were asked for where there are fewer."""
    return point.labels | ({"repeats_asked": point.repeats} if repeats < point.repeats else {})


def _forward_passes(run: SuiteRun, point: Point, prompt: list[int]) -> list[Measurement]:
    """Prefill alone, for a model that does not generate."""
    clock = run.instruments.clock

    def once(tokens: int, where: str) -> Repeat:
        start = clock.now()
        with closing(run.engine.prefill([prompt])) as read:
            seconds = clock.now() - start
            run.require_finite(read.finite, f"the text of {len(prompt)} tokens, in {where}")
        return Repeat(seconds, seconds, (), (), 0.0, 0, finite=True)

    rounds, repeats = samples(run, replace(point, decode_tokens=0), once)
    labels = _labels(point, len(repeats))
    return [
        measured(name, Unit.SECOND, [r.prefill_s for r in found], counter=clock.name, labels=labels)
        for name, found in (("prefill_s", repeats), ("warmup_prefill_s", rounds))
    ]


def _prompts(encode: Callable[[str], list[int]], point: Point) -> list[list[int]]:
    """The probe prompt and its rotations."""
    first = probe.prompt(encode, point.prompt_tokens)
    shift = max(1, len(first) // point.batch)
    return [first[i * shift :] + first[: i * shift] for i in range(point.batch)]


def _check_output(run: SuiteRun, point: Point, repeats: Sequence[Repeat]) -> None:
    wanted = point.batch * point.decode_tokens
    for repeat in repeats:
        if len(repeat.tokens) != wanted:
            raise EmptyOutput(f"{len(repeat.tokens)} tokens came back where {wanted} were asked for")

    if not point.main:
        return
    text = run.engine.decode(repeats[0].tokens)
    run.keep_text("generated", text, wanted)
    if not text.strip():
        raise EmptyOutput(f"{wanted} tokens were generated but decode to no text")
    different = sum(repeat.tokens != repeats[0].tokens for repeat in repeats)
    if different:
        run.caveats.append(
            Caveat(
                kind="not_repeatable",
                text=f"{different} of {len(repeats)} repeats generated a different text from the same prompt",
                advice="the kernels of this device are not deterministic; quality intervals must allow for it",
            )
        )


def _place(measurement: Measurement) -> tuple[JsonValue, JsonValue]:
    """Which point its samples belong to."""
    return measurement.labels["batch"], measurement.labels["prompt_tokens"]


def _roof_terms(run: SuiteRun, found: Sequence[Measurement]) -> list[Measurement]:
    """What one decode step reads and one prompt token computes, by the census."""
    census = run.engine.census()
    if not census.total_bytes or "objective" in run.settings:
        return []
    terms = []
    gaps = {_place(m): int(str(m.labels["per_repeat"])) for m in found if m.name == "itl_s"}
    for cache in (m for m in found if m.name == "position_bytes"):
        generated = gaps[_place(cache)] + 1
        prompt = cache.labels["prompt_tokens"]
        assert isinstance(prompt, int)
        fixed = cache.labels.get("fixed_bytes", 0)
        assert isinstance(fixed, int)
        held = fixed + cache.values[0] * (prompt + generated / 2)
        batch = cache.labels["batch"]
        assert isinstance(batch, int)
        amount = round(census.read_bytes(batch) + held)
        labels = {name: value for name, value in cache.labels.items() if name != "fixed_bytes"}
        terms.append(("read_bytes_per_step", Unit.BYTE, amount, labels))
    terms.append(
        ("operations_per_token", Unit.COUNT, round(2 * census.multiplied_weights), {"compute": census.compute})
    )
    return [
        measured(name, unit, value, how=How.COMPUTED, counter="census", labels=labels)
        for name, unit, value, labels in terms
    ]
