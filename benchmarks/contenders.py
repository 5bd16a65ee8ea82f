# SPDX-License-Identifier: Apache-2.0
"""One contender of `validate.py`, in a process of its own: the same prompt and tokens, timed in its own way.

Prints one line of JSON: `prefill` and `decode`, tokens per second of each repeat after one that warms up; the tokens
of the last repeat where it chose them itself; and what else it has to tell. Nothing here is shared between contenders
but the loading of the model.

    python -m benchmarks.contenders NAME --prompt N --tokens N --repeats N [--scheme NAME]
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from typing import Any

from bench.engines.registry import backend
from bench.instruments.clock import HostClock
from benchmarks import default_model
from suites import probe
from suites.repeats import one_repeat

Repeat = tuple[float, float, list[int]]
"""Seconds of the prompt, seconds of the tokens after the first one, and the tokens."""


def load(name: str, scheme: str) -> Any:
    """The default model in one engine."""
    engines = backend(name)
    return default_model.load(engines, engines.scheme(scheme))


def ours(asked: argparse.Namespace) -> tuple[Callable[[], Repeat], Callable[[], dict[str, Any]]]:
    """The throughput suite's own repeat, and the memory suite's own high-water mark of this process."""
    memory = backend("transformers").instruments("cpu").memory  # before loading, as the kernel's own mark
    engine = load("transformers", "fp32")
    return _suite(engine, asked), lambda: {"peak": memory.peak().total_bytes, "counter": memory.name}


def _suite(engine: Any, asked: argparse.Namespace) -> Callable[[], Repeat]:
    prompt = probe.prompt(engine.encode, asked.prompt)

    def once() -> Repeat:
        found = one_repeat(engine, HostClock(), [prompt], asked.tokens)
        return found.prefill_s, sum(found.gaps_s), list(found.tokens)

    return once


def bare(asked: argparse.Namespace) -> tuple[Callable[[], Repeat], Callable[[], dict[str, Any]]]:
    """The model called by hand: three timestamps."""
    import torch

    engine = load("transformers", "fp32")
    prompt = torch.tensor([probe.prompt(engine.encode, asked.prompt)])
    ends = torch.tensor(sorted(engine.end_tokens))

    def once() -> Repeat:
        with torch.inference_mode():
            start = time.perf_counter()
            out = engine.model(prompt, use_cache=True, logits_to_keep=1)
            read = time.perf_counter()
            token = out.logits[:, -1].index_fill(-1, ends, float("-inf")).argmax(-1, keepdim=True)
            chosen = [int(token.item())]
            first = time.perf_counter()
            for _ in range(asked.tokens - 1):
                out = engine.model(token, past_key_values=out.past_key_values, use_cache=True, logits_to_keep=1)
                token = out.logits[:, -1].index_fill(-1, ends, float("-inf")).argmax(-1, keepdim=True)
                chosen.append(int(token.item()))
            return read - start, time.perf_counter() - first, chosen

    return once, dict


def generate(asked: argparse.Namespace) -> tuple[Callable[[], Repeat], Callable[[], dict[str, Any]]]:
    """Transformers' own loop, timed by hand from outside: one token is prefill, all tokens less that are decode."""
    import torch

    engine = load("transformers", "fp32")
    prompt = torch.tensor([probe.prompt(engine.encode, asked.prompt)])

    def timed(tokens: int) -> tuple[float, list[int]]:
        start = time.perf_counter()
        out = engine.model.generate(
            prompt, attention_mask=torch.ones_like(prompt), do_sample=False, max_new_tokens=tokens,
            min_new_tokens=tokens, pad_token_id=0,
        )  # fmt: skip
        return time.perf_counter() - start, out[0, prompt.shape[1] :].tolist()

    def once() -> Repeat:
        (one, _), (whole, chosen) = timed(1), timed(asked.tokens)
        return one, whole - one, chosen

    return once, dict


def llama_ours(asked: argparse.Namespace) -> tuple[Callable[[], Repeat], Callable[[], dict[str, Any]]]:
    """The throughput suite's own repeat in llama.cpp."""
    return _suite(load("llamacpp", asked.scheme), asked), dict


def llama_peer(asked: argparse.Namespace) -> tuple[Callable[[], Repeat], Callable[[], dict[str, Any]]]:
    """llama-cpp-python's `eval` of our very file, by hand as llama-bench does: a prompt, then token after token."""
    import llama_cpp

    from bench.engines.llamacpp import library, locate

    engine = load("llamacpp", asked.scheme)
    prompt, threads = probe.prompt(engine.encode, asked.prompt), engine.compute_threads
    engine.close()
    held = llama_cpp.llama_model_default_params

    def without_repacking() -> Any:
        params = held()
        params.use_extra_bufts = False
        return params

    if not library.repacking_works():  # AMX kernels die on some virtual machines: then neither of the two repacks
        llama_cpp.llama_cpp.llama_model_default_params = without_repacking
    engines = backend("llamacpp")
    file = locate.locate(default_model.asked_for(engines, engines.scheme(asked.scheme))).path
    context = asked.prompt + asked.tokens + 8
    llama = llama_cpp.Llama(
        str(file), n_ctx=context, n_threads=threads, n_threads_batch=threads, verbose=False,
        flash_attn=asked.flash_attention,
    )  # fmt: skip

    def once() -> Repeat:
        llama.reset()
        start = time.perf_counter()
        llama.eval(prompt)
        read = time.perf_counter()
        for _ in range(asked.tokens - 1):
            llama.eval([prompt[0]])
        return read - start, time.perf_counter() - read, []

    return once, dict


CONTENDERS = {"ours": ours, "bare": bare, "generate": generate, "llama-ours": llama_ours, "llama-peer": llama_peer}


def main() -> None:
    """Load, warm up with one whole repeat, repeat, print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("name", choices=list(CONTENDERS))
    for name in ("prompt", "tokens", "repeats"):
        parser.add_argument(f"--{name}", type=int, required=True)
    parser.add_argument("--scheme", default="gguf-q8_0")
    parser.add_argument(
        "--flash-attention", action="store_true", help="as the library chooses; neither Llama nor ours does"
    )
    asked = parser.parse_args()
    once, more = CONTENDERS[asked.name](asked)
    once()
    repeats = [once() for _ in range(asked.repeats)]
    found = {
        "prefill": [asked.prompt / prefill for prefill, _, _ in repeats],
        "decode": [(asked.tokens - 1) / decode for _, decode, _ in repeats],
        "chosen": repeats[-1][2],
    }
    print(json.dumps(found | more()))


if __name__ == "__main__":
    main()
