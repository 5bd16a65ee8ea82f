# SPDX-License-Identifier: Apache-2.0
"""What an engine of an exported graph gives to those who read texts with it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bench.engines.exported.logits import Floats

UNSEEN = float(np.finfo(np.float32).min)
"""Added to the attention of what a token must not see."""
SEQUENCE = 2
"""The dimension of keys and values that grows, in (sequences, heads, positions, width)."""


class Reader(Protocol):
    """Passes over tokens behind those that are carried."""

    held: int
    """Positions of each sequence that are carried."""

    def read(
        self, texts: Sequence[Sequence[int]], rows: ArrayLike, *, depths: Sequence[int] | None = None,
        seen: NDArray[np.bool_] | None = None,
    ) -> Floats:  # fmt: skip
        """Logits of `rows` (indices into all tokens read, text after text), shape (len(rows), vocabulary).

        Of one text, `depths` may say where each token stands, and `seen` (tokens, tokens) which of the others it sees;
        what is carried all see.
        """

    def step(
        self, tokens: Sequence[int], sources: Sequence[int], depths: Sequence[int], seen: NDArray[np.bool_]
    ) -> Floats:
        """Logits (rows, vocabulary) behind one more token of each row; only where the graph takes a mask of ours.

        Row i goes on from row `sources[i]` of what is carried, stands at `depths[i]` and sees the columns `seen[i]`,
        its own last one among them: shape (rows, held + 1).
        """

    def clear(self) -> None:
        """Carry nothing."""

    def carried(self) -> list[NDArray[Any]]:
        """A copy of what is carried, for `carry`: arrays of (sequences, heads, positions, width)."""

    def carry(self, states: Sequence[NDArray[Any]], held: int) -> None:
        """Carry the first `held` positions of a copy again."""


def mask(count: int, held: int, seen: NDArray[np.bool_] | None) -> Floats:
    """What is added to attention, shape (1, 1, count, held + count): 0 where a token sees, `UNSEEN` elsewhere."""
    found = np.zeros((1, 1, count, held + count), np.float32)
    if count > 1:
        found[0, 0, :, held:][~(np.tri(count, dtype=np.bool_) if seen is None else seen)] = UNSEEN
    return found
