# SPDX-License-Identifier: Apache-2.0
"""Answers to prompts of any lengths, generated side by side as sequences of one reader.

Prompts are read several in a pass, none seeing another, behind what they share (few-shot examples), which is read once;
what each leaves behind is cut out of the states. Decoding takes one token of every row a pass: each stands at its own
position and sees its own columns alone. A row that has ended is left out of the next pass. Joining is
dear, for all that is carried is taken out and put back, so places that have become free are filled several at once.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from itertools import islice
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from bench.engines import token_tree
from bench.engines.abilities import CACHE_BYTES, Asked, Take, rows_side_by_side
from bench.engines.contract import DoesNotFit, check_context
from bench.engines.exported.logits import Floats
from bench.engines.exported.reading import SEQUENCE, Reader

PACK_TOKENS = 512
"""Tokens of prompts read in one pass, as for rows that are scored."""
JOINING = 0.25
"""Share of the places that are free before others join those that run."""


class Host(Protocol):
    """What generating needs of the engine."""

    context_length: int

    @property
    def position_elements(self) -> int:
        """Numbers of keys and values of one sequence at one position."""

    def fits(self, phase: str) -> AbstractContextManager[None]:
        """Turn the library's ways of running out of memory into DoesNotFit."""

    def take(self) -> Reader:
        """A reader that carries nothing."""

    def give(self, reader: Reader) -> None:
        """Keep it for the next user."""

    def release(self) -> None:
        """Free the reader kept for the next user."""


@dataclass(frozen=True)
class Read:
    """A prompt that has been read."""

    states: list[NDArray[Any]]
    """What it leaves behind, by state: (1, heads, positions, width)."""

    @property
    def length(self) -> int:
        """Its positions."""
        return int(self.states[0].shape[SEQUENCE])


class Batch:
    """The rows of one reader."""

    def __init__(self, reader: Reader) -> None:
        self.reader = reader
        self.lengths: list[int] = []
        """Positions of each row: where its next token stands."""
        self.seen = np.zeros((0, 0), np.bool_)
        """Which of the columns carried are a row's own, (rows, columns)."""
        self.sources: list[int] = []
        """The row of the last pass that each one goes on from."""

    def leave(self, kept: Sequence[int]) -> None:
        """Go on with these rows alone."""
        self.lengths = [self.lengths[row] for row in kept]
        self.sources = [self.sources[row] for row in kept]
        self.seen = self.seen[list(kept)]

    def join(self, new: Sequence[Read]) -> None:
        """Put further rows behind those there are, every row's positions in the first columns."""
        lengths = [*self.lengths, *(read.length for read in new)]
        columns = max(lengths)
        joined = []
        carried = self.reader.carried() if self.lengths else []
        for index, example in enumerate(new[0].states):
            made = np.zeros((len(lengths), example.shape[1], columns, example.shape[3]), example.dtype)
            for row, source in enumerate(self.sources):
                made[row, :, : lengths[row]] = carried[index][source][:, self.seen[row]]
            for row, read in enumerate(new, len(self.lengths)):
                made[row, :, : lengths[row]] = read.states[index][0]
            joined.append(made)
        self.reader.carry(joined, columns)
        self.lengths, self.sources = lengths, list(range(len(lengths)))
        self.seen = np.arange(columns) < np.array(lengths)[:, None]

    def step(self, tokens: Sequence[int]) -> Floats:
        """Logits (rows, vocabulary) behind one more token of each row."""
        self.seen = np.pad(self.seen, ((0, 0), (0, 1)), constant_values=True)
        logits = self.reader.step(tokens, self.sources, self.lengths, self.seen)
        self.sources = list(range(len(tokens)))
        self.lengths = [length + 1 for length in self.lengths]
        return logits


