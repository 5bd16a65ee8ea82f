# SPDX-License-Identifier: Apache-2.0
"""The project's own probe text: several registers, written for it, cut into windows by a model's own tokens."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

from bench.errors import UserError
from bench.processes import write_whole
from bench.records.cell import Weights
from bench.records.record import Caveat
from bench.suite import SuiteRun

MIN_WINDOWS = 2
"""Fewer have no interval."""
USUAL_BYTES = 4
"""Of a token of English text; other scripts and code have fewer."""
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


def file_windows(
    path: Path, sha256: str, encode: Callable[[str], list[int]], *, count: int, length: int
) -> list[tuple[str, list[int]]]:
    """`count` windows of `length` tokens of a text file, one after the other, as (`text`, tokens).

    Raises UserError when the file is no longer the text of that hash, or gives fewer than two windows.
    """
    data = path.read_bytes()
    if hashlib.sha256(data).hexdigest()[:12] != sha256:
        raise UserError(f"{path.name} has changed since the run was planned", "start the run again")
    tokens = encode(data.decode("utf-8")[: count * length * 32])
    found = [("text", tokens[start : start + length]) for start in range(0, len(tokens) - length + 1, length)][:count]
    if len(found) < MIN_WINDOWS:
        raise UserError(
            f"{path.name} gives {len(found)} windows of {length} tokens", f"give at least {MIN_WINDOWS * length} tokens"
        )
    return found


def too_short(path: Path, length: int) -> str | None:
    """What to warn of before a model is loaded where a text is probably too short, None if it is long enough.

    No tokenizer has been asked then. Raises UserError where the text has not even as many bytes as tokens are needed,
    for no token is shorter than a byte.
    """
    there, needed = path.stat().st_size, MIN_WINDOWS * length
    if there < needed:
        raise UserError(
            f"{path.name} is too short: {MIN_WINDOWS} windows of {length} tokens are needed, and it is {there} bytes",
            f"give at least {needed} tokens, about {USUAL_BYTES * needed} bytes",
        )
    if there < USUAL_BYTES * needed:
        return (
            f"{path.name} may be too short: {MIN_WINDOWS} windows of {length} tokens are needed, and its {there} bytes "
            f"are about {there // USUAL_BYTES} tokens"
        )
    return None


def tokenizer_caveats(run: SuiteRun) -> list[Caveat]:
    """A caveat for each other engine that splits this text differently for the same model.

    An engine's counts and digests stay in this machine's cache, where the next one finds them: sessions of different
    engines need not share an environment. Random weights have no tokenizer of the model's, and are not compared.
    """
    if run.cell.weights is Weights.RANDOM:
        return []
    own: dict[str, tuple[int, str]] = {}
    for register in REGISTERS:
        tokens = run.engine.encode(text(register))
        own[register] = (len(tokens), hashlib.sha256(json.dumps(tokens).encode()).hexdigest()[:12])
    folder = run.cache / "tokens" / f"{run.cell.model}-{text_sha256()}"
    folder.mkdir(parents=True, exist_ok=True)
    found = []
    for path in sorted(folder.glob("*.json")):
        other = {name: tuple(value) for name, value in json.loads(path.read_text(encoding="utf-8")).items()}
        differing = [name for name in REGISTERS if other.get(name) != own[name]]
        if path.stem != run.cell.backend and differing:
            counts = ", ".join(f"{name}: {own[name][0]} tokens against {other[name][0]}" for name in differing)
            found.append(
                Caveat(
                    kind="tokenizer_mismatch",
                    text=f"this engine splits the probe text otherwise than {path.stem} ({counts})",
                    advice="figures per token of the two engines do not compare; check the file's tokenizer",
                )
            )
    path = folder / f"{run.cell.backend}.json"
    write_whole(path, json.dumps(own))
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


def long_windows(encode: Callable[[str], list[int]], count: int, length: int) -> list[tuple[str, list[int]]]:
    """Up to `count` windows of `length` tokens, one of each register and the next ones behind them; none if too short.

    A register shorter than a window goes on with the registers that follow it.
    """
    tokens = {register: encode(text(register)) for register in REGISTERS}
    found: list[tuple[str, list[int]]] = []
    for index, register in enumerate(REGISTERS):
        order = [*REGISTERS[index:], *REGISTERS[:index]]
        window = [token for name in order for token in tokens[name]][:length]
        if len(window) == length and len(found) < count:
            found.append((register, window))
    return found
