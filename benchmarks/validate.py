# SPDX-License-Identifier: Apache-2.0
"""This harness beside its peers: the same model, machine and run, taking turns; prints ratios as Markdown.

Quantities, each asked of the default model in fp32 (256 prompt tokens, 32 generated) except llama.cpp's:

- a bare loop: the model called by hand, two timestamps; decode and prefill. Target: medians within 3 %.
- `generate()`: the same by transformers' own loop, timed by hand: one token for prefill, all for decode by difference.
- `optimum-benchmark` 0.6.0, in an environment of its own (transformers below 5): its inline launcher, target within
  5 % or the difference named; and its default process launcher, whose waiting parent spins.
- llama-cpp-python: prompt 512 and 128 tokens evaluated by hand as llama-bench does, beside our llamacpp backend.
- peak memory: our high-water mark against the kernel's own for the same process (`wait4`). Target: within 2 %.

Every contender is a process of its own, started anew each round; rounds go through all contenders in an order that is
reversed every other round. A contender that cannot run here is named with its reason.

    python benchmarks/validate.py [--rounds 3] [--peer-python PATH]
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median

from bench.catalog import DEFAULT_MODEL, read_catalog, select
from bench.places import ROOT

PROMPT, TOKENS = 256, 32
"""As in the contenders' code."""

COMMON = """
import gc, json, sys, time
from statistics import median
from bench.catalog import DEFAULT_MODEL, read_catalog, select
from bench.cell import Weights
from bench.engine import LoadRequest, backend
from suites import probe
PROMPT, TOKENS = 256, 32
def load(name, scheme):
    engines = backend(name)
    model = select(read_catalog(), [DEFAULT_MODEL])[0]
    asked = LoadRequest(model=model, weights=Weights.PACKAGE, scheme=engines.scheme(scheme), device="cpu")
    engines.prepare(asked)
    return engines, engines.load(asked)
def answer(prefill, decode, **more):
    print(json.dumps({"prefill": median(prefill), "decode": median(decode), **more}))
"""

OURS = (
    COMMON
    + """
from bench.instruments.clock import HostClock
from suites.throughput import one_repeat
counter = backend("transformers").instruments("cpu").memory  # before loading, as the kernel's own mark
engines, engine = load("transformers", "fp32")
prompt = probe.prompt(engine.encode, PROMPT)
one_repeat(engine, HostClock(), [prompt], TOKENS)
runs = [one_repeat(engine, HostClock(), [prompt], TOKENS) for _ in range(3)]
answer([PROMPT / r.prefill_s for r in runs], [(TOKENS - 1) / sum(r.gaps_s) for r in runs],
       peak=counter.peak().total_bytes, counter=counter.name)
"""
)

BARE = (
    COMMON
    + """
import torch
_, engine = load("transformers", "fp32")
prompt = torch.tensor([probe.prompt(engine.encode, PROMPT)])
ends = torch.tensor(sorted(engine.end_tokens))
def once():
    with torch.inference_mode():
        start = time.perf_counter()
        out = engine.model(prompt, use_cache=True, logits_to_keep=1)
        token = out.logits[:, -1].index_fill(-1, ends, float("-inf")).argmax(-1, keepdim=True)
        token.item()
        read = time.perf_counter()
        for _ in range(TOKENS - 1):
            out = engine.model(token, past_key_values=out.past_key_values, use_cache=True, logits_to_keep=1)
            token = out.logits[:, -1].index_fill(-1, ends, float("-inf")).argmax(-1, keepdim=True)
            token.item()
        return PROMPT / (read - start), (TOKENS - 1) / (time.perf_counter() - read)
once()
runs = [once() for _ in range(3)]
answer([r[0] for r in runs], [r[1] for r in runs])
"""
)

