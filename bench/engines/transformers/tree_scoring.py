# SPDX-License-Identifier: Apache-2.0
"""Score many rows with a causal model: compute shared beginnings once, and logits only where they are needed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from transformers import DynamicCache, PreTrainedConfig, PreTrainedModel

from bench.engines import token_tree
from bench.engines.contract import Row, Score
from bench.engines.transformers import tree_attention
from bench.engines.transformers.apart import score_apart
from bench.engines.transformers.forward import Forward, State
from bench.engines.transformers.four_bit import without_casts
from bench.engines.transformers.likelihood import log_probs

TREES = frozenset(
    {
        "gemma3_text", "gpt2", "gpt_neox", "gptj", "llama", "mistral", "olmo2", "opt", "phi3", "qwen2", "qwen3",
        "smollm3",
    }
)  # fmt: skip
"""Architectures whose attention takes any mask and whose positions can be given; tests/engines/test_tree_scoring.py
proves it. Not BLOOM, whose ALiBi depends on where a token stands in the row, nor GPT-Neo and GPT-1, whose own masks do.
"""
PACK_TOKENS = {"cpu": 512, "cuda": 4096, "mps": 2048}
"""Tokens of one forward pass: fixed by the device, so that precisions share their packs."""
PARTS = frozenset({"cpu"})
"""Where a pack's attention is cut into its items: many small products, which a GPU would wait for one by one."""
LOGITS = 1 << 27
"""Logits (positions x vocabulary) that one forward pass may leave: 512 MiB in float32."""


def takes_trees(model: PreTrainedModel) -> bool:
    """Whether a model can score packed trees: transformers' own class of one of those architectures."""
    return model.config.model_type in TREES and type(model).__module__.startswith("transformers.")


def window(config: PreTrainedConfig) -> int | None:
    """Length up to which a sliding window changes nothing, None if the model has no window."""
    kinds = getattr(config, "layer_types", None) or ["sliding_attention"]
    size = getattr(config, "sliding_window", None)
    return int(size) if size and "sliding_attention" in kinds else None


