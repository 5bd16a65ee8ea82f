# SPDX-License-Identifier: Apache-2.0
"""Masked language models (BERT): forward passes and pseudo-log-likelihoods; there is nothing to generate.

A token's pseudo-log-likelihood is its log-probability where it alone is blanked and all others are seen, before and
after it (Salazar et al. 2020, arXiv:1910.14659). Whole distributions, for divergence, would cost one pass for each
position; there every eighth token is blanked at once, about the share of training, in eight passes.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from bench.engines.contract import LoadRequest, Row, Score, Unsupported
from bench.engines.transformers.engine import TorchEngine, batches, distributions, fits
from bench.engines.transformers.likelihood import log_likelihood
from bench.engines.transformers.loading import Loaded

STRIDE = 8
"""One token of so many is blanked at once where every position's distribution is wanted."""


class ForwardPass:
    """Stands for a generation where a masked model has none: it only holds the logits of the forward pass."""

    cache_bytes = 0
    cache_tokens = 0

    def __init__(self, logits: torch.Tensor) -> None:
        self.logits = logits

    @property
    def finite(self) -> bool:
        """Whether every logit is a number: there are no chosen ones."""
        return bool(self.logits.isfinite().all())

    def step(self) -> list[int]:
        """Not applicable."""
        raise Unsupported("masked models fill blanks, they do not generate")

    def close(self) -> None:
        """Drop the logits."""
        del self.logits


class MaskedEngine(TorchEngine):
    """A model that fills blanks in a text between its own start and end tokens."""

    def __init__(self, request: LoadRequest, loaded: Loaded) -> None:
        tokenizer = loaded.tokenizer
        self.start, self.end, self.blank = tokenizer.cls_token_id, tokenizer.sep_token_id, tokenizer.mask_token_id
        if None in {self.start, self.end, self.blank}:
            raise Unsupported("its tokenizer names no start, end and blank token, so blanks cannot be made")
        super().__init__(request, loaded)
        self.prefix_token = int(self.start)
        self.end_tokens = frozenset({int(self.end)})
        self.context_length -= 2  # its start and end tokens take two positions

    def warm(self) -> None:
        """One token."""
        self.prefill([[self.blank]])

    def encode(self, text: str, *, special: bool = False) -> list[int]:
        """Tokens of the text alone: the tokens around it are put there when a whole sequence is read."""
        return super().encode(text, special=False)

    def _framed(self, tokens: Sequence[int]) -> list[int]:
        inner = list(tokens[1:] if tokens and tokens[0] == self.start else tokens)
        return [self.start, *inner, self.end]

    def _logits(self, rows: Sequence[Sequence[int]], phase: str) -> torch.Tensor:
        tokens, mask = self.padded(rows)
        with torch.inference_mode(), fits(phase):
            logits: torch.Tensor = self.model(input_ids=tokens, attention_mask=mask).logits
        return logits

    def prefill(self, prompts: Sequence[Sequence[int]], *, suppress: Collection[int] = ()) -> ForwardPass:
        """One forward pass over whole texts, predictions at every position."""
        return ForwardPass(self._logits([self._framed(prompt) for prompt in prompts], "generate"))

    def log_probs(self, tokens: Sequence[int]) -> NDArray[np.float32]:
        """Distributions of tokens[1:], each where it and every eighth token from it are blanked.

        The eight texts are one batch, but for a scheme that looks at the whole pass: there each is a pass of its own.
        """
        framed = self._framed([self.start, *tokens])
        first = 2  # the start token and tokens[0] are seen
        length = len(tokens) - 1
        rows, places = [], []
        for offset in range(min(STRIDE, length)):
            blanked = range(first + offset, first + length, STRIDE)
            rows.append([self.blank if place in blanked else token for place, token in enumerate(framed)])
            places.append(list(blanked))
        together = 1 if self.scheme.whole_pass else STRIDE
        result = np.empty((length, self.vocabulary), np.float32)
        for start in range(0, len(rows), together):
            logits = self._logits(rows[start : start + together], "score")
            for of_row, blanked_places in zip(logits, places[start : start + together], strict=True):
                chosen = torch.tensor(blanked_places, device=of_row.device)
                result[np.asarray(blanked_places) - first] = distributions(of_row[chosen], self.vocabulary)
        return result

    def score(self, rows: Sequence[Row], done: Callable[[int], None] = lambda finished: None) -> list[Score]:
        """Pseudo-log-likelihood of each continuation token given its context and the rest of the continuation."""
        blanked: list[tuple[int, list[int], int, int]] = []
        for index, row in enumerate(rows):
            framed = self._framed(row.context + row.continuation)
            first = len(framed) - 1 - len(row.continuation)
            for place, wanted in enumerate(row.continuation, first):
                blanked.append((index, [*framed[:place], self.blank, *framed[place + 1 :]], place, wanted))
        found: dict[int, dict[int, tuple[float, bool]]] = {index: {} for index in range(len(rows))}
        for batch in batches([len(tokens) for _, tokens, _, _ in blanked], self.batch_tokens):
            with self.scoring():
                logits = self._logits([blanked[i][1] for i in batch], "score")
            for of_row, i in zip(logits, batch, strict=True):
                index, _, place, wanted = blanked[i]
                (log_prob,), greedy = log_likelihood(of_row[place : place + 1], [wanted])
                found[index][place] = (log_prob, greedy)
            done(sum(len(found[i]) == len(row.continuation) for i, row in enumerate(rows)))
        return [_joined(found[index]) for index in range(len(rows))]


def _joined(tokens: dict[int, tuple[float, bool]]) -> Score:
    ordered = [tokens[place] for place in sorted(tokens)]
    return Score(tuple(log_prob for log_prob, _ in ordered), all(greedy for _, greedy in ordered))
