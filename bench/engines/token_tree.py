# SPDX-License-Identifier: Apache-2.0
"""Pack rows into token trees, so that a beginning that several rows share is computed once. Needs only numpy.

A pack is one forward pass: the tokens of several sequences laid out in depth-first order, shared beginnings once,
each token at its own position (its depth) and allowed to see its ancestors alone. Continuations of one context, the
two sentences of a minimal pair and answers that differ in their last word share what they share; a beginning common
to many sequences (few-shot examples), or to a few that one pack cannot hold (a long passage), is computed apart, once,
and its key-value cache serves every pack of its group. Groups come in sorted order, so that the cache of one goes on
from what it shares with the one before: examples that all items begin with, then the passage of one item.
How rows are packed depends on their tokens alone, never on a precision, so models that are compared share their packs.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from bench.engines.contract import Row

Tokens = tuple[int, ...]
Member = tuple[Tokens, int]
"""The tokens of a row that are read, and its index."""
PREFIX_TOKENS = 64
"""A common beginning of at least this many tokens gets a cache of its own."""
PREFIX_SEQUENCES = 3
"""And at least this many sequences, where a pack holds them: two are as well served by a tree."""
SLACK = 0.25
"""Share of a pack that may stay empty so that it ends between two items."""


@dataclass(kw_only=True)
class Pack:
    """One forward pass over a forest of sequences that follow a common prefix."""

    tokens: list[int] = field(default_factory=list)
    depths: list[int] = field(default_factory=list)
    """Position of each token, the prefix counted."""
    paths: list[tuple[int, NDArray[np.int64]]] = field(default_factory=list)
    """For each run of new tokens: index of its first token, and the indices of all its ancestors."""
    rows: list[tuple[int, NDArray[np.int64]]] = field(default_factory=list)
    """Row index, and the nodes whose logits predict its continuation, token by token."""

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
    """Groups of packs of at most `pack_tokens` new tokens each (or one sequence that is longer).

    They are sorted by their prefixes, so that neighbours share the most.
    """
    sequences = sorted((row.context + row.continuation[:-1], index) for index, row in enumerate(rows))
    groups = [
        Group(prefix=prefix, packs=tuple(_packs(rows, members, len(prefix), pack_tokens)))
        for prefix, members in _prefix_groups(rows, sequences, 0, pack_tokens)
    ]
    return sorted(groups, key=lambda group: group.prefix)


def prefixes(prompts: Sequence[Tokens]) -> list[Tokens]:
    """What each prompt begins with that is worth reading apart, as for rows that are scored."""
    found: list[Tokens] = [()] * len(prompts)
    rows = [Row(tuple(prompt), (0,)) for prompt in prompts]
    for group in plan(rows, sys.maxsize):  # nothing is packed: no tree is too large for a pack
        for pack in group.packs:
            for index, _ in pack.rows:
                found[index] = group.prefix
    return found


def alone(row: Row) -> Pack:
    """One row as a pack of its own."""
    return _pack([row], [(row.context + row.continuation[:-1], 0)], 0)


def shared(first: Tokens, second: Tokens) -> int:
    """Tokens that both begin with."""
    length = min(len(first), len(second))
    for index in range(length):
        if first[index] != second[index]:
            return index
    return length


def _prefix_groups(
    rows: Sequence[Row], members: Sequence[Member], held: int, pack_tokens: int
) -> Iterator[tuple[Tokens, list[Member]]]:
    """Sorted sequences that share `held` tokens, by what more of their beginning is worth a cache.

    They are split where neighbours share little more. A prefix ends before the last token of every context: nothing is
    scored inside it, and each sequence keeps a token of its own.
    """
    least = held + PREFIX_TOKENS
    kept = [member for member in members if len(rows[member[1]].context) <= least]
    able = [member for member in members if len(rows[member[1]].context) > least]
    alike = [shared(a, b) for (a, _), (b, _) in pairwise(able)]
    start = 0
    while start < len(able):
        end = start + 1
        while end < len(able) and alike[end - 1] >= least:
            end += 1
        run, links = able[start:end], alike[start : end - 1]
        common = min([*links, *(len(rows[index].context) - 1 for _, index in run)])
        if _worth_a_cache(run, links, held, common, pack_tokens):
            yield from _prefix_groups(rows, run, common, pack_tokens)
        else:
            kept += run
        start = end
    if kept:
        kept.sort()
        yield kept[0][0][:held], kept


def _worth_a_cache(members: Sequence[Member], alike: Sequence[int], held: int, common: int, pack_tokens: int) -> bool:
    """Whether to compute apart what these sequences share beyond the `held` tokens of the cache around them.

    Where one pack holds them all, its tree shares as much, unless they are many; where none does, each pack would read
    the beginning again.
    """
    tree = sum(len(tokens) - held for tokens, _ in members) - sum(links - held for links in alike)
    if tree > pack_tokens:
        return len(members) > 1
    return not held and len(members) >= PREFIX_SEQUENCES and not _one_item(members, common)


def _one_item(members: Sequence[Member], common: int) -> bool:
    """Whether one tree is as good as a cached prefix: there are few sequences, and they are mostly prefix."""
    return sum(len(tokens) - common for tokens, _ in members) < common and len(members) < 2 * PREFIX_SEQUENCES


def _packs(rows: Sequence[Row], members: Sequence[Member], skip: int, pack_tokens: int) -> Iterator[Pack]:
    """Packs of neighbours in sorted order, which share what they begin with."""
    own = [(tokens[skip:], index) for tokens, index in members]
    alike = [0, *(shared(a, b) for (a, _), (b, _) in pairwise(own))]
    lengths = [len(tokens) for tokens, _ in own]
    start = 0
    while start < len(own):
        end = _pack_end(lengths, alike, start, pack_tokens)
        yield _pack(rows, own[start:end], skip)
        start = end


def _pack_end(lengths: Sequence[int], alike: Sequence[int], start: int, pack_tokens: int) -> int:
    """Where the pack that begins at `start` ends: as full as possible, and preferably between two items.

    What two neighbours share is computed twice when a pack ends between them, so of the ends that leave the pack at
    least 1 - SLACK full the one is taken where that is least.
    """
    held, end, best = lengths[start], start + 1, start + 1
    while end < len(lengths):
        if alike[end] <= alike[best] or held < (1 - SLACK) * pack_tokens:
            best = end
        held += lengths[end] - alike[end]
        if held > pack_tokens:
            return best
        end += 1
    return end


def _pack(rows: Sequence[Row], members: Sequence[Member], skip: int) -> Pack:
    """One pack of these sequences, whose first `skip` tokens are in a cache."""
    pack, path = Pack(), np.empty(0, dtype=np.int64)
    previous: Tokens = ()
    for own, index in members:
        common, start = shared(previous, own), len(pack.tokens)
        if not start or common < len(path):  # a sequence that only goes on lengthens the run it goes on from
            pack.paths.append((start, path[:common]))
        pack.tokens += own[common:]
        pack.depths += range(skip + common, skip + len(own))
        path = np.concatenate([path[:common], np.arange(start, len(pack.tokens))])
        previous = own
        pack.rows.append((index, path[len(rows[index].context) - 1 - skip :]))
    return pack