class TreeScorer:
    """Scores rows in packs of token trees."""

    def __init__(self, forward: Forward, device: str) -> None:
        self.forward, self.model, self.pack_tokens = forward, forward.model, PACK_TOKENS[device]
        self.in_parts = device in PARTS
        config = self.model.config.get_text_config()
        self.limit, self.positions = window(config), max(1, LOGITS // int(config.vocab_size))
        self.held: token_tree.Tokens = ()
        self.cache: DynamicCache | None = None
        """The cache that holds them, None while nothing is held."""

    def takes(self, row: Row) -> bool:
        """Whether a row may stand in a tree: not when a sliding window would cut it, for trees see everything."""
        return self.limit is None or len(row.context) + len(row.continuation) < self.limit

    def score(self, rows: Sequence[Row], done: Callable[[int], None]) -> list[Score]:
        """Log-probabilities (nats, float32) of every row; `done` hears how many are finished.

        Call it in inference mode.
        """
        with without_casts(self.model), tree_attention.in_parts(self.model, wanted=self.in_parts) as self.in_parts:
            return self._score(rows, done)

    def _score(self, rows: Sequence[Row], done: Callable[[int], None]) -> list[Score]:
        scores: dict[int, Score] = {}
        able = [index for index, row in enumerate(rows) if self.takes(row)]
        for group in token_tree.plan([rows[index] for index in able], self.pack_tokens):
            self._go_on(group.prefix)
            for pack in group.packs:
                pack.rows = [(able[index], nodes) for index, nodes in pack.rows]
                scores.update(self._pack(pack, rows, self.cache, len(self.held)))
                done(len(scores))
        self._go_on(())
        for index in sorted(set(range(len(rows))) - set(able)):
            scores[index] = self.alone(rows[index])
            done(len(scores))
        return [scores[index] for index in range(len(rows))]

    def alone(self, row: Row) -> Score:
        """One row by the model's own masks and positions, whatever its architecture and whatever it carries."""
        if not self.forward.in_parts:  # nothing that more than one token could go on from: each part reads all
            return score_apart(self.forward, [row], self.positions, lambda finished: None)[0]
        return self._pack(token_tree.alone(row), [row], None, 0)[0]

    def _tensor(self, values: ArrayLike) -> torch.Tensor:
        return torch.as_tensor(np.asarray(values), device=self.model.device)

    def _go_on(self, prefix: token_tree.Tokens) -> None:
        """Hold a group's prefix: what it shares with the one held stays, for no token sees those that follow it."""
        same = token_tree.shared(self.held, prefix)
        if self.cache is None or same < token_tree.PREFIX_TOKENS:
            self.cache, same = None, 0  # before the next one grows
        else:
            self.cache.crop(same - len(self.held))
        new, options = prefix[same:], dict[str, Any]()
        if new and self.cache is None:
            self.cache = DynamicCache()  # a window's own could not be cropped; within the window both hold the same
        elif new:
            options["attention_mask"] = self._mask(np.tri(len(new), dtype=np.bool_), same)
            options["position_ids"] = self._tensor([range(same, len(prefix))])
        if new:
            self.model(self._tensor([new]), use_cache=True, past_key_values=self.cache, logits_to_keep=1, **options)
        self.held = prefix

    def _pack(
        self, pack: token_tree.Pack, rows: Sequence[Row], cache: DynamicCache | None, held: int
    ) -> dict[int, Score]:
        """Scores of the rows of one pack by row index; `cache` holds `held` tokens before and after."""
        nodes = np.concatenate([of_row for _, of_row in pack.rows])
        targets = np.array([token for index, _ in pack.rows for token in rows[index].continuation], dtype=np.int64)
        chosen, best = np.empty(len(nodes), dtype=np.float32), np.empty(len(nodes), dtype=np.bool_)
        segments = self._segments(len(pack.tokens), np.unique(nodes))
        seen = None if pack.chain else pack.mask()
        state: State = cache
        if state is None and len(segments) > 1 and not pack.chain:
            state = DynamicCache()  # a plain sequence carries what its class carries
        for start, end, wanted in segments:
            options: dict[str, Any] = {}
            found: list[tree_attention.Part] = []
            if seen is not None:  # a plain sequence keeps the model's own causal kernel
                options["attention_mask"] = self._mask(seen[start:end, :end], held)
                options["position_ids"] = self._tensor([pack.depths[start:end]])
                if self.in_parts and len(segments) == 1:
                    found = tree_attention.parts(pack, held, options["attention_mask"])
            tokens = self._tensor([pack.tokens[start:end]])
            with tree_attention.reading(found):
                logits, state = self.forward(
                    tokens, state=state, carry=state is not None or len(segments) > 1,
                    keep=self._tensor(wanted - start), **options,
                )  # fmt: skip
            here = (nodes >= start) & (nodes < end)
            places = self._tensor(np.searchsorted(wanted, nodes[here]))
            chosen[here], best[here] = log_probs(logits[0], places, self._tensor(targets[here]))
        if cache is not None:
            cache.crop(-len(pack.tokens))
        return _by_row(pack, chosen, best)

    def _segments(self, tokens: int, wanted: NDArray[np.int64]) -> list[tuple[int, int, NDArray[np.int64]]]:
        """Parts of a pack that are computed one after the other: (start, end, wanted nodes in it).

        There is one part, unless the wanted logits would fill the memory.
        """
        parts = [wanted[i : i + self.positions] for i in range(0, len(wanted), self.positions)]
        ends = [int(part[-1]) + 1 for part in parts[:-1]] + [tokens]
        return [(start, end, part) for start, end, part in zip([0, *ends[:-1]], ends, parts, strict=True)]

    def _mask(self, seen: NDArray[np.bool_], held: int) -> torch.Tensor:
        """Additive mask (1, 1, tokens, held + tokens so far) in the model's own type."""
        visible, dtype = self._tensor(seen), self.model.dtype
        mask = torch.zeros(seen.shape, dtype=dtype, device=visible.device)
        mask.masked_fill_(~visible, torch.finfo(dtype).min)
        return torch.nn.functional.pad(mask, (held, 0))[None, None]


def _by_row(pack: token_tree.Pack, chosen: NDArray[np.float32], best: NDArray[np.bool_]) -> dict[int, Score]:
    """Values of all nodes, row after row, as Scores by row index."""
    scores, start = {}, 0
    for index, nodes in pack.rows:
        end = start + len(nodes)
        scores[index] = Score(tuple(chosen[start:end].tolist()), bool(best[start:end].all()))
        start = end
    return scores
