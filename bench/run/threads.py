# SPDX-License-Identifier: Apache-2.0
"""`--threads auto`: the thread count that serves one request fastest, swept once for a machine, engine and model size.

An engine's own choice stays the default: it is what its users get, and a sweep costs a load for each count. A sweep
is the throughput suite's smoke profile at every candidate, in processes of their own like any measurement; its records
stay in the cache as evidence. What it decides by is the time of one request of 512 tokens and an answer of 128, from
the two median rates, because prefill and decode may prefer different counts; within 2 % the smaller count wins.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import psutil
from pydantic import JsonValue

from bench.instruments.machine import installed
from bench.paths import cache_folder
from bench.plan.questions import Planned
from bench.processes import write_whole
from bench.records.cell import MEMORY_LIMIT, WAYS, digest
from bench.records.record import Record
from bench.records.surroundings import Machine
from suites import suite

CLOSE = 0.02
SUITE, PROFILE = "throughput", "smoke"


def candidates(usable: int, cores: int | None) -> list[int]:
    """Counts worth trying: one, all CPUs, physical cores, and halves between; the fewest first."""
    counts = {1, usable, min(cores or usable, usable)}
    half = usable // 2
    while half > 1 and len(counts) < 6:
        counts.add(half)
        half //= 2
    return sorted(counts)


def best(seconds: dict[int, float]) -> int | None:
    """The fewest threads that come within CLOSE of the fastest, None where nothing was measured."""
    if not seconds:
        return None
    limit = (1 + CLOSE) * min(seconds.values())
    return min(count for count, value in seconds.items() if value <= limit)


def key(planned: Planned, machine: Machine) -> str:
    """Key of a sweep's result: device, engine with its versions, scheme and architecture."""
    from bench.engines.registry import backend

    size = dict(planned.model.architecture or {"model": planned.model.name})
    engine = backend(planned.cell.backend)
    return digest([machine.device, planned.cell.backend, planned.cell.scheme, size, installed(engine.requires)])


def chosen(
    planned: Planned,
    machine: Machine,
    measure: Callable[[Planned, int, Path], Sequence[Record]],
    request_seconds: Callable[[Record], float | None],
) -> int | None:
    """The best count for this load: as swept before, else swept now.

    `measure` answers one cell with so many threads; `request_seconds` reads from a record what one request takes.

    None where no count could be measured; then the engine chooses, and the cells will say what is wrong.
    """
    folder = cache_folder() / "threads" / key(planned, machine)
    known = folder / "best.json"
    try:
        return int(json.loads(known.read_text(encoding="utf-8"))["threads"])
    except (OSError, ValueError, KeyError):
        pass
    seconds: dict[int, float] = {}
    for count in candidates(machine.logical_cpus, psutil.cpu_count(logical=False)):
        for record in measure(_question(planned), count, folder):
            found = request_seconds(record)
            if found is not None:
                seconds[count] = found
    fewest = best(seconds)
    if fewest is not None:
        write_whole(known, json.dumps({"threads": fewest, "request_s": seconds}) + "\n")
    return fewest


def _question(planned: Planned) -> Planned:
    method = suite(SUITE)
    settings: dict[str, JsonValue] = dict(method.PROFILES[PROFILE])
    settings |= {k: planned.cell.settings[k] for k in ("objective", MEMORY_LIMIT, *WAYS) if k in planned.cell.settings}
    change = {"suite": SUITE, "suite_version": method.VERSION, "profile": PROFILE, "settings": settings}
    return replace(planned, cell=planned.cell.model_copy(update=change), reference=None)
