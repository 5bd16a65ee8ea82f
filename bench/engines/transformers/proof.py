# SPDX-License-Identifier: Apache-2.0
"""Proof, by a few short passes, that a causal model predicts what it has not seen and goes on from what it carries.

Both are properties of a class that nothing else tells: some read both sides of a token unless a key of their config
says otherwise, and in some the token after a carried state has another position, or the rows of a batch are mixed up
(transformers 5.23.0: Bamba and MiniMax without position_ids, RWKV with more than one row). The measure is the model
itself: how far one token changed at the beginning moves what is predicted at the end.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Protocol

import torch

from bench.engines.transformers.forward import Forward

TOKENS = 8
AHEAD = 0.25
"""A token changed at the end moves the predictions before it by nothing but rounding in a model that reads from left to
right, and by about as much as one changed at the beginning moves those behind it in one that reads both ways. Tiny
random models of 36 classes, float32 and bfloat16: 0.0000 in all that read to the right, 0.89 to 0.90 in the others."""
BETTER = 0.5
"""Positions are told where that leaves less than so much of the error: 0.00 to 0.29 where they are needed (bfloat16 and
int8 included), at least 1 elsewhere."""
WRONG = 1.0
"""What is carried is wrong where its prediction is further from that of the whole text than a text's that begins
otherwise: 4.3 and more where it was, 0.7 at most (int8) where it was not ..."""
NOISE = 0.1
"""... and further than this share of the logits' own spread, for rounding is no error."""


def reads_ahead(whole: torch.Tensor) -> bool:
    """Whether tokens are read together with those after them, by the logits of `rows`."""
    plain, ahead, behind = whole[:, 1:-1].float()
    return bool((ahead - plain).abs().mean() > AHEAD * (behind - plain).abs().mean())


def rows(tokens: list[int]) -> list[list[int]]:
    """A text of `TOKENS` tokens, the same with another at its end, and with another at its beginning."""
    base, other = tokens[:TOKENS], tokens[TOKENS]
    return [base, [*base[:-1], other], [other, *base[1:]]]


def settle(forward: Forward, read: torch.Tensor, whole: torch.Tensor) -> int | None:
    """Find how the class goes on from what it carries, and how many sequences may do so together (None: any number).

    `whole` are the logits of `read`. What is found is left in `forward`: `places`, `hands` and `trusted`.
    """
    plain, behind = whole[0, -1].float(), whole[2, -1].float()
    allowed = max(WRONG * float((behind - plain).abs().mean()), NOISE * float(plain.std()))
    error = _error(forward, read[:1], whole)
    if error is None and forward.carries == "past_key_values":
        forward.hands = True
        error = _error(forward, read[:1], whole)
    if error and forward.can_place:
        forward.places = True
        placed = _error(forward, read[:1], whole)
        if placed is not None and placed < BETTER * error:
            error = placed
        else:
            forward.places = False
    if error is None or not error <= allowed:
        forward.hands = forward.places = forward.trusted = False
        return None
    together = _error(forward, read, whole)
    return None if together is not None and together <= allowed else 1


def _error(forward: Forward, read: torch.Tensor, whole: torch.Tensor) -> float | None:
    """How far the last token's logits are from the whole text's when what was before it is carried, None if nothing is.

    Mean absolute difference of the logits.
    """
    _, state = forward(read[:, :-1], carry=True, keep=1)
    if state is None:
        return None
    logits, _ = forward(read[:, -1:], state=state, past=read.shape[1] - 1, carry=True, keep=1)
    return float((logits[:, -1].float() - whole[: len(read), -1].float()).abs().mean())


def held_steps(model: torch.nn.Module) -> tuple[float, float] | None:
    """The least and the greatest time step that its state-space layers take where they read a text, None without both.

    Mamba2's layers hold their steps within `time_step_limit` in one pass over a text, and not in the step that goes on
    from a state (transformers 5.23.0, `mamba2_chunk_scan` and `mamba2_selective_state_update`). Most classes have no
    limits; Zamba2's and Nemotron-H's are the configuration's `time_step_min` and more, whatever the weights ask for.
    """
    limits = [limit for module in model.modules() if (limit := getattr(module, "time_step_limit", None))]
    found = {(float(low), float(high)) for low, high in limits} - {(0.0, math.inf)}
    return min(found, default=None)


class Beside(Protocol):
    """Sequences of different lengths in one batch (`side_by_side.Batch`)."""

    def read(self, prompts: Sequence[Sequence[int]]) -> tuple[torch.Tensor, Sequence[Any]]:
        """Logits behind texts, and what each carries."""

    def settle(self, kept: Sequence[int], new: Sequence[Any]) -> list[int]:
        """Take texts in."""

    def step(self, tokens: torch.Tensor) -> torch.Tensor:
        """Logits behind one more token of each."""


def stands_beside(forward: Forward, batch: Beside, text: list[int]) -> bool:
    """Whether a short text goes on beside a longer one as it does alone."""
    texts = [text, text[len(text) // 2 :]]
    batch.settle([], [one for tokens in texts for one in batch.read([tokens[:-1]])[1]])
    device = forward.model.device
    together = batch.step(torch.tensor([tokens[-1] for tokens in texts], device=device)).float()
    for tokens, found in zip(texts, together, strict=True):
        alone = forward(torch.tensor([tokens], device=device), keep=1)[0][0, -1].float()
        if not float((found - alone).abs().mean()) <= NOISE * float(alone.std()):
            return False
    return True
