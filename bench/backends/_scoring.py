# SPDX-License-Identifier: Apache-2.0
"""Scores of many rows by a causal transformers model: shared beginnings once, the head only where it is needed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from bench.backends import _tree
from bench.engine import Row, Score

TREES = frozenset(
    {
        "gemma3_text", "gpt2", "gpt_neox", "gptj", "llama", "mistral", "olmo2", "opt", "phi3", "qwen2", "qwen3",
        "smollm3",
    }
)  # fmt: skip
"""Architectures whose attention takes any mask and whose positions can be given, proven in tests/test_scoring.py.

Not BLOOM (ALiBi comes from where a token stands in the row), GPT-Neo and GPT-1 (their own masks go by the row too).
"""
PACK_TOKENS = {"cpu": 512, "cuda": 4096, "mps": 2048}
"""Tokens of one forward pass: fixed by the device, so that precisions share their packs."""
LOGITS = 1 << 25
"""Logits (positions x vocabulary) turned into float32 at once."""


def takes_trees(config: Any) -> bool:
    """Whether a model of this text configuration can score packed trees."""
    return config.model_type in TREES


def window(config: Any) -> int | None:
    """Positions below which a sliding window changes nothing, None without one."""
    kinds = getattr(config, "layer_types", None) or ["sliding_attention"]
    size = getattr(config, "sliding_window", None)
    return int(size) if size and "sliding_attention" in kinds else None


class TreeScorer:
    """Scores rows in packs of token trees."""

    def __init__(self, model: Any, device: str) -> None:
        self.model, self.pack_tokens = model, PACK_TOKENS[device]
        self.limit = window(model.config.get_text_config())

    def takes(self, row: Row) -> bool:
        """Whether a row may stand in a tree: not when a sliding window would cut it, for trees see everything."""
        return self.limit is None or len(row.context) + len(row.continuation) < self.limit

    def score(self, rows: Sequence[Row], done: Callable[[int], None]) -> list[Score]:
        """Log-probabilities (nats, float32) of every row; `done` hears how many are finished."""
        scores: dict[int, Score] = {}
        for group in _tree.plan(rows, self.pack_tokens):
            cache, last = self._prefix(group.prefix)
            for pack in group.packs:
                scores.update(self._pack(pack, rows, cache, last, len(group.prefix)))
                done(len(scores))
        return [scores[index] for index in range(len(rows))]

    def _tensor(self, values: Any) -> torch.Tensor:
        return torch.as_tensor(np.asarray(values), device=self.model.device)

    def _prefix(self, prefix: _tree.Tokens) -> tuple[Any, torch.Tensor | None]:
        """The cache of a group's prefix and the logits after its last token, (1, vocabulary)."""
        if not prefix:
            return None, None
        out = self.model(self._tensor([prefix]), use_cache=True, logits_to_keep=1)
        return out.past_key_values, out.logits[0]

    def _pack(
        self, pack: _tree.Pack, rows: Sequence[Row], cache: Any, last: torch.Tensor | None, held: int
    ) -> dict[int, Score]:
        """Scores of the rows of one pack by row index."""
        wanted = np.unique(np.concatenate([nodes for _, nodes in pack.rows]))
        logits = [last] if wanted[0] < 0 and last is not None else []
        if wanted[-1] >= 0:
            logits.append(self._forward(pack, wanted[wanted >= 0], held, cache))
        places = self._tensor(np.searchsorted(wanted, np.concatenate([nodes for _, nodes in pack.rows])))
        targets = self._tensor([token for index, _ in pack.rows for token in rows[index].continuation])
        chosen, best = _log_probs(torch.cat(logits), places, targets)
        scores, start = {}, 0
        for index, nodes in pack.rows:
            end = start + len(nodes)
            scores[index] = Score(tuple(chosen[start:end]), all(best[start:end]))
            start = end
        return scores

    def _forward(self, pack: _tree.Pack, wanted: NDArray[np.int64], held: int, cache: Any) -> torch.Tensor:
        """Logits of the wanted nodes, in their order, (nodes, vocabulary)."""
        options: dict[str, Any] = {"use_cache": cache is not None, "past_key_values": cache}
        if not pack.chain:  # a plain sequence keeps the model's own causal kernel
            options |= {"attention_mask": self._mask(pack, held), "position_ids": self._tensor([pack.depths])}
        out = self.model(self._tensor([pack.tokens]), logits_to_keep=self._tensor(wanted), **options)
        if cache is not None:
            cache.crop(-len(pack.tokens))
        logits: torch.Tensor = out.logits[0]
        return logits

    def _mask(self, pack: _tree.Pack, held: int) -> torch.Tensor:
        """Additive mask (1, 1, tokens, prefix + tokens) in the model's own type."""
        seen, dtype = self._tensor(pack.mask()), self.model.dtype
        mask = torch.zeros(seen.shape, dtype=dtype, device=seen.device).masked_fill_(~seen, torch.finfo(dtype).min)
        return torch.nn.functional.pad(mask, (held, 0))[None, None]


def _log_probs(logits: torch.Tensor, places: torch.Tensor, targets: torch.Tensor) -> tuple[list[float], list[bool]]:
    """For each (place, target): the target's float32 log-probability, and whether it is the most probable token."""
    chosen = logits[places, targets].float()
    step = max(1, LOGITS // logits.shape[-1])
    norms = torch.cat([part.float().logsumexp(-1) for part in logits.split(step)])
    best = logits.argmax(-1)[places] == targets
    return (chosen - norms[places]).tolist(), best.tolist()
