# SPDX-License-Identifier: Apache-2.0
"""Log-probabilities of wanted tokens under rows of logits, and whether each of them was the most probable."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from bench.engines.contract import Score

NORMS = {"cpu": 1 << 22}
"""Logits normalised at once: on a CPU few enough to stay in its caches (log_softmax is five times faster there than
logsumexp, whole or in parts)."""
ELSEWHERE = 1 << 27


def log_probs(
    logits: torch.Tensor, places: torch.Tensor, targets: torch.Tensor
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """For each (place, target): the target's float32 log-probability, and whether it is the most probable token.

    `logits` are (positions, vocabulary); `places` and `targets` are as long as each other.
    """
    chosen = torch.empty(places.shape, dtype=torch.float32, device=logits.device)
    best = torch.empty(places.shape, dtype=torch.bool, device=logits.device)
    step = max(1, NORMS.get(logits.device.type, ELSEWHERE) // logits.shape[-1])
    for start in range(0, len(logits), step):
        part = logits[start : start + step]
        here = ((places >= start) & (places < start + step)).nonzero()[:, 0]
        at, wanted = places[here] - start, targets[here]
        chosen[here] = torch.log_softmax(part.float(), -1)[at, wanted]
        highest = part[at, wanted] == part.amax(-1)[at]
        tied = highest.nonzero()[:, 0]  # perhaps with another: only these need the slow search, slower still in 16 bits
        highest[tied] = part[at[tied]].float().argmax(-1) == wanted[tied]
        best[here] = highest
    return chosen.cpu().numpy(), best.cpu().numpy()


def log_likelihood(logits: torch.Tensor, wanted: Sequence[int]) -> tuple[list[float], bool]:
    """Log-probability (nats, float32) of each wanted token under its row of logits, and whether all were likeliest."""
    targets = torch.tensor(wanted, device=logits.device)
    chosen, best = log_probs(logits, torch.arange(len(wanted), device=logits.device), targets)
    return chosen.tolist(), bool(best.all())


def scored(logits: torch.Tensor, wanted: Sequence[int]) -> Score:
    """The same of a whole continuation."""
    chosen, greedy = log_likelihood(logits, wanted)
    return Score(tuple(chosen), greedy)
