# SPDX-License-Identifier: Apache-2.0
"""Memory of one loaded model, from four independent counts that must add up.

Loading is timed and watched from before the engine is told to load until it is ready: `load_s`, `load_peak_bytes`.
Weights are a census of every parameter with its quantization metadata, shared tensors once (`weights_bytes`, one sample
per storage type in the label). Then the high-water mark is reset, a prompt of `prompt_tokens` is read and
`decode_tokens` are generated at batch 1; the KV cache is counted from its tensors (`kv_bytes`) while it is alive, every
tensor that a layer carries from token to token, and the peak is read (`peak_bytes`). States of recurrent and
convolution layers, which are of one size whatever the text, are among them and in the label `fixed_bytes`. All process
figures are absolute; baseline is the process with its libraries imported and nothing loaded. What loading freed but the
C library or the GPU allocator still held when the model was ready (`ready_bytes`) goes back to the system before
anything is run, because it belongs to the loader and not to the model: for a 4-bit model on a CPU it can be four times
the weights. A masked model reads the prompt and has no cache. A model with fewer positions than prompt and answer need
gets a shorter prompt, with a warning. On reading, then,

    peak above baseline = weights + their metadata + kv + workspace + runtime + unexplained
    unexplained = loaded - baseline - weights     (what loading left behind that is no parameter: the residual)
    runtime     = settled - loaded                (what the work left behind: thread buffers, library state, leaks)
    workspace   = peak - settled - kv             (activations and temporary buffers, gone when the work is done)
    slack       = ready - loaded                  (freed by the loader, held by the allocator)

where settled is read when the cache is closed and freed memory has gone back. A sampler reads the process tree beside
the mark and tells anonymous and file-backed bytes of the peak apart (`sampled_peak_bytes`). An engine that reserves
more cache than it fills (llama.cpp) has the difference in its workspace; what it reserved is in the label of
`kv_bytes`, and what it would keep for the next user is freed before settled is read. Weights mapped from a file are in
the `file` part of the readings, the rest is anonymous.

Counters: on a CPU the kernel's resident set of the whole process tree (smaps_rollup), with the peak from the resettable
VmHWM; on a GPU the driver's figure for the process, the allocator's own marks beside it. Each figure names its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack, closing
from typing import Any

from pydantic import JsonValue

from bench.instruments import Reading
from bench.instruments.sampler import INTERVAL_S, sampling
from bench.records.record import Caveat, How, Measurement, Unit
from bench.suite import SuiteRun, Work, measured
from suites import probe

VERSION = 2
DISAGREE = 0.02
"""The kernel adds resident pages up in batches; beyond this the two counters contradict each other."""
PROFILES = {
    "smoke": {"prompt_tokens": 128, "decode_tokens": 8},
    "standard": {"prompt_tokens": 512, "decode_tokens": 32},
    "full": {"prompt_tokens": 512, "decode_tokens": 128},
}


def work(settings: Mapping[str, Any]) -> Work:
    """One prompt and one generation; a masked model generates nothing."""
    decode = 0 if settings.get("objective") == "masked" else settings["decode_tokens"]
    return Work(prefill_tokens=settings["prompt_tokens"], decode_tokens=decode, rounds=1)


def least(settings: Mapping[str, Any]) -> Work:
    """All of it: half of a peak is none."""
    return work(settings)


def done(settings: Mapping[str, Any], measurements: Sequence[Measurement]) -> Work:
    """All of it."""
    return work(settings)


def measure(run: SuiteRun) -> list[Measurement]:
    """Load, weights, KV cache and peak of this model."""
    loading, memory = run.loading, run.instruments.memory
    generates = run.settings.get("objective") != "masked"
    decode_tokens = run.settings["decode_tokens"] if generates else 0
    prompt = probe.prompt(run.engine.encode, probe.room(run, decode_tokens))
    run.phase("generate", 0, 1)
    with ExitStack() as held:
        with sampling(memory) as sampled:
            memory.reset_peak()
            generation = held.enter_context(closing(run.engine.prefill([prompt], suppress=run.engine.end_tokens)))
            for _ in range(decode_tokens):
                generation.step()
            kv_bytes, kv_tokens = generation.cache_bytes, generation.cache_tokens
            reserved = getattr(generation, "reserved_bytes", None)  # engines that make room for more than they hold
            kept_in = getattr(generation, "kept_in", None)  # the type of keys and values
            fixed = getattr(generation, "fixed_bytes", 0)  # states that do not grow with the text
            peak = memory.peak()
        run.require_finite(generation.finite, f"token {decode_tokens} of the text" if generates else "the text")
    del generation
    if release := getattr(run.engine, "release", None):  # what it would keep for the next user is not left behind
        release()
    memory.trim()
    settled = memory.read()
    run.phase("generate", 1, 1)
    if memory.name == "ru_maxrss" or memory.name.endswith("since start"):
        run.caveats.append(
            Caveat(
                kind="peak_not_reset",
                text="the high-water mark could not be reset, so the peak includes loading",
                advice="run outside a sandbox that hides /proc/self/clear_refs",
            )
        )
    if memory.name.endswith("minus baseline"):
        run.caveats.append(
            Caveat(
                kind="not_per_process",
                text="the driver does not tell this process's memory: figures are the GPU's use beyond that before",
                advice="use a GPU that nobody else uses, or let the driver see processes (docker run --pid=host)",
            )
        )
    if sampled.highest and sampled.highest.total_bytes > (1 + DISAGREE) * peak.total_bytes:
        text = f"the sampler saw {sampled.highest.total_bytes} bytes, the high-water mark says {peak.total_bytes}"
        run.caveats.append(Caveat(kind="peak_disputed", text=text, advice="trust neither before the cause is known"))
    found = readings("baseline", loading.baseline, memory.name)
    found += readings("load_peak", loading.peak, memory.name)
    found += readings("ready", loading.ready, memory.name)
    found += readings("loaded", loading.loaded, memory.name)
    found += readings("peak", peak, memory.name)
    found += readings("settled", settled, memory.name)
    if sampled.highest:
        found += readings("sampled_peak", sampled.highest, f"status every {INTERVAL_S:g} s")
    found.append(measured("load_s", Unit.SECOND, loading.seconds, counter=run.instruments.clock.name))
    labels = {"tokens": kv_tokens} | ({} if reserved is None else {"reserved_bytes": reserved})
    labels |= {"fixed_bytes": fixed} if fixed else {}
    labels |= {"kept_in": kept_in} if kept_in else {}
    found.append(measured("kv_bytes", Unit.BYTE, kv_bytes, counter="cache tensors", labels=labels))
    return found + _census(run)


def readings(name: str, reading: Reading, counter: str) -> list[Measurement]:
    """One measurement for each figure the counter gave: the total under `NAME_bytes`, the others with a part label."""
    counter = reading.counter or counter
    found = [measured(f"{name}_bytes", Unit.BYTE, reading.total_bytes, counter=counter)]
    for part in ("anonymous", "file", "proportional", "allocated", "reserved"):
        value = getattr(reading, f"{part}_bytes")
        if value is not None:
            which = "torch's allocator" if part in {"allocated", "reserved"} else counter
            found.append(measured(f"{name}_{part}_bytes", Unit.BYTE, value, counter=which, labels={"part": part}))
    return found


def _census(run: SuiteRun) -> list[Measurement]:
    census = run.engine.census()
    found = [measured("weights_bytes", Unit.BYTE, census.total_bytes, counter="census")]
    for storage, count in sorted(census.bytes_by_storage.items()):
        found.append(measured("weights_part_bytes", Unit.BYTE, count, counter="census", labels={"storage": storage}))
    share = census.linear_quantized / census.linear_weights if census.linear_weights else 0.0
    found.append(measured("linear_quantized", Unit.FRACTION, share, counter="census"))
    found.append(measured("linear_bits", Unit.BIT, census.linear_bits, counter="census", how=How.COMPUTED))
    for kernel, count in sorted(census.kernels.items()):
        found.append(measured("kernels", Unit.COUNT, count, counter="census", labels={"kernel": kernel}))
    if census.left_out:
        names: list[JsonValue] = list(census.left_out)
        found.append(measured("left_out", Unit.COUNT, len(names), counter="census", labels={"modules": names[:20]}))
    return found