class SideBySide:
    """Generates the answers of one call."""

    def __init__(self, engine: Host, asked: Sequence[Asked], take: Take, left: int = CACHE_BYTES) -> None:
        """`left`: the most bytes that keys and values may take of the memory that is left."""
        self.engine, self.asked, self.take, self.left = engine, asked, take, left
        self.texts = [list(one.tokens) for one in asked]
        """Prompts, and what was generated behind them."""
        self.prefixes = token_tree.prefixes([one.tokens for one in asked])
        self.waiting = deque(sorted(range(len(asked)), key=lambda i: (self.prefixes[i], -len(asked[i].tokens), i)))
        self.behind: tuple[token_tree.Tokens, list[NDArray[Any]]] = ((), [])

    def run(self, most: int) -> int:
        """Until every answer has ended; how many may stand side by side, fewer where memory was short."""
        longest = max((len(one.tokens) + one.limit for one in self.asked), default=0)
        each = 4 * min(longest, self.engine.context_length) * self.engine.position_elements
        held = rows_side_by_side(most, min(longest, self.engine.context_length), self.engine.position_elements)
        if held * each > self.left:
            most = max(1, self.left // each)
        while self.waiting:
            running: list[int] = []
            try:
                with self.engine.fits("generate"):
                    self._run(running, min(most, held))
            except DoesNotFit:
                if most == 1:
                    raise
                most = min(most, held) // 2
                self.engine.release()
                self.behind = ((), [])
                self.waiting.extendleft(reversed(running))
        return most

    def _run(self, running: list[int], places: int) -> None:
        """`running` are the answers under way: the place of one is its row."""
        reader, batch = self.engine.take(), Batch(self.engine.take())
        joining = math.ceil(JOINING * places)
        while True:
            free = places - len(running)
            if self.waiting and (not running or free >= joining):
                self._join(reader, batch, running, free)
            if not running:
                break
            check_context(max(len(self.texts[index]) for index in running), self.engine.context_length)
            logits = batch.step([self.texts[index][-1] for index in running])
            kept = self._going_on(running, logits)
            if len(kept) < len(running):
                batch.leave(kept)
                running[:] = [running[row] for row in kept]
        self.engine.give(batch.reader)

    def _join(self, reader: Reader, batch: Batch, running: list[int], free: int) -> None:
        """Read prompts until no place is free or none waits; those whose answers go on take rows."""
        new: list[Read] = []
        try:
            while self.waiting and len(new) < free:
                reading = self._next(free - len(new))
                logits, read = self._read(reader, reading)
                for _ in reading:
                    self.waiting.popleft()
                kept = self._going_on(reading, logits)
                new += [read[at] for at in kept]
                running += [reading[at] for at in kept]
        finally:
            reader.clear()
        if new:
            batch.join(new)

    def _next(self, most: int) -> list[int]:
        """Prompts read in the next pass: those behind one prefix, at most as many tokens as a pass that scores."""
        reading, tokens = list[int](), 0
        prefix = self.prefixes[self.waiting[0]]
        for index in islice(self.waiting, most):
            tokens += len(self.texts[index]) - len(prefix)
            if reading and (tokens > PACK_TOKENS or self.prefixes[index] != prefix):
                break
            check_context(len(self.texts[index]), self.engine.context_length)
            reading.append(index)
        return reading

    def _read(self, reader: Reader, reading: Sequence[int]) -> tuple[Floats, list[Read]]:
        """Logits behind prompts of one prefix, and what they leave."""
        prefix = self.prefixes[reading[0]]
        if prefix and self.behind[0] != prefix:
            reader.clear()
            reader.read([prefix], [len(prefix) - 1])
            self.behind = prefix, reader.carried()
        texts = [self.texts[index][len(prefix) :] for index in reading]
        found = self._pass(reader, texts, len(prefix))
        if len(texts) > 1 and not np.isfinite(found[0]).all():  # a NaN comes through the mask between prompts
            apart = [self._pass(reader, [text], len(prefix)) for text in texts]
            return np.concatenate([logits for logits, _ in apart]), [one for _, (one,) in apart]
        return found

    def _pass(self, reader: Reader, texts: Sequence[Sequence[int]], held: int) -> tuple[Floats, list[Read]]:
        """Texts one after the other, each behind the prefix alone."""
        if held:
            reader.carry(self.behind[1], held)
        else:
            reader.clear()
        ends = np.cumsum([len(text) for text in texts])
        owner = np.repeat(np.arange(len(texts)), [len(text) for text in texts])
        seen = (owner[:, None] == owner) & np.tri(len(owner), dtype=np.bool_)
        depths = [held + at for text in texts for at in range(len(text))]
        logits = reader.read([[token for text in texts for token in text]], ends - 1, depths=depths, seen=seen).copy()
        states = reader.carried()
        own = [
            [*range(held), *range(held + end - len(text), held + end)] for text, end in zip(texts, ends, strict=True)
        ]
        return logits, [Read([state.take(columns, SEQUENCE) for state in states]) for columns in own]

    def _going_on(self, indices: Sequence[int], logits: Floats) -> list[int]:
        """Choose each one's next token and hand it over; the places of those that go on."""
        tokens = logits.argmax(-1)
        kept = []
        for place, (index, token) in enumerate(zip(indices, tokens.tolist(), strict=True)):
            if self.take(index, token if np.isfinite(logits[place, token]) else None):
                self.texts[index].append(token)
                kept.append(place)
        return kept
