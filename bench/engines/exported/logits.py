# SPDX-License-Identifier: Apache-2.0
"""Logits on the host become log-probabilities."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

NORMED = 1 << 22
"""Logits that are normalised at once: few enough to stay in a CPU's caches."""
Floats = NDArray[np.float32]


def log_sum(logits: Floats) -> Floats:
    """Log of the sum of exponentials of each row, float32."""
    found = np.empty(len(logits), np.float32)
    step = max(1, NORMED // logits.shape[-1])
    for start in range(0, len(logits), step):
        part = logits[start : start + step]
        highest = part.max(-1, keepdims=True)
        found[start : start + step] = np.log(np.exp(part - highest).sum(-1)) + highest[:, 0]
    return found


def log_probs(logits: Floats) -> Floats:
    """Float32 log-softmax of rows of logits, as an array of its own."""
    return logits - log_sum(logits)[:, None]
