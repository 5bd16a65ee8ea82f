# SPDX-License-Identifier: Apache-2.0
"""Score rows packed into token trees, a beginning that many share read once; or padded, where no mask can be given."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.engines import token_tree
from bench.engines.contract import Row, Score
from bench.engines.exported.logits import log_sum
from bench.engines.exported.reading import Reader

PACK_TOKENS = 512
"""Tokens of one pass, the same for every precision."""
FEWER_TOKENS = 128
"""The same where memory ran out before."""
LOGITS = 1 << 27
"""Logits (positions x vocabulary) that one pass may leave: 512 MiB."""
Done = Callable[[int], None]


class TreeScorer:
    """Scores rows in packs."""

    def __init__(self, reader: Reader, vocabulary: int, pack_tokens: int = PACK_TOKENS) -> None:
        self.reader, self.positions, self.pack_tokens = reader, max(1, LOGITS // vocabulary), pack_tokens
        self.held: token_tree.Tokens = ()
        """The beginning whose keys and values are in `states`."""
        self.states: list[Any] = []

    def score(self, rows: Sequence[Row], done: Done) -> list[Score]:
        """Scores in the order of the rows."""
        found: dict[int, Score] = {}
        for group in token_tree.plan(rows, min(self.pack_tokens, self.positions)):
            self._go_on(group.prefix)
            for pack in group.packs:
                if group.prefix:
                    self.reader.carry(self.states, len(group.prefix))
                else:
                    self.reader.clear()
                found |= self._pack(pack, rows)
                done(len(found))
        self.reader.clear()
        return [found[index] for index in range(len(rows))]

    def _go_on(self, prefix: token_tree.Tokens) -> None:
        """Hold a group's prefix; what it shares with the one before is not read again."""
        if prefix in ((), self.held):
            return
        same = token_tree.shared(self.held, prefix)
        if same < token_tree.PREFIX_TOKENS:
            same = 0
            self.reader.clear()
        else:
            self.reader.carry(self.states, same)
        if prefix[same:]:
            self.reader.read([prefix[same:]], [len(prefix) - same - 1])
        self.states, self.held = self.reader.carried(), prefix

    def _pack(self, pack: token_tree.Pack, rows: Sequence[Row]) -> dict[int, Score]:
        """Scores of one pack by row index. One long sequence is read in parts that leave not too many logits."""
        nodes = np.concatenate([of_row for _, of_row in pack.rows])
        targets = np.array([token for index, _ in pack.rows for token in rows[index].continuation])
        chosen, best = np.empty(len(nodes), np.float32), np.empty(len(nodes), np.bool_)
        count = len(pack.tokens)
        step = count if not pack.chain else max(self.positions, 1)
        for start in range(0, count, step):
            end = min(start + step, count)
            here = (nodes >= start) & (nodes < end)
            wanted = np.unique(nodes[here])
            if pack.chain:
                logits = self.reader.read([pack.tokens[start:end]], wanted - start)
            else:
                logits = self.reader.read([pack.tokens], wanted, depths=pack.depths, seen=pack.mask())
            chosen[here], best[here] = taken(logits, np.searchsorted(wanted, nodes[here]), targets[here])
        return _by_row(pack, chosen, best)


def padded(
    reader: Reader, rows: Sequence[Row], vocabulary: int, done: Done, pack_tokens: int = PACK_TOKENS
) -> list[Score]:
    """Scores of rows filled up on the right, which no token before the filling sees, in batches of similar length."""
    positions = min(pack_tokens, max(1, LOGITS // vocabulary))
    texts = [row.context + row.continuation[:-1] for row in rows]
    found: dict[int, Score] = {}
    waiting = sorted(range(len(rows)), key=lambda index: -len(texts[index]))
    while waiting:
        longest = len(texts[waiting[0]])
        batch, waiting = waiting[: max(1, positions // longest)], waiting[max(1, positions // longest) :]
        nodes = np.concatenate(
            [at * longest + np.arange(len(rows[i].context) - 1, len(texts[i])) for at, i in enumerate(batch)]
        )
        targets = np.array([token for index in batch for token in rows[index].continuation])
        reader.clear()
        logits = reader.read([[*texts[i], *[0] * (longest - len(texts[i]))] for i in batch], nodes)
        chosen, best = taken(logits, np.arange(len(nodes)), targets)
        start = 0
        for index in batch:
            end = start + len(rows[index].continuation)
            found[index] = Score(tuple(chosen[start:end].tolist()), bool(best[start:end].all()))
            start = end
        done(len(found))
    reader.clear()
    return [found[index] for index in range(len(rows))]


def taken(
    logits: NDArray[np.float32], places: NDArray[np.int64], targets: NDArray[np.int64]
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """For each (place, target): the target's log-probability, and whether it is the most probable token."""
    chosen: NDArray[np.float32] = logits[places, targets] - log_sum(logits)[places]
    return chosen, logits.argmax(-1)[places] == targets


def _by_row(pack: token_tree.Pack, chosen: NDArray[np.float32], best: NDArray[np.bool_]) -> dict[int, Score]:
    scores, start = {}, 0
    for index, nodes in pack.rows:
        end = start + len(nodes)
        scores[index] = Score(tuple(chosen[start:end].tolist()), bool(best[start:end].all()))
        start = end
    return scores
