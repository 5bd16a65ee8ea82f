# SPDX-License-Identifier: Apache-2.0
"""Causal language models: greedy generation over a cache (or without one: GPT-1), scores that share work."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import Cache, PreTrainedModel

from bench.engines.contract import Row, Score, check_context
from bench.engines.transformers.apart import score_apart
from bench.engines.transformers.engine import (
    TorchEngine,
    batches,
    distributions,
    fits,
    log_likelihood,
    next_tokens,
)
from bench.engines.transformers.tree_scoring import TreeScorer, takes_trees


class CausalGeneration:
    """Greedy generation over a transformers KV cache. A class without a cache reads the whole text at each step."""

    def __init__(
        self, model: PreTrainedModel, prompts: torch.Tensor, suppress: Collection[int], context_length: int
    ) -> None:
        self.model, self.context_length, self.positions = model, context_length, 0
        self.suppress = torch.tensor(sorted(suppress), dtype=torch.long, device=prompts.device)
        self.read = prompts
        self.tokens: torch.Tensor | None = None
        self.cache: Cache | None = None
        self._forward(prompts)

    def _forward(self, tokens: torch.Tensor) -> None:
        self.positions = tokens.shape[1] + (self.positions if self.cache is not None else 0)
        check_context(self.positions, self.context_length)
        with torch.inference_mode(), fits("generate"):
            out = self.model(tokens, past_key_values=self.cache, use_cache=True, logits_to_keep=1)
        self.cache, self.logits = getattr(out, "past_key_values", None), out.logits[:, -1]

    def step(self) -> list[int]:
        """The next token of each sequence."""
        with torch.inference_mode():
            if self.tokens is not None:
                if self.cache is None:
                    self.read = torch.cat([self.read, self.tokens], dim=1)
                self._forward(self.read if self.cache is None else self.tokens)
            self.tokens = next_tokens(self.logits, self.suppress)
            tokens: list[int] = self.tokens[:, 0].tolist()
        return tokens

    @property
    def finite(self) -> bool:
        """Whether the logits of the tokens chosen last are numbers."""
        return self.tokens is None or bool(self.logits.gather(-1, self.tokens).isfinite().all())

    @property
    def cache_bytes(self) -> int:
        """Bytes of the keys and values of every layer, 0 without a cache."""
        return cached_bytes(self.cache)

    @property
    def cache_tokens(self) -> int:
        """Positions held, 0 without a cache."""
        return int(self.cache.get_seq_length()) if self.cache is not None else 0

    def close(self) -> None:
        """Drop the cache and the logits."""
        del self.cache, self.logits


def cached_bytes(cache: Cache | None) -> int:
    """Bytes of a transformers cache, counted from its tensors."""
    layers = cache.layers if cache is not None else ()
    tensors = (t for layer in layers for t in (layer.keys, layer.values) if t is not None)
    return sum(t.numel() * t.element_size() for t in tensors)


class CausalEngine(TorchEngine):
    """A model that predicts each next token."""

    def warm(self) -> None:
        """One token."""
        self.prefill([[self.prefix_token]]).close()

    def prefill(self, prompts: Sequence[Sequence[int]], *, suppress: Collection[int] = ()) -> CausalGeneration:
        """Read prompts of equal length."""
        return CausalGeneration(self.model, self.tensor(prompts), suppress, self.context_length)

    def log_probs(self, tokens: Sequence[int]) -> NDArray[np.float32]:
        """Float32 log-softmax of every position but the last."""
        check_context(len(tokens) - 1, self.context_length)
        with torch.inference_mode(), fits("score"):
            logits = self.model(self.tensor([tokens[:-1]]), use_cache=False).logits[0]
            result: NDArray[np.float32] = distributions(logits, self.vocabulary)
        return result

    def log_probs_together(self, rows: Sequence[Sequence[int]]) -> Iterator[NDArray[np.float32]]:
        """As `log_probs`, of equally long sequences in one batch; one sequence's float32 values at a time."""
        check_context(len(rows[0]) - 1, self.context_length)
        with torch.inference_mode(), fits("score"):
            logits = self.model(self.tensor([row[:-1] for row in rows]), use_cache=False).logits
        for of_row in logits:
            with torch.inference_mode(), fits("score"):
                result: NDArray[np.float32] = distributions(of_row, self.vocabulary)
            yield result

    def log_probs_stepwise(self, tokens: Sequence[int]) -> NDArray[np.float32]:
        """As `log_probs`, one token a pass behind the cache; a class that keeps none reads the whole text each time."""
        check_context(len(tokens) - 1, self.context_length)
        cache: Cache | None = None
        found: list[NDArray[np.float32]] = []
        with torch.inference_mode(), fits("score"):
            for end in range(1, len(tokens)):
                read = tokens[:end] if cache is None else tokens[end - 1 : end]
                out = self.model(self.tensor([read]), past_key_values=cache, use_cache=True, logits_to_keep=1)
                cache = getattr(out, "past_key_values", None)
                found.append(distributions(out.logits[0, -1:], self.vocabulary))
        return np.concatenate(found)

    def score(self, rows: Sequence[Row], done: Callable[[int], None] = lambda finished: None) -> list[Score]:
        """Score rows in packs with shared beginnings, or in plain batches if the model allows no packs.

        A scheme that looks at the whole pass reads each sequence by itself instead.
        Raises Unsupported for more tokens than the context.
        """
        lengths = [len(row.context) + len(row.continuation) for row in rows]
        check_context(max(lengths, default=1) - 1, self.context_length)
        scorer = TreeScorer(self.model, self.device)
        with torch.inference_mode(), fits("score"):
            if self.scheme.whole_pass:
                return score_apart(self.model, rows, scorer.positions, done)
            if not self.plain_scoring and takes_trees(self.model):
                return scorer.score(rows, done)
            scores: dict[int, Score] = {}
            for batch in batches(lengths, min(self.batch_tokens, scorer.positions)):
                if len(rows[batch[0]].continuation) > scorer.positions:  # its logits at once would fill the memory
                    scores[batch[0]] = scorer.alone(rows[batch[0]])
                else:
                    scores |= zip(batch, self._score_batch([rows[i] for i in batch]), strict=True)
                done(len(scores))
        return [scores[index] for index in range(len(rows))]

    def _score_batch(self, rows: Sequence[Row]) -> list[Score]:
        """One padded forward pass; head and log-softmax only where something is scored."""
        tokens, mask = self.padded([(row.context + row.continuation)[:-1] for row in rows])
        length = tokens.shape[1]
        keep = length - min(len(row.context) for row in rows) + 1
        logits = self.model(tokens, attention_mask=mask, use_cache=False, logits_to_keep=keep).logits
        scores = []
        for row, of_row in zip(rows, logits, strict=True):
            first = len(row.context) - 1 - (length - keep)
            chosen, greedy = log_likelihood(of_row[first : first + len(row.continuation)], row.continuation)
            scores.append(Score(tuple(chosen), greedy))
        return scores
