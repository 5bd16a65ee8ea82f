# SPDX-License-Identifier: Apache-2.0
"""What the harness adds to llama.cpp: prefill 512 and decode 128 by a bare loop and by the throughput suite.

Both run in one process on one loaded file with the same threads, taking turns, the order swapped every round. The bare
loop is the shortest that llama-cpp-python allows: `llama_decode` the prompt, take the arg max of the last logits,
`llama_decode` one token, and so on, in a context of its own that attends as the suite's; its only timestamps are at the
start, after the prompt and at the first and the last token. `depth` compares the two ways of attending instead, behind
a long prompt, by the suite's timing, with what a run's own trial chooses. Prints a Markdown report, or writes it to a
path too.

    python -m benchmarks.llamacpp harness|depth [ROUNDS [REPORT.md]]
"""

import gc
import sys
import time
from pathlib import Path
from statistics import median

import llama_cpp
import numpy as np

from bench.engines.llamacpp import attending
from bench.engines.llamacpp.context import FLASH, Caching
from bench.engines.registry import backend
from bench.instruments import machine
from bench.instruments.clock import HostClock
from bench.judge.stats import ratio_of_medians
from benchmarks import default_model
from suites import probe
from suites.repeats import one_repeat

PROMPT, TOKENS = 512, 128
DEPTH, DEPTH_TOKENS = 2000, 32
DEPTHS = (
    f"At depth {DEPTH}: the prompt, then {DEPTH_TOKENS} tokens of the answer behind it, with flash attention (what the "
    "library takes unasked) and with plain attention. The ratio is plain's speed over flash's."
)
HOW = (
    f"prompt {PROMPT}, {TOKENS} tokens, turns taken in one process, medians; the ratio is seconds of the suite over "
    "seconds of the bare loop with its 95 % interval."
)
SCHEMES = ("gguf-q8_0", "gguf-q4_k_m")


class Bare:
    """A context of the library's own making, and a loop over it."""

    def __init__(self, model: object, vocabulary: int, threads: int, caching: Caching) -> None:
        params = llama_cpp.llama_context_default_params()
        params.n_ctx, params.n_batch = 1024, 512
        params.n_threads = params.n_threads_batch = threads
        params.flash_attn_type = FLASH[caching.attention]
        self.context, self.vocabulary = llama_cpp.llama_init_from_model(model, params), vocabulary

    def run(self, prompt: list[int], ends: list[int]) -> tuple[float, float]:
        """Seconds of the prompt, and from the first to the last of TOKENS tokens."""
        gc.collect()
        gc.disable()
        llama_cpp.llama_memory_clear(llama_cpp.llama_get_memory(self.context), False)  # noqa: FBT003
        tokens = (llama_cpp.llama_token * len(prompt))(*prompt)
        one = (llama_cpp.llama_token * 1)()
        first = 0.0
        start = time.perf_counter()
        llama_cpp.llama_decode(self.context, llama_cpp.llama_batch_get_one(tokens, len(prompt)))
        llama_cpp.llama_synchronize(self.context)
        read = time.perf_counter()
        for index in range(TOKENS):
            logits = np.ctypeslib.as_array(llama_cpp.llama_get_logits_ith(self.context, -1), (self.vocabulary,))
            logits[ends] = -np.inf
            one[0] = int(logits.argmax())
            if index == 0:
                first = time.perf_counter()
            if index < TOKENS - 1:
                llama_cpp.llama_decode(self.context, llama_cpp.llama_batch_get_one(one, 1))
        end = time.perf_counter()
        gc.enable()
        return read - start, end - first