GENERATE = (
    COMMON
    + """
import torch
_, engine = load("transformers", "fp32")
prompt = torch.tensor([probe.prompt(engine.encode, PROMPT)])
def seconds(tokens):
    start = time.perf_counter()
    engine.model.generate(prompt, attention_mask=torch.ones_like(prompt), do_sample=False, max_new_tokens=tokens,
                          min_new_tokens=tokens, pad_token_id=0)
    return time.perf_counter() - start
seconds(2)
runs = [(seconds(1), seconds(TOKENS)) for _ in range(3)]
answer([PROMPT / one for one, _ in runs], [(TOKENS - 1) / (whole - one) for one, whole in runs])
"""
)

OPTIMUM = """
import json, sys
from optimum_benchmark import Benchmark, BenchmarkConfig, InferenceConfig, InlineConfig, ProcessConfig, PyTorchConfig
if __name__ == "__main__":
    launcher, folder = sys.argv[1:]
    config = BenchmarkConfig(
        name="peer", launcher=InlineConfig() if launcher == "inline" else ProcessConfig(),
        scenario=InferenceConfig(
            latency=True, memory=False, warmup_runs=1, iterations=3, duration=0,
            input_shapes={"batch_size": 1, "sequence_length": %d},
            generate_kwargs={"max_new_tokens": %d, "min_new_tokens": %d}),
        backend=PyTorchConfig(model=folder, device="cpu", torch_dtype="float32", task="text-generation"))
    found = Benchmark.launch(config)
    print(json.dumps({"prefill": %d / found.prefill.latency.p50,
                      "decode": (%d - 1) / found.decode.latency.p50}))
""" % (PROMPT, TOKENS, TOKENS, PROMPT, TOKENS)  # noqa: UP031 - the code is full of braces

LLAMA = (
    COMMON
    + """
PROMPT, TOKENS = 512, 128  # llama-bench's pp512 and tg128
ours = sys.argv[1] == "ours"
from bench.instruments.clock import HostClock
_, engine = load("llamacpp", sys.argv[2])
prompt = probe.prompt(engine.encode, PROMPT)
if ours:
    from suites.throughput import one_repeat
    one_repeat(engine, HostClock(), [prompt], 8)
    runs = [one_repeat(engine, HostClock(), [prompt], TOKENS) for _ in range(3)]
    answer([PROMPT / r.prefill_s for r in runs], [(TOKENS - 1) / sum(r.gaps_s) for r in runs])
else:
    import llama_cpp
    path = sys.argv[3]
    llama = llama_cpp.Llama(path, n_ctx=PROMPT + TOKENS + 8, n_batch=2048, verbose=False, n_threads=engine.threads)
    def once(tokens):
        llama.reset()
        start = time.perf_counter()
        llama.eval(prompt)
        read = time.perf_counter()
        for _ in range(tokens - 1):
            llama.eval([prompt[0]])
        return PROMPT / (read - start), (tokens - 1) / (time.perf_counter() - read)
    once(8)
    runs = [once(TOKENS) for _ in range(3)]
    answer([r[0] for r in runs], [r[1] for r in runs])
"""
)


def call(python: str, code: str, *arguments: str, own: bool = True) -> dict[str, float | str]:
    """One contender's answer with the kernel's peak for its process, or its reason."""
    with tempfile.TemporaryDirectory(prefix="bench-validate-") as folder:
        script, out, log = (Path(folder) / name for name in ("contender.py", "out", "log"))
        script.write_text(code)
        env = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
        env = {**env, "PYTHONPATH": str(ROOT)} if own else {k: v for k, v in env.items() if k != "PYTHONPATH"}
        with out.open("wb") as output, log.open("wb") as errors:
            process = subprocess.Popen(
                [python, str(script), *arguments], stdout=output, stderr=errors, cwd=folder, env=env
            )
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            last = next((x for x in reversed(log.read_text(errors="replace").splitlines()) if x.strip()), "no output")
            return {"reason": f"exit {process.returncode}: {last[:160]}"}
        found: dict[str, float | str] = json.loads(out.read_text().strip().splitlines()[-1])
        return {**found, "wait4": usage.ru_maxrss * 1024}


