# SPDX-License-Identifier: Apache-2.0
"""Attention over a pack of token trees, item after item: what a token cannot see is not multiplied.

A pack's linear layers read all its tokens at once, but a token attends to its own item alone. One masked product over
the pack computes every pair of its tokens and throws most of them away: at 512 tokens of a model of 576 columns a sixth
of all products of the pass, in a kernel that is slower than theirs. So a pack is cut where its trees part, and each
part attends to itself, to the few ancestors before it and to the cache. transformers calls the function that is
registered here while a pack is read; classes that choose their attention otherwise keep the mask over the whole pack,
which is handed to them as well.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from bench.engines.token_tree import Pack

NAME = "bench_token_trees"
LEAST = 32
"""Tokens of a part: below that calls cost more than the products they save."""
SHARED = 0.5
"""Ancestors before a part that it may attend to, as a share of the tokens of the part before it."""


@dataclass(frozen=True)
class Part:
    """Tokens from `start` to `end` of a pack, and what they see."""

    start: int
    end: int
    columns: torch.Tensor | slice
    """Of the keys, the cache's first."""
    mask: torch.Tensor | None
    """Additive, (1, 1, tokens, columns); None where they are one sequence that begins here."""


_PARTS: ContextVar[Sequence[Part]] = ContextVar("parts of the pack that is read")


def cuts(pack: Pack, held: int) -> list[tuple[int, int, NDArray[np.int64]]]:
    """Where a pack behind `held` cached tokens is cut: start, end and the ancestors before it of each part."""
    least = LEAST + held // 4
    starts = [(0, np.empty(0, dtype=np.int64))]
    for start, ancestors in pack.paths:
        size = start - starts[-1][0]
        if size >= least and len(ancestors) <= SHARED * size:
            starts.append((start, ancestors))
    if len(starts) > 1 and len(pack.tokens) - starts[-1][0] < least:
        starts.pop()
    ends = [start for start, _ in starts[1:]] + [len(pack.tokens)]
    return [(start, end, before) for (start, before), end in zip(starts, ends, strict=True)]


def parts(pack: Pack, held: int, mask: torch.Tensor) -> list[Part]:
    """The parts of a pack whose whole mask, `held` cached tokens first, is `mask`."""
    chains = {start for start, ancestors in pack.paths if not len(ancestors)}
    runs = [start for start, _ in pack.paths]
    found = []
    for start, end, before in cuts(pack, held):
        inside = sum(start <= run < end for run in runs)
        columns: torch.Tensor | slice = slice(held + start, held + end)
        if held or len(before):
            listed = np.concatenate([np.arange(held), held + before, np.arange(held + start, held + end)])
            columns = torch.as_tensor(listed, device=mask.device)
        alone = inside == 1 and start in chains and not held
        found.append(Part(start, end, columns, None if alone else mask[:, :, start:end][..., columns].contiguous()))
    return found


@contextmanager
def in_parts(model: PreTrainedModel, *, wanted: bool) -> Iterator[bool]:
    """While this lasts the model attends to the parts that `reading` names, where that is wanted and its class can."""
    before = model.config._attn_implementation  # noqa: SLF001 - what transformers itself calls it
    able = wanted and before == "sdpa" and model._can_set_attn_implementation()  # noqa: SLF001 - it would only warn
    if able:
        AttentionInterface.register(NAME, _attend)
        AttentionMaskInterface.register(NAME, sdpa_mask)
        model.set_attn_implementation(NAME)
    try:
        yield able
    finally:
        if able:
            model.set_attn_implementation(before)


@contextmanager
def reading(found: Sequence[Part]) -> Iterator[None]:
    """The parts of the pack that the model reads meanwhile."""
    token = _PARTS.set(found)
    try:
        yield
    finally:
        _PARTS.reset(token)


def _attend(
    module: torch.nn.Module, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor,
    attention_mask: torch.Tensor | None, **options: Any,
) -> tuple[torch.Tensor, None]:  # fmt: skip
    """Fused attention as transformers calls it, part after part; outputs (batch, tokens, heads, columns)."""
    found = _PARTS.get(())
    if len(found) < 2:
        whole: tuple[torch.Tensor, None] = sdpa_attention_forward(module, query, key, value, attention_mask, **options)
        return whole
    outputs = [
        sdpa_attention_forward(
            module, query[:, :, part.start : part.end], key[:, :, part.columns], value[:, :, part.columns], part.mask,
            **options,
        )[0]
        for part in found
    ]  # fmt: skip
    return torch.cat(outputs, 1), None
