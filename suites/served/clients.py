# SPDX-License-Identifier: Apache-2.0
"""Several clients of a server that is launched here, asking at once: a module of the throughput suite.

Each client has a connection of its own, opened by a request that is not timed, and all send at one moment, each a
prompt of its own. A round lasts from that moment until the last answer has ended (`clients_round_s`); what all of them
generated is `clients_tokens`, so their quotient is the rate that the server gives them together, prompts included.
`clients_ttft_s` has each client's own time to its first piece. Where an answer fails, though a second attempt may not,
there is no such rate, and a warning says why: llama-cpp-python's server ends an answer when somebody else asks, unless
it is told not to.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from pydantic import JsonValue

from bench.engines.abilities import RunsItsServer
from bench.engines.contract import Reply, Stopped, TextEngine
from bench.records.record import Measurement, Unit
from bench.suite import TextRun, measured
from suites.served import fresh_prompt

STUCK_S = 60.0
"""Longest wait of one client for the others to be ready."""


def measure(run: TextRun, tokens_of: Callable[[Sequence[Reply]], tuple[list[int], str]]) -> list[Measurement]:
    """Every round, none where this is nobody's own server."""
    engine, settings = run.engine, run.settings
    if not isinstance(engine, RunsItsServer):
        return []
    count, rounds = settings["clients"], settings["client_repeats"]
    asking = [engine.another_client() for _ in range(count)]
    seconds: list[float] = []
    tokens: list[int] = []
    firsts: list[float] = []
    counter = ""
    try:
        for client in asking:
            client.reply(fresh_prompt(0, 40), max_tokens=1)
        for index in range(rounds):
            run.phase("clients", index, rounds)
            lasted, replies = _round(asking, index, settings["prompt_chars"], settings["max_tokens"])
            seconds.append(lasted)
            counts, counter = tokens_of(replies)
            tokens.append(sum(counts))
            firsts += [reply.arrivals_s[0] for reply in replies if reply.arrivals_s]
    finally:
        for client in asking:
            client.close()
    labels: dict[str, JsonValue] = {"clients": count, "max_tokens": settings["max_tokens"]}
    return [
        measured("clients_round_s", Unit.SECOND, seconds, counter="perf_counter", labels=labels),
        measured("clients_tokens", Unit.TOKEN, tokens, counter=counter, labels=labels),
        measured("clients_ttft_s", Unit.SECOND, firsts, counter="perf_counter", labels=labels),
    ]


def _round(asking: Sequence[TextEngine], index: int, characters: int, most: int) -> tuple[float, list[Reply]]:
    """Seconds from the moment at which all ask until all are answered, and the answers."""
    begun: list[float] = []
    ready = threading.Barrier(len(asking), action=lambda: begun.append(time.perf_counter()))

    def ask(place: int) -> tuple[float, Reply]:
        prompt = fresh_prompt(index * len(asking) + place, characters)
        ready.wait(STUCK_S)
        reply = asking[place].reply(prompt, max_tokens=most)
        return time.perf_counter(), reply

    with ThreadPoolExecutor(len(asking)) as pool:
        answered = list(pool.map(ask, range(len(asking))))
    again = sum(reply.attempts > 1 for _, reply in answered)
    if again:  # what was asked twice is no answer of this round
        raise Stopped(f"{again} of {len(asking)} answers failed at first and were asked for again")
    return max(at_s for at_s, _ in answered) - begun[0], [reply for _, reply in answered]