def compare(scheme_name: str, rounds: int) -> list[str]:
    """Rows of the report for one scheme."""
    engines = backend("llamacpp")
    engine = default_model.load(engines, engines.scheme(scheme_name))
    prompt, ends = probe.prompt(engine.encode, PROMPT), sorted(engine.end_tokens)
    plain = Bare(engine.model, engine.vocabulary, engine.threads, engine.caching)

    def suite() -> tuple[float, float]:
        repeat = one_repeat(engine, HostClock(), [prompt], TOKENS)
        return repeat.prefill_s, sum(repeat.gaps_s)

    timers = {"bare": lambda: plain.run(prompt, ends), "suite": suite}
    seconds: dict[tuple[str, str], list[float]] = {}
    for index in range(rounds + 1):
        for name in sorted(timers, reverse=bool(index % 2)):
            taken = timers[name]()
            if index:  # the first round warms up
                for phase, value in zip(("prefill", "decode"), taken, strict=True):
                    seconds.setdefault((phase, name), []).append(value)
    llama_cpp.llama_free(plain.context)
    engine.close()
    rows = []
    for phase, count in (("prefill", PROMPT), ("decode", TOKENS - 1)):
        own, other = seconds[phase, "suite"], seconds[phase, "bare"]
        ratio = ratio_of_medians(own, other)
        rows.append(
            f"| {scheme_name} | {phase} | {count / median(other):.1f} | {count / median(own):.1f} "
            f"| {ratio.value:.4f} ({ratio.low:.4f} to {ratio.high:.4f}) | {len(own)} |"
        )
    return rows


def at_depth(scheme_name: str, rounds: int) -> list[str]:
    """A row of the report for each way of attending: one token behind DEPTH others, and the prompt itself, in turns.

    `flash` is what the library takes where nobody says it ("auto").
    """
    engines = backend("llamacpp")
    ways = {way: default_model.load(engines, engines.scheme(scheme_name), attention=way) for way in FLASH}
    prompt = probe.prompt(next(iter(ways.values())).encode, DEPTH)
    found = {way: [] for way in ways}
    for index in range(rounds + 1):
        for way in sorted(ways, reverse=bool(index % 2)):
            repeat = one_repeat(ways[way], HostClock(), [prompt], DEPTH_TOKENS)
            if index:
                found[way].append(repeat)
    answers = {tuple(repeat.tokens) for repeats in found.values() for repeat in repeats}
    for engine in ways.values():
        engine.close()
    rows = []
    for phase, seconds, count in (
        ("prefill", lambda repeat: repeat.prefill_s, DEPTH),
        ("decode", lambda repeat: sum(repeat.gaps_s), DEPTH_TOKENS - 1),
    ):
        taken = {way: [seconds(repeat) for repeat in repeats] for way, repeats in found.items()}
        gain = ratio_of_medians(taken["flash"], taken["plain"])
        rows.append(
            f"| {scheme_name} | {phase} | {count / median(taken['flash']):.1f} | {count / median(taken['plain']):.1f} "
            f"| {gain.value:.3f} ({gain.low:.3f} to {gain.high:.3f}) | {'equal' if len(answers) == 1 else 'differ'} "
            f"| {rounds} |"
        )
    return rows


def harness(rounds: int, about: str) -> list[str]:
    """The report of the suite beside the bare loop."""
    lines = [
        "# The harness beside a bare llama-cpp-python loop",
        "",
        f"{about}: {HOW}",
        "",
        "| scheme | phase | bare, tokens/s | suite, tokens/s | suite / bare, seconds | n |",
        "| --- | --- | ---: | ---: | ---: | ---: |",
    ]
    for scheme in SCHEMES:
        lines += compare(scheme, rounds)
    return lines


def depth(rounds: int, about: str) -> list[str]:
    """The report of the two ways of attending."""
    lines = [
        "# Flash and plain attention behind a long prompt, in llama.cpp",
        "",
        f"{about}. {DEPTHS}",
        "",
        f"What a run's own trial said just before: {attending.try_ways(machine.describe('cpu'))}.",
        "",
        "| scheme | phase | flash, tokens/s | plain, tokens/s | plain / flash | texts | n |",
        "| --- | --- | ---: | ---: | ---: | --- | ---: |",
    ]
    for scheme in SCHEMES:
        lines += at_depth(scheme, rounds)
    return lines


def main() -> None:
    """Measure and report."""
    what, *more = sys.argv[1:]
    rounds = int(more[0]) if more else 10
    described = machine.describe("cpu")
    about = (
        f"{described.name}, {described.logical_cpus} CPUs ({described.device}), llama-cpp-python "
        f"{llama_cpp.__version__}, default model. Written by `python -m benchmarks.llamacpp {what} {rounds}`"
    )
    report = "\n".join({"harness": harness, "depth": depth}[what](rounds, about)) + "\n"
    if len(more) > 1:
        Path(more[1]).write_text(report, encoding="utf-8")
    print(report, end="")


if __name__ == "__main__":
    main()
