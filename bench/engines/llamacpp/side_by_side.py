# SPDX-License-Identifier: Apache-2.0
"""Answers to prompts of any lengths, generated side by side as sequences of one context.

Every prompt is read by itself behind what all of them share (few-shot examples), which is read once into a sequence of
its own and copied. Sequences that decode stand without gaps: llama.cpp splits a batch where their numbers jump.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from bench.engines.abilities import CACHE_BYTES, Asked, Take, rows_side_by_side
from bench.engines.contract import DoesNotFit, check_context
from bench.engines.llamacpp.context import Context, Entry, Shape
from bench.engines.llamacpp.gguf_layout import BATCH, CONTEXT_STEP
from bench.engines.llamacpp.gguf_layout import CACHE_BYTES as ELEMENT_BYTES

PREFIX_TOKENS, PREFIX_PROMPTS = 64, 3
"""A common beginning of at least so many tokens, of at least so many prompts, is read once."""


class Host(Protocol):
    """What generating needs of the engine."""

    context_length: int
    compute_threads: int
    cache_bytes_per_token: int

    def take(self, shape: Shape) -> Context:
        """An empty context of at least that shape."""

    def give(self, context: Context) -> None:
        """Keep it for the next user."""

    def release(self) -> None:
        """Free the context kept for the next user."""


class SideBySide:
    """Generates the answers of one call."""

    def __init__(self, engine: Host, asked: Sequence[Asked], take: Take, left: int | None = None) -> None:
        """`left`: the most bytes that keys and values may take of the memory that is left, None where nobody knows."""
        self.engine, self.asked, self.take = engine, asked, take
        self.left = CACHE_BYTES if left is None else left
        self.texts = [list(one.tokens) for one in asked]
        """Prompts, and what was generated behind them."""
        self.waiting = deque(sorted(range(len(asked)), key=lambda i: -len(asked[i].tokens)))
        common = _common([one.tokens[:-1] for one in asked])
        self.prefix = common if len(common) >= PREFIX_TOKENS and len(asked) >= PREFIX_PROMPTS else ()

    def run(self, most: int) -> int:
        """Until every answer has ended; how many may stand side by side, fewer where memory was short."""
        each = self._positions() * self.engine.cache_bytes_per_token
        if self._held(min(most, len(self.asked))) * each > self.left:
            most = max(1, self.left // each)
        while self.waiting:
            running: list[int] = []
            try:
                self._run(running, most)
            except DoesNotFit:
                if most == 1:
                    raise
                most //= 2
                self.engine.release()
                self.waiting.extendleft(reversed(running))
        return most

    def _shape(self, most: int) -> Shape:
        """Room for the longest answer in every sequence, and for the prefix in one more."""
        positions = self._positions()
        sequences = self._held(min(most, len(self.waiting))) + bool(self.prefix)
        return Shape(  # llama.cpp wants room for an output of every sequence
            positions=positions, sequences=sequences, outputs=sequences, shared=False,
            threads=self.engine.compute_threads,
        )  # fmt: skip

    def _held(self, most: int) -> int:
        """Of so many sequences, those that CACHE_BYTES hold, by the one rule of all engines."""
        elements = self.engine.cache_bytes_per_token // ELEMENT_BYTES
        return rows_side_by_side(most, self._positions(), elements)

    def _positions(self) -> int:
        """Of the longest answer that is waiting."""
        longest = max((len(self.asked[index].tokens) + self.asked[index].limit for index in self.waiting), default=0)
        return -(-min(longest, self.engine.context_length) // CONTEXT_STEP) * CONTEXT_STEP

    def _run(self, running: list[int], most: int) -> None:
        """`running` are the answers under way: the place of one is its sequence."""
        shape = self._shape(most)
        places = shape.sequences - bool(self.prefix)
        context = self.engine.take(shape)
        try:
            if self.prefix:
                self._read(context, self.prefix, 0, places)
            while running or self.waiting:
                while self.waiting and len(running) < places:
                    self._begin(context, running, places)
                if running:
                    self._step(context, running)
        finally:
            self.engine.give(context)

    def _begin(self, context: Context, running: list[int], places: int) -> None:
        """Read the next prompt into the first free sequence."""
        index, sequence = self.waiting.popleft(), len(running)
        running.append(index)
        text = self.texts[index]
        check_context(len(text), self.engine.context_length)
        if self.prefix:
            context.copy(places, sequence)
        logits = self._read(context, text[len(self.prefix) :], len(self.prefix), sequence)
        self._leave(context, running, self._ended([index], logits))

    def _read(self, context: Context, tokens: Sequence[int], past: int, sequence: int) -> NDArray[np.float32]:
        """Logits (1, vocabulary) behind tokens that follow `past` others."""
        last = len(tokens) - 1
        entries = [Entry(token, past + at, (sequence,), scored=at == last) for at, token in enumerate(tokens)]
        for start in range(0, len(entries), BATCH):
            logits = context.decode(entries[start : start + BATCH])
        return logits

    def _step(self, context: Context, running: list[int]) -> None:
        """One more token of every answer under way."""
        longest = max(len(self.texts[index]) for index in running)
        check_context(longest, self.engine.context_length)
        entries = [
            Entry(self.texts[index][-1], len(self.texts[index]) - 1, (sequence,), scored=True)
            for sequence, index in enumerate(running)
        ]
        self._leave(context, running, self._ended(running, context.decode(entries)))

    def _ended(self, indices: Sequence[int], logits: NDArray[np.float32]) -> list[int]:
        """Choose each one's next token and hand it over; the indices that go on no further."""
        tokens = logits.argmax(-1)
        ended = []
        for index, token, row in zip(indices, tokens.tolist(), logits, strict=True):
            if self.take(index, token if np.isfinite(row[token]) else None):
                self.texts[index].append(token)
            else:
                ended.append(index)
        return ended

    def _leave(self, context: Context, running: list[int], ended: Sequence[int]) -> None:
        """Forget ended answers; the last sequence moves into the gap."""
        for index in ended:
            sequence, last = running.index(index), len(running) - 1
            context.forget(sequence)
            if sequence < last:
                context.copy(last, sequence)
                context.forget(last)
            running[sequence] = running[last]
            running.pop()


def _common(prompts: Sequence[tuple[int, ...]]) -> tuple[int, ...]:
    """What all of them begin with: no others differ sooner than the least and the greatest."""
    first, last = min(prompts, default=()), max(prompts, default=())
    same = (at for at, (one, other) in enumerate(zip(first, last, strict=False)) if one != other)
    return first[: next(same, min(len(first), len(last)))]
