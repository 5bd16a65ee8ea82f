# SPDX-License-Identifier: Apache-2.0
"""Attention of one new token in each of several rows to a beginning that all share, held once, and to its own row.

Keys and values of few-shot examples would otherwise stand in every row: so many bytes that eleven rows fit where 32
should, and all of them are read at every step. Scores of both parts go through one softmax in float32.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from transformers import AttentionInterface, PreTrainedModel

from bench.engines.transformers.tree_scoring import takes_trees, window

SHARING = frozenset({"llama", "mistral", "olmo2", "phi3", "qwen2", "qwen3", "smollm3"})
"""Architectures whose layers hand on what their model is called with, and attend as named in the configuration."""
NAME = "bench_shared_prefix"
Pairs = Sequence[tuple[torch.Tensor, torch.Tensor]]
"""Keys and values by layer, each (1, heads, positions, width)."""


def shares(model: PreTrainedModel) -> bool:
    """Whether its attention can be told of a shared beginning: no window cuts it."""
    config = model.config.get_text_config()
    return takes_trees(model) and config.model_type in SHARING and window(config) is None


@contextmanager
def sharing(model: PreTrainedModel) -> Iterator[None]:
    """Let the model attend so while it is called with `shared_prefix`."""
    before = model.config._attn_implementation  # noqa: SLF001 - the library's own name for it
    model.config._attn_implementation = NAME  # noqa: SLF001
    try:
        yield
    finally:
        model.config._attn_implementation = before  # noqa: SLF001


def attend(
    module: torch.nn.Module, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor,
    attention_mask: torch.Tensor, *, scaling: float, shared_prefix: Pairs, **_: object,
) -> tuple[torch.Tensor, None]:  # fmt: skip
    """What `sdpa_attention_forward` gives for rows that hold the shared beginning too, one new token each.

    `query` is (rows, heads, 1, width), `key` and `value` (rows, key heads, columns, width), the mask additive.
    """
    rows, heads, _, width = query.shape
    keys, values = shared_prefix[int(module.layer_idx)]
    groups, columns = key.shape[1], keys.shape[2]
    each = heads // groups
    own = query.reshape(rows, groups, each, width)
    together = own.transpose(0, 1).reshape(groups, rows * each, width)
    far = (together @ keys[0].transpose(1, 2)).reshape(groups, rows, each, columns).transpose(0, 1)
    near = own @ key.transpose(2, 3)
    scores = torch.cat([far * scaling, near * scaling + attention_mask], -1)
    seen = torch.softmax(scores, -1, dtype=torch.float32).to(query.dtype)
    of_far = seen[..., :columns].transpose(0, 1).reshape(groups, rows * each, columns) @ values[0]
    made = seen[..., columns:] @ value + of_far.reshape(groups, rows, each, width).transpose(0, 1)
    return made.reshape(rows, 1, heads, width), None


AttentionInterface.register(NAME, attend)
