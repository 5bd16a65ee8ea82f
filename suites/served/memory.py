# SPDX-License-Identifier: Apache-2.0
"""Memory of a server that is launched here: its whole process tree, from before its command until it has answered.

An API's model is its server's, and no API shows it: not applicable. A server of this machine is read by the counters of
every other engine: on a CPU the kernel's resident set of all its processes, with the resettable high-water mark and a
sampler beside it; on a GPU what the driver counts for them, the highest figure read. `load_s` and `load_peak_bytes` go
from the command to the first answer. Then a prompt of `prompt_chars` characters that begins with something new is read
and `max_tokens` tokens are generated (`peak_bytes`), and what is left is read again (`settled_bytes`).

Baseline is nothing, for nothing of the server is there before: program and libraries are part of every figure, which
for engines that are loaded here they are not, and a warning says so.

    peak = weights + pool + workspace + runtime + unexplained, each as in `suites/memory.py`
    unexplained = loaded - weights - pool         (the server itself: program, libraries, buffers)

`weights_bytes` are those of the files that it was given (computed: a server may hold them otherwise). `pool_bytes` is
the room for keys and values that it takes at its start: a setting and not what the model needs. The label `tokens` says
how many go in, `kv_bytes` what those of this one answer take of it. A pool of more than twice that is named in a
warning, and `needed_bytes` is the peak without the unused part of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import JsonValue

from bench.engines.abilities import RunsItsServer
from bench.engines.contract import Reply, Unsupported
from bench.instruments.sampler import INTERVAL_S, sampling
from bench.records.record import Caveat, How, Measurement, Unit
from bench.suite import TextRun, Work, measured
from bench.units import human_bytes
from suites.memory import readings
from suites.served import fresh_prompt

VERSION = 2
PROFILES: dict[str, dict[str, JsonValue]] = {
    "smoke": {"prompt_chars": 400, "max_tokens": 8},
    "standard": {"prompt_chars": 2000, "max_tokens": 32},
    "full": {"prompt_chars": 2000, "max_tokens": 128},
}
NAMED = 2.0
"""A pool of so many times what one answer takes of it is named."""


def work(settings: Mapping[str, Any]) -> Work:
    """One prompt and one answer; about four characters are a token."""
    return Work(prefill_tokens=settings["prompt_chars"] // 4, decode_tokens=settings["max_tokens"])


def measure(run: TextRun) -> list[Measurement]:
    """Load and peak of the server, or why there are none."""
    engine, loading = run.engine, run.loading
    if run.instruments is None or loading is None or not isinstance(engine, RunsItsServer):
        raise Unsupported("not applicable: a served model's memory is its server's, no API shows it")
    memory = run.instruments.memory
    run.phase("answer", 0, 1)
    with sampling(memory) as sampled:
        memory.reset_peak()
        reply = run.engine.reply(fresh_prompt(0, run.settings["prompt_chars"]), max_tokens=run.settings["max_tokens"])
        peak = memory.peak()
    settled = memory.read()
    run.phase("answer", 1, 1)
    run.caveats.append(
        Caveat(
            kind="whole_server", text="memory is that of the whole server, its program and libraries included",
            advice="compare it with other servers, or with what an engine's own process holds",
        )
    )  # fmt: skip
    if memory.name.endswith("minus baseline"):
        text = "the driver does not tell the server's memory: figures are the GPU's use beyond that before"
        run.caveats.append(Caveat(kind="not_per_process", text=text, advice="use a GPU that nobody else uses"))
    found = []
    for name, reading in (
        ("baseline", loading.baseline), ("load_peak", loading.peak), ("ready", loading.ready),
        ("loaded", loading.loaded), ("peak", peak), ("settled", settled),
    ):  # fmt: skip
        found += readings(name, reading, memory.name)
    if sampled.highest:
        found += readings("sampled_peak", sampled.highest, f"status every {INTERVAL_S:g} s")
    found.append(measured("load_s", Unit.SECOND, loading.seconds, counter=run.instruments.clock.name))
    if engine.files_bytes:
        counter = "weight files"
        found.append(measured("weights_bytes", Unit.BYTE, engine.files_bytes, how=How.COMPUTED, counter=counter))
    return found + _pool(run, engine, reply, peak.total_bytes)


def _pool(run: TextRun, engine: RunsItsServer, reply: Reply, peak: int) -> list[Measurement]:
    """The pool, and what this answer takes of it as far as the server counts its tokens."""
    told = engine.pool_bytes
    if told is None:
        return []
    pool, tokens, counter = told
    labels: dict[str, JsonValue] = {} if tokens is None else {"tokens": tokens}
    found = [measured("pool_bytes", Unit.BYTE, pool, how=How.COMPUTED, counter=counter, labels=labels)]
    if tokens and reply.input_tokens and reply.output_tokens is not None:
        held = reply.input_tokens + reply.output_tokens
        used = round(pool * held / tokens)
        labels = {"tokens": held, "reserved_bytes": pool}
        found.append(measured("kv_bytes", Unit.BYTE, used, how=How.COMPUTED, counter=counter, labels=labels))
        if pool > NAMED * used:
            needed = max(0, peak - (pool - used))
            found.append(measured("needed_bytes", Unit.BYTE, needed, how=How.COMPUTED, counter="peak - unused pool"))
    if not found[1:] or found[2:]:
        size = f"{human_bytes(pool)}{f' for {tokens} tokens' if tokens else ''}"
        text = f"the server takes {size} for keys and values at its start: a setting, no need of the model's"
        advice = "its peak less the unused part is needed_bytes in the record" if found[2:] else "size it by {pool}"
        run.caveats.append(Caveat(kind="preallocated_pool", text=text, advice=advice))
    return found
