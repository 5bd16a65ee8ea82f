# SPDX-License-Identifier: Apache-2.0
"""How llama.cpp attends: flash attention by name, on or off, the faster of the two on this device.

The library's own choice ("auto") is flash attention wherever it has a kernel, which on CPUs decodes long texts at two
thirds of the speed of plain attention and reads prompts somewhat faster. So both are tried once for each device and
version of the library, on a model of random weights with two layers of a small LLaMA: a prompt of `DEPTH` tokens, and
`STEPS` tokens behind it. The way that serves such a prompt with `ANSWER` tokens sooner is taken for every model and
scheme alike, so that precisions stay comparable; it stays in the cache beside the seconds that decided.
"""

from __future__ import annotations

import functools
import importlib.metadata
import json
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from bench.engines.llamacpp.gguf_layout import PLAIN
from bench.paths import cache_folder
from bench.processes import module, temporary_folder, write_whole
from bench.records.cell import digest

if TYPE_CHECKING:
    from bench.records.surroundings import Machine

FLASH = "flash"
WAYS = (FLASH, PLAIN)
DEPTH, STEPS, ANSWER, ROUNDS = 2000, 16, 128, 3
"""Tokens of the prompt, tokens timed behind it, tokens of the answer that decides, and turns of each way."""


def request_seconds(prefill_s: float, step_s: float) -> float:
    """Seconds of a prompt of DEPTH tokens and an answer of ANSWER."""
    return prefill_s + ANSWER * step_s


def faster(rounds: dict[str, list[tuple[float, float]]]) -> str:
    """The way whose shortest request is shorter; `rounds` holds seconds of the prompt and of one step, by way.

    What another program slowed down says nothing of a way, as of a roof.
    """
    return min(WAYS, key=lambda way: min(request_seconds(*taken) for taken in rounds[way]))


@functools.cache  # a plan asks for every cell
def chosen(machine: Machine) -> str:
    """The way of this device: as tried before, else tried now; plain attention where it cannot be tried."""
    try:
        version = importlib.metadata.version("llama_cpp_python")
    except importlib.metadata.PackageNotFoundError:
        return PLAIN  # nothing will be measured here
    known = cache_folder() / "attention" / f"{digest([machine.device, machine.logical_cpus, version])}.json"
    try:
        kept = json.loads(known.read_text(encoding="utf-8"))["attention"]
        if kept in WAYS:
            return str(kept)
    except (OSError, ValueError, KeyError, TypeError):
        pass
    rounds = tried(machine.kind)
    if rounds is None:
        return PLAIN
    best = faster(rounds)
    known.parent.mkdir(parents=True, exist_ok=True)
    write_whole(known, json.dumps({"attention": best, "depth": DEPTH, "seconds": rounds}) + "\n")
    return best


def tried(kind: str) -> dict[str, list[tuple[float, float]]] | None:
    """Seconds of the prompt and of one step by way, in turns in a process of its own; None where that fails."""
    with temporary_folder() as folder:
        command = module("bench.engines.llamacpp.attention_trial", Path(folder), kind)
        done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode:
        return None
    found = json.loads(done.stdout.splitlines()[-1])
    return {way: [(prefill, step) for prefill, step in found[way]] for way in WAYS}
