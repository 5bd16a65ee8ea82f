# SPDX-License-Identifier: Apache-2.0
"""Sequences that begin alike computed once: rows to score become packs of token trees (no library but numpy).

A pack is one forward pass: the tokens of several sequences laid out in depth-first order, shared beginnings once,
each token at its own position (its depth) and allowed to see its ancestors alone. Continuations of one context, the
two sentences of a minimal pair and answers that differ in their last word share what they share; a beginning common
to many sequences (few-shot examples) is computed apart, once, and its key-value cache serves every pack of its group.
How rows are packed depends on their tokens alone, never on a precision, so models that are compared share their packs.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from bench.engine import Row

Tokens = tuple[int, ...]
PREFIX_TOKENS = 64
"""A common beginning of at least this many tokens gets a cache of its own."""
PREFIX_SEQUENCES = 3
"""And at least this many sequences: two are as well served by a tree."""


@dataclass(kw_only=True)
class Pack:
    """One forward pass over a forest of sequences that follow a common prefix."""

    tokens: list[int] = field(default_factory=list)
    depths: list[int] = field(default_factory=list)
    """Position of each token, the prefix counted."""
    paths: list[tuple[int, NDArray[np.int64]]] = field(default_factory=list)
    """For each run of new tokens: index of its first token, and the indices of all its ancestors."""
    rows: list[tuple[int, NDArray[np.int64]]] = field(default_factory=list)
    """Row index, and the nodes whose logits predict its continuation, -1 for the last token of the prefix."""

    def mask(self) -> NDArray[np.bool_]:
        """Which token sees which, shape (tokens, tokens): its ancestors and itself."""
        seen = np.zeros((len(self.tokens), len(self.tokens)), dtype=np.bool_)
        ends = [start for start, _ in self.paths[1:]] + [len(self.tokens)]
        for (start, ancestors), end in zip(self.paths, ends, strict=True):
            seen[start:end, ancestors] = True
            seen[start:end, start:end] = np.tri(end - start, dtype=np.bool_)
        return seen

    @property
    def chain(self) -> bool:
        """Whether this is a single sequence, which needs no mask of its own."""
        return len(self.paths) == 1


@dataclass(frozen=True, kw_only=True)
class Group:
    """Packs that share one cached prefix (which may be empty)."""

    prefix: Tokens
    packs: tuple[Pack, ...]


def plan(rows: Sequence[Row], pack_tokens: int) -> list[Group]:
    """Groups of packs of at most `pack_tokens` new tokens each (or one sequence that is longer)."""
    sequences = sorted((row.context + row.continuation[:-1], index) for index, row in enumerate(rows))
    groups = []
    for prefix, members in _prefix_groups(sequences):
        groups.append(Group(prefix=prefix, packs=tuple(_packs(rows, members, len(prefix), pack_tokens))))
    return groups


def shared(first: Tokens, second: Tokens) -> int:
    """Tokens that both begin with."""
    length = min(len(first), len(second))
    for index in range(length):
        if first[index] != second[index]:
            return index
    return length


def _prefix_groups(sequences: list[tuple[Tokens, int]]) -> Iterator[tuple[Tokens, list[tuple[Tokens, int]]]]:
    """Sorted sequences split where neighbours share little; those with a long common beginning together.

    A prefix ends at least one token before its shortest sequence does, so that every sequence has a token of its own.
    """
    alike = [shared(a, b) for (a, _), (b, _) in zip(sequences, sequences[1:], strict=False)]
    rest: list[tuple[Tokens, int]] = []
    start = 0
    while start < len(sequences):
        end = start + 1
        while end < len(sequences) and alike[end - 1] >= PREFIX_TOKENS:
            end += 1
        members = sequences[start:end]
        common = min(alike[start : end - 1], default=0)
        common = min(common, min(len(tokens) for tokens, _ in members) - 1)
        if len(members) >= PREFIX_SEQUENCES and common >= PREFIX_TOKENS and not _one_item(members, common):
            yield members[0][0][:common], members
        else:
            rest += members
        start = end
    if rest:
        yield (), rest


def _one_item(members: list[tuple[Tokens, int]], common: int) -> bool:
    """Whether a tree in one pack would do as well: few sequences that are mostly prefix."""
    return sum(len(tokens) - common for tokens, _ in members) < common and len(members) < 2 * PREFIX_SEQUENCES


def _packs(
    rows: Sequence[Row], members: list[tuple[Tokens, int]], skip: int, pack_tokens: int
) -> Iterator[Pack]:
    """Fill packs in sorted order, so that neighbours share what they begin with."""
    pack, path, previous = Pack(), np.empty(0, dtype=np.int64), ()
    for tokens, index in members:
        own = tokens[skip:]
        common = shared(previous, own)
        if pack.tokens and len(pack.tokens) + len(own) - common > pack_tokens:
            yield pack
            pack, path, common = Pack(), np.empty(0, dtype=np.int64), 0
        start = len(pack.tokens)
        if len(own) > common:
            pack.paths.append((start, path[:common]))
            pack.tokens += own[common:]
            pack.depths += range(skip + common, skip + len(own))
            path = np.concatenate([path[:common], np.arange(start, len(pack.tokens))])
        previous = own
        first = len(rows[index].context) - 1 - skip
        nodes = np.array([path[i] if i >= 0 else -1 for i in range(first, len(own))], dtype=np.int64)
        pack.rows.append((index, nodes))
    if pack.rows:
        yield pack
