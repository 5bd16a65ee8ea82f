# SPDX-License-Identifier: Apache-2.0
"""How llama.cpp attends: flash attention by name, on or off, the faster of the two on this device.

The library's own choice ("auto") is flash attention wherever it has a kernel, which on CPUs decodes long texts at two
thirds of the speed of plain attention and reads prompts somewhat faster. So both are tried once for each device and
version of the library, on a model of random weights with two layers of a small LLaMA: a prompt of `DEPTH` tokens, and
`STEPS` tokens behind it. The way that serves such a prompt with `ANSWER` tokens sooner is taken for every model and
scheme alike, so that precisions stay comparable; it stays in the cache beside the seconds that decided. A run tries
them while it alone measures on the device (`bench.run.measure`); a plan tries nothing and says what is not known.
"""

from __future__ import annotations

import importlib.metadata
import json
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from bench.engines.llamacpp.gguf_layout import PLAIN
from bench.paths import cache_folder
from bench.processes import module, temporary_folder, write_whole
from bench.records.cell import UNTRIED, digest

if TYPE_CHECKING:
    from bench.records.surroundings import Machine

FLASH = "flash"
WAYS = (FLASH, PLAIN)
DEPTH, STEPS, ANSWER, ROUNDS = 2000, 16, 128, 3
"""Tokens of the prompt, tokens timed behind it, tokens of the answer that decides, and turns of each way."""
LIMIT_S = 180.0
"""A trial takes 10 s on two cores. One that takes so much longer would decide by whatever else the machine does."""


def request_seconds(prefill_s: float, step_s: float) -> float:
    """Seconds of a prompt of DEPTH tokens and an answer of ANSWER."""
    return prefill_s + ANSWER * step_s


def faster(rounds: dict[str, list[tuple[float, float]]]) -> str:
    """The way whose shortest request is shorter; `rounds` holds seconds of the prompt and of one step, by way.

    What another program slowed down says nothing of a way, as of a roof.
    """
    return min(WAYS, key=lambda way: min(request_seconds(*taken) for taken in rounds[way]))


_failed: dict[Path, str] = {}
"""By the file that would keep what was found, why this process could not find it: it does not try again."""


def chosen(machine: Machine) -> str:
    """The way of this device as it was tried before, `UNTRIED` before that; plain where it cannot be tried."""
    known = _known(machine)
    if known is None or known in _failed:  # nothing will be measured here, or plain attention: it takes every head
        return PLAIN
    try:
        kept = json.loads(known.read_text(encoding="utf-8"))["attention"]
    except (OSError, ValueError, KeyError, TypeError):
        return UNTRIED
    return str(kept) if kept in WAYS else UNTRIED


def try_ways(machine: Machine) -> str:
    """Time both ways and keep the faster; a line that says which, or why plain attention stands in for it."""
    known = _known(machine)
    assert known is not None, "only an installed library is asked to measure"
    try:
        rounds = timed(machine.kind)
    except Untimed as reason:
        _failed[known] = str(reason)
        return f"llama.cpp's two ways of attending could not be tried ({reason}): plain attention"
    best = faster(rounds)
    write_whole(known, json.dumps({"attention": best, "depth": DEPTH, "seconds": rounds}) + "\n")
    shortest = {way: min(request_seconds(*taken) for taken in rounds[way]) for way in WAYS}
    told = " and ".join(f"{way} {seconds:.2f} s" for way, seconds in shortest.items())
    asked = f"a prompt of {DEPTH} tokens and {ANSWER} more"
    return f"llama.cpp attends {best} on this device: two layers took {told} for {asked}"


def _known(machine: Machine) -> Path | None:
    """The file that keeps what was found, None where the library is not installed."""
    try:
        version = importlib.metadata.version("llama_cpp_python")
    except importlib.metadata.PackageNotFoundError:
        return None
    return cache_folder() / "attention" / f"{digest([machine.device, machine.logical_cpus, version])}.json"


class Untimed(Exception):
    """Why no trial came to its end."""


def timed(kind: str) -> dict[str, list[tuple[float, float]]]:
    """Seconds of the prompt and of one step by way, in turns in a process of its own. Raises Untimed."""
    with temporary_folder() as folder:
        command = module("bench.engines.llamacpp.attention_trial", Path(folder), kind)
        try:
            done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=LIMIT_S)
        except subprocess.TimeoutExpired:
            raise Untimed(f"not done after {LIMIT_S:.0f} s") from None
    if done.returncode:
        last = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        raise Untimed(last[:160])
    found = json.loads(done.stdout.splitlines()[-1])
    return {way: [(prefill, step) for prefill, step in found[way]] for way in WAYS}
