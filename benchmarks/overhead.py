# SPDX-License-Identifier: Apache-2.0
"""What the harness's own timing costs: 128 tokens decoded by a bare transformers loop and by the throughput suite.

Both run in one process on one loaded model (the default one), taking turns, the order swapped every round. The bare
loop calls the model and takes the arg max; its only timestamps are at the first and the last token. Prints the ratio
of the medians with its bootstrap interval.

    python -m benchmarks.overhead [ROUNDS]
"""

import gc
import sys
import time
from statistics import median

import torch

from bench.engines.registry import backend
from bench.instruments.clock import HostClock
from bench.judge.stats import ratio_of_medians
from benchmarks import default_model
from suites import probe
from suites.repeats import one_repeat

TOKENS = 128
PROMPT = 128


def bare(model: torch.nn.Module, prompt: torch.Tensor, ends: torch.Tensor) -> float:
    """Seconds from the first to the last of TOKENS tokens."""
    gc.collect()
    gc.disable()
    with torch.inference_mode():
        out = model(prompt, use_cache=True, logits_to_keep=1)
        token = out.logits[:, -1].index_fill(-1, ends, float("-inf")).argmax(-1, keepdim=True)
        token.item()
        start = time.perf_counter()
        for _ in range(TOKENS - 1):
            out = model(token, past_key_values=out.past_key_values, use_cache=True, logits_to_keep=1)
            token = out.logits[:, -1].index_fill(-1, ends, float("-inf")).argmax(-1, keepdim=True)
            token.item()
        end = time.perf_counter()
    gc.enable()
    return end - start


def main() -> None:
    """Measure and print."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 12
    engines = backend("transformers")
    engine = default_model.load(engines, engines.default_scheme("fp16", "cpu"))
    tokens = probe.prompt(engine.encode, PROMPT)
    prompt, ends = torch.tensor([tokens]), torch.tensor(sorted(engine.end_tokens))
    timers = {
        "bare": lambda: bare(engine.model, prompt, ends),
        "suite": lambda: sum(one_repeat(engine, HostClock(), [tokens], TOKENS).gaps_s),
    }
    seconds: dict[str, list[float]] = {"bare": [], "suite": []}
    for index in range(rounds + 1):
        for name in sorted(timers, reverse=bool(index % 2)):
            taken = timers[name]()
            if index:  # the first round warms up
                seconds[name].append(taken)
    ratio = ratio_of_medians(seconds["suite"], seconds["bare"])
    for name, samples in seconds.items():
        print(f"{name}: median {median(samples):.3f} s for {TOKENS} tokens, n = {len(samples)}")
    print(f"suite / bare: {ratio.value:.4f} (95 % interval {ratio.low:.4f} to {ratio.high:.4f})")


if __name__ == "__main__":
    main()
