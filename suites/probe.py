# SPDX-License-Identifier: Apache-2.0
"""The project's own probe text: several registers, written for it, cut into windows by a model's own tokens."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

from bench.record import Caveat
from bench.suite import SuiteRun

FOLDER = Path(__file__).parent / "data" / "probe"
REGISTERS = ("encyclopaedic", "dialogue", "instructions", "code", "arithmetic", "chinese")


def text(register: str) -> str:
    """The whole text of one register."""
    return (FOLDER / f"{register}.txt").read_text(encoding="utf-8")


def text_sha256() -> str:
    """First 12 hexadecimal digits of the hash of all registers, in order."""
    return hashlib.sha256("".join(map(text, REGISTERS)).encode()).hexdigest()[:12]


def windows(encode: Callable[[str], list[int]], count: int, length: int) -> list[tuple[str, list[int]]]:
    """`count` windows of `length` tokens as (register, tokens), taken from the registers in turn.

    Windows of a register follow each other without overlap. Fewer come back only when the text is used up.
    """
    tokens = {register: encode(text(register)) for register in REGISTERS}
    found: list[tuple[str, list[int]]] = []
    for start in range(0, max(map(len, tokens.values())), length):
        for register in REGISTERS:
            window = tokens[register][start : start + length]
            if len(window) == length and len(found) < count:
                found.append((register, window))
    return found


def prompt(encode: Callable[[str], list[int]], length: int) -> list[int]:
    """The first `length` tokens of the encyclopaedic register."""
    return encode(text("encyclopaedic")[: length * 16])[:length]


def room(run: SuiteRun, decode_tokens: int) -> int:
    """Tokens of the prompt that leave room for as many generated ones; fewer than asked for is a warning."""
    wanted = int(run.settings["prompt_tokens"])
    there = run.engine.context_length - decode_tokens
    if there < wanted:
        run.caveats.append(
            Caveat(
                kind="short_prompt",
                text=f"the model has {run.engine.context_length} positions: the prompt is {there} tokens, not {wanted}",
                advice="compare it with other models at the same length only",
            )
        )
    return min(wanted, there)
