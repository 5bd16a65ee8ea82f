# SPDX-License-Identifier: Apache-2.0
"""Scores of rows by a causal model whose arithmetic looks at the whole pass: each sequence read by itself, whole.

Nothing stands beside a sequence, nothing is filled up and no beginning is shared, so that a row's scores are those of
its tokens alone, and those that lm-eval's own model gives at a batch size of one. Rows that read the very same tokens
share their pass, as they do there: choices of one token behind one question.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch

from bench.engines.contract import Row, Score
from bench.engines.transformers.forward import Forward
from bench.engines.transformers.likelihood import log_likelihood

Tokens = tuple[int, ...]


def score_apart(forward: Forward, rows: Sequence[Row], positions: int, done: Callable[[int], None]) -> list[Score]:
    """Log-probabilities (nats, float32) of every row; call it in inference mode.

    `positions` is how many positions may leave logits at once; `done` hears how many rows are finished.
    """
    same: dict[Tokens, list[int]] = {}
    for index, row in enumerate(rows):
        same.setdefault(row.context + row.continuation[:-1], []).append(index)
    chosen: list[list[float]] = [[] for _ in rows]
    greedy = [True] * len(rows)
    finished = 0
    for tokens, members in same.items():
        first = min(len(rows[index].context) for index in members) - 1
        for start, logits in _passes(forward, tokens, first, positions):
            for index in members:
                before = len(rows[index].context) - 1
                begin, end = max(start, before), start + len(logits)
                if begin < end:
                    wanted = rows[index].continuation[begin - before : end - before]
                    log_probs, best = log_likelihood(logits[begin - start :], wanted)
                    chosen[index] += log_probs
                    greedy[index] &= best
        finished += len(members)
        done(finished)
    return [Score(tuple(log_probs), best) for log_probs, best in zip(chosen, greedy, strict=True)]


def _passes(forward: Forward, tokens: Tokens, first: int, positions: int) -> Iterator[tuple[int, torch.Tensor]]:
    """Logits of the positions from `first` on, with the first position of each part.

    More than `positions` of them come in parts, and every part reads the whole sequence again: a sequence cut in two
    would be two passes, which is what must not be.
    """
    read = torch.tensor([tokens], dtype=torch.long, device=forward.model.device)
    for start in range(first, len(tokens), positions):
        keep: int | torch.Tensor = len(tokens) - first
        if len(tokens) - first > positions:
            keep = torch.arange(start, min(start + positions, len(tokens)), device=forward.model.device)
        yield start, forward(read, keep=keep)[0][0]
