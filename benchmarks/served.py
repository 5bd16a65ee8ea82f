# SPDX-License-Identifier: Apache-2.0
"""A server of llama.cpp beside the same file in this process: decode of one client, in turns.

The server is launched as `bench run --backend served` launches it and asked as its clients ask, over a stream; the
engine reads the same prompt and generates as many tokens. Both attend and compute with the threads that the command
says. Each turn has a prompt of its own, so that nobody answers from a cache. Speed is (n - 1) tokens over the seconds
between the first and the last of n.

    python -m benchmarks.served TURNS REPORT.md flash|plain THREADS COMMAND…
    (COMMAND as after --launch, for example llama-server -m {path} --port {port} -c {pool} -np 1 -fa on -t 2)
"""

from __future__ import annotations

import shlex
import sys
import time
from pathlib import Path
from statistics import median
from typing import Any

from bench.engines.registry import backend
from bench.instruments import machine
from bench.judge.stats import ratio_of_medians
from benchmarks import default_model
from suites.served import fresh_prompt
from suites.served.throughput import tokens_of

CHARS, TOKENS = 2000, 128
SCHEME = "gguf-q4_1"
"""As the package's file is stored: both read the very same one."""


def in_process(engine: Any, prompt: str) -> tuple[float, str]:
    """Tokens per second between the first and the last, and the text."""
    generation = engine.prefill([engine.encode(prompt, special=True)])
    tokens, stamps = [], []
    while len(tokens) < TOKENS:
        (token,) = generation.step()
        if token in engine.end_tokens:
            break
        tokens.append(token)
        stamps.append(time.perf_counter())
    generation.close()
    return (len(tokens) - 1) / (stamps[-1] - stamps[0]), engine.decode(tokens)


def served(server: Any, prompt: str) -> tuple[float, str]:
    """The same, as a client sees it."""
    reply = server.reply(prompt, max_tokens=TOKENS)
    ((count,), _) = tokens_of([reply])
    pieces = len(reply.arrivals_s)
    return count * (1 - 1 / pieces) / (reply.arrivals_s[-1] - reply.arrivals_s[0]), reply.text


def main() -> None:
    """Measure and report."""
    turns, report, attention, threads, *command = sys.argv[1:]
    engines, launched, launch = backend("llamacpp"), backend("served"), shlex.join(command)
    engine = default_model.load(
        engines, engines.scheme(SCHEME), attention=attention, threads=int(threads)
    )  # fmt: skip
    asked = default_model.asked_for(launched, launched.scheme("server"), launch=(launch, str(Path.cwd())))
    launched.prepare(asked)
    server = launched.load(asked)
    try:
        rates: dict[str, list[float]] = {"served": [], "in process": []}
        equal = 0
        for turn in range(int(turns) + 1):
            prompt, said = fresh_prompt(turn, CHARS), set()
            ways = {"served": lambda p=prompt: served(server, p), "in process": lambda p=prompt: in_process(engine, p)}
            for name in sorted(ways, reverse=bool(turn % 2)):
                rate, text = ways[name]()
                said.add(text.strip())
                rates[name] += [rate] if turn else []  # the first one warms up
            equal += len(said) == 1 and turn > 0
    finally:
        server.close()
        engine.close()
    described = machine.describe("cpu")
    # seconds of a token: the greater is the slower
    ratio = ratio_of_medians([1 / rate for rate in rates["in process"]], [1 / rate for rate in rates["served"]])
    interval = "" if ratio.low is None or ratio.high is None else f" ({ratio.low:.3f} to {ratio.high:.3f})"
    text = (
        "# A served llama.cpp beside the same file in process\n\n"
        f"`python -m benchmarks.served {turns} … {attention} {threads} {launch}`, {described.name}, "
        f"{described.logical_cpus} CPUs ({described.device}): the default model's own file ({SCHEME}), prompts of "
        f"{CHARS} characters, {TOKENS} tokens, one client, in turns; the speed of a turn is that between its first and "
        f"its last token.\n\n"
        "| | tokens/s, median | least to greatest |\n| --- | ---: | --- |\n"
    )
    for name, found in rates.items():
        text += f"| {name} | {median(found):.2f} | {min(found):.2f} to {max(found):.2f} |\n"
    text += f"\nServed over in process: {ratio.value:.3f}{interval} in {turns} turns.\n{equal} answers are equal.\n"
    Path(report).write_text(text, encoding="utf-8")
    sys.stdout.write(text)


if __name__ == "__main__":
    main()
