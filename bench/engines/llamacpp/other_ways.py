# SPDX-License-Identifier: Apache-2.0
"""The same tokens read in other ways: beside other sequences, and one by one. They measure an engine against itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from bench.engines.llamacpp.batch_scoring import Host, Scoring, log_sum
from bench.engines.llamacpp.context import Caching, Context, Entry, Shape


def together(engine: Host, rows: Sequence[Sequence[int]]) -> NDArray[np.float32]:
    """Log-probabilities of equally long sequences, shape (rows, tokens - 1, vocabulary).

    Every batch holds as many tokens of each: the next one of all of them, then the one after.
    """
    length = len(rows[0]) - 1
    entries = [
        Entry(row[position], position, (sequence,), scored=True)
        for position in range(length)
        for sequence, row in enumerate(rows)
    ]
    made = np.empty((len(rows), length, engine.vocabulary), np.float32)
    at = 0
    with Scoring(engine, length, len(rows)) as scoring:
        for logits in scoring.batches(entries):
            for index, row in enumerate(logits, at):
                made[index % len(rows), index // len(rows)] = row - log_sum(row[None])
            at += len(logits)
    return made


def stepwise(engine: Host, tokens: Sequence[int]) -> NDArray[np.float32]:
    """Log-probabilities of one sequence, each token a batch of its own behind the cache."""
    made = np.empty((len(tokens) - 1, engine.vocabulary), np.float32)
    with Scoring(engine, len(tokens) - 1) as scoring:
        scoring.context.clear()
        for position, token in enumerate(tokens[:-1]):
            logits = scoring.context.decode([Entry(token, position, (0,), scored=True)])
            made[position] = logits[0] - log_sum(logits)
    return made


class Maker(Protocol):
    """What reading in pieces needs of the engine."""

    vocabulary: int
    compute_threads: int

    def make(self, shape: Shape, caching: Caching | None = None) -> Context:
        """A new context."""


def in_pieces(
    engine: Maker, tokens: Sequence[int], piece: int, keep: Sequence[int], caching: Caching
) -> NDArray[np.float32]:
    """Log-probabilities behind the positions in `keep`, shape (len(keep), vocabulary), `piece` tokens a batch."""
    wanted, made = set(keep), np.empty((len(keep), engine.vocabulary), np.float32)
    shape = Shape(
        positions=len(tokens), sequences=1, outputs=min(piece, len(keep)), shared=False, threads=engine.compute_threads
    )
    context, at = engine.make(shape, caching), 0
    try:
        for start in range(0, max(keep) + 1, piece):
            part = range(start, min(start + piece, max(keep) + 1))
            logits = context.decode([Entry(tokens[i], i, (0,), scored=i in wanted) for i in part])
            if len(logits):
                made[at : at + len(logits)] = logits - log_sum(logits)[:, None]
                at += len(logits)
    finally:
        context.close()
    return made