def contenders(peer: str | None, folder: Path) -> dict[str, tuple[str, str, tuple[str, ...], bool]]:
    """By name: interpreter, code, arguments, and whether it is one of this environment."""
    found = {
        "ours": (sys.executable, OURS, (), True),
        "bare loop": (sys.executable, BARE, (), True),
        "generate()": (sys.executable, GENERATE, (), True),
    }
    if peer:
        found["optimum-benchmark inline"] = (peer, OPTIMUM, ("inline", str(folder)), False)
        found["optimum-benchmark process"] = (peer, OPTIMUM, ("process", str(folder)), False)
    return found


def main() -> None:
    """Take turns, then print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--peer-python", default=None, help="of an environment with optimum-benchmark 0.6.0")
    parser.add_argument("--llama", default=None, metavar="GGUF", help="also beside llama-cpp-python on this file")
    parser.add_argument("--llama-scheme", default="q8_0")
    options = parser.parse_args()
    from bench.backends._weights import locate
    from bench.cell import Weights
    from bench.engine import LoadRequest, backend

    engines = backend("transformers")
    model = select(read_catalog(), [DEFAULT_MODEL])[0]
    asked = LoadRequest(model=model, weights=Weights.PACKAGE, scheme=engines.schemes[0], device="cpu")
    everyone = contenders(options.peer_python, locate(asked).folder)
    if options.llama:
        for who in ("ours", "llama-cpp-python"):
            arguments = ("ours" if who == "ours" else "peer", options.llama_scheme, options.llama)
            everyone[f"llama.cpp: {who}"] = (sys.executable, LLAMA, arguments, True)
    answers: dict[str, list[dict[str, float | str]]] = {name: [] for name in everyone}
    for number in range(options.rounds):
        for name in list(everyone) if number % 2 == 0 else list(everyone)[::-1]:
            python, code, arguments, own = everyone[name]
            answers[name].append(call(python, code, *arguments, own=own))
    report(answers, options.rounds)


def report(answers: dict[str, list[dict[str, float | str]]], rounds: int) -> None:
    """Medians over rounds, and each contender's ratio: ours over it."""

    def middle(name: str, figure: str) -> float:
        return median(float(found[figure]) for found in answers[name] if figure in found)

    print(
        f"# Beside the peers\n\n{DEFAULT_MODEL}, fp32, prompt {PROMPT}, {TOKENS} tokens; medians of {rounds} rounds.\n"
    )
    print("| contender | prefill tok/s | decode tok/s | ours / it, prefill | ours / it, decode |")
    print("| --- | ---: | ---: | ---: | ---: |")
    for name, found in answers.items():
        reasons = [str(item["reason"]) for item in found if "reason" in item]
        base = "llama.cpp: ours" if name.startswith("llama.cpp") else "ours"
        if len(reasons) == len(found) or all("reason" in item for item in answers[base]):
            print(f"| {name} | not run: {reasons[0] if reasons else 'ours failed'} | | | |")
            continue
        prefill, decode = middle(name, "prefill"), middle(name, "decode")
        ratios = middle(base, "prefill") / prefill, middle(base, "decode") / decode
        print(f"| {name} | {prefill:.1f} | {decode:.2f} | {ratios[0]:.3f} | {ratios[1]:.3f} |")
    peaks = [(float(f["peak"]), float(f["wait4"]), f["counter"]) for f in answers["ours"] if "peak" in f]
    if peaks:
        ours, kernel = median(p[0] for p in peaks), median(p[1] for p in peaks)
        print(f"\nPeak memory: {peaks[0][2]} {ours:.0f} bytes, wait4 {kernel:.0f} bytes, ratio {ours / kernel:.4f}.")


if __name__ == "__main__":
    main()
