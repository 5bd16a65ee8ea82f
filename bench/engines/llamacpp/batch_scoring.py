# SPDX-License-Identifier: Apache-2.0
"""Score many rows in few batches: sequences stand side by side, and a shared context is computed once."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol, Self

import numpy as np
from numpy.typing import NDArray

from bench.engines.contract import Row, Score, check_context
from bench.engines.llamacpp.context import Context, Entry, Shape
from bench.engines.llamacpp.gguf_layout import BATCH

OUTPUT_BYTES = 64 << 20
"""Logits that one batch may leave: a vocabulary of 262,144 gets 64 rows, one of 49,152 a whole batch of 341."""
SEQUENCES = 64
"""Sequences that are scored together."""


class Host(Protocol):
    """What scoring needs of the engine."""

    vocabulary: int
    context_length: int
    compute_threads: int

    def take(self, shape: Shape) -> Context:
        """An empty context of at least that shape."""

    def give(self, context: Context) -> None:
        """Keep it for the next user."""


class Scoring:
    """A context for scoring, taken for a while."""

    def __init__(self, engine: Host, positions: int, sequences: int = 1) -> None:
        """`positions` of the longest sequence, `sequences` of that length side by side."""
        check_context(positions, engine.context_length)
        self.engine = engine
        self.outputs = max(1, min(BATCH, OUTPUT_BYTES // (4 * engine.vocabulary)))
        self.shape = Shape(
            positions=max(positions * sequences, BATCH),  # a pack is one batch of tokens at most, or one row
            sequences=SEQUENCES,
            outputs=self.outputs,
            shared=True,
            threads=engine.compute_threads,
        )

    def __enter__(self) -> Self:
        self.context = self.engine.take(self.shape)
        return self

    def __exit__(self, *_: object) -> None:
        self.engine.give(self.context)

    def batches(self, entries: Sequence[Entry]) -> Iterable[NDArray[np.float32]]:
        """Logits of the scored entries, batch after batch, none with more outputs than the context has room for."""
        self.context.clear()
        start = scored = 0
        for index, entry in enumerate(entries):
            if index - start == BATCH or scored + entry.scored > self.outputs:
                yield self.context.decode(entries[start:index])
                start, scored = index, 0
            scored += entry.scored
        yield self.context.decode(entries[start:])

    def pack(self, rows: Sequence[Row], groups: list[list[int]]) -> list[tuple[int, Score]]:
        """Scores of groups of rows; the rows of a group have one context."""
        entries: list[Entry] = []
        wanted: list[list[tuple[int, int]]] = []
        """For each output, the (row, token) pairs that it predicts."""
        sequence = 0
        for group in groups:
            members = tuple(range(sequence, sequence + len(group)))
            sequence += len(group)
            context = rows[group[0]].context
            entries += [Entry(t, i, members, scored=i == len(context) - 1) for i, t in enumerate(context)]
            wanted.append([(index, rows[index].continuation[0]) for index in group])
            for member, index in zip(members, group, strict=True):
                tokens = rows[index].continuation
                for offset, token in enumerate(tokens[:-1]):
                    entries.append(Entry(token, len(context) + offset, (member,), scored=True))
                    wanted.append([(index, tokens[offset + 1])])
        log_probs: dict[int, list[float]] = {index: [] for group in groups for index in group}
        greedy = dict.fromkeys(log_probs, True)
        at = 0
        for logits in self.batches(entries):
            total, best = log_sum(logits), logits.argmax(-1)
            for position in range(len(logits)):
                for index, token in wanted[at + position]:
                    log_probs[index].append(float(logits[position, token] - total[position]))
                    greedy[index] &= bool(best[position] == token)
            at += len(logits)
        return [(index, Score(tuple(values), greedy[index])) for index, values in log_probs.items()]


def packs(rows: Sequence[Row], *, plain: bool = False) -> list[list[list[int]]]:
    """Groups of rows that share a context, packed into at most BATCH tokens and SEQUENCES rows (or one row).

    With `plain` every row is a group of its own.
    """
    shared: dict[tuple[tuple[int, ...], int], list[int]] = {}
    for index, row in enumerate(rows):
        shared.setdefault((row.context, index if plain else 0), []).append(index)
    groups: list[tuple[int, list[int]]] = []
    """Tokens and rows."""
    for (context, _), indices in shared.items():
        size = BATCH + 1
        for index in indices:
            more = len(rows[index].continuation) - 1
            if size + more > BATCH or len(groups[-1][1]) == SEQUENCES:
                size = len(context)
                groups.append((size, []))
            size += more
            groups[-1] = (size, [*groups[-1][1], index])
    made: list[list[list[int]]] = []
    used = members = 0
    for size, group in sorted(groups, key=lambda pair: -pair[0]):
        if not made or used + size > BATCH or members + len(group) > SEQUENCES:
            made.append([])
            used = members = 0
        made[-1].append(group)
        used, members = used + size, members + len(group)
    return made


def log_sum(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """Log of the sum of exponentials of each row, float32."""
    highest = logits.max(-1, keepdims=True)
    total: NDArray[np.float32] = np.log(np.exp(logits - highest).sum(-1)) + highest[:, 0]
    return total
