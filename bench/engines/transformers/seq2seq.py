# SPDX-License-Identifier: Apache-2.0
"""Sequence-to-sequence models (T5, Flan-T5): the encoder reads what is given, the decoder predicts the rest."""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Sequence
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import EncoderDecoderCache, PreTrainedModel

from bench.engines.abilities import ROWS, Asked, Take, smaller_batches
from bench.engines.contract import Row, Score, check_context
from bench.engines.transformers.encoder_generation import EncodedSideBySide
from bench.engines.transformers.encoder_scoring import score_by_context
from bench.engines.transformers.engine import (
    TorchEngine,
    distributions,
    fits,
    next_tokens,
    positions,
    row_batches,
)
from bench.engines.transformers.forward import sizes
from bench.engines.transformers.likelihood import scored


class Seq2SeqGeneration:
    """Prefill is the encoder's pass and the decoder's first step; every later token is one decoder step."""

    def __init__(
        self, model: PreTrainedModel, start: int, prompts: torch.Tensor, suppress: Collection[int], positions: int
    ) -> None:
        self.model, self.positions, self.decoded = model, positions, 0
        self.suppress = torch.tensor(sorted(suppress), dtype=torch.long, device=prompts.device)
        self.started = False
        with torch.inference_mode(), fits("generate"):
            self.encoded = model.get_encoder()(prompts)
        self.tokens = torch.full_like(prompts[:, :1], start)
        self._forward(None)

    def _forward(self, past: EncoderDecoderCache | None) -> None:
        self.decoded += 1
        check_context(self.decoded, self.positions)
        with torch.inference_mode(), fits("generate"):
            out = self.model(
                encoder_outputs=self.encoded, decoder_input_ids=self.tokens, past_key_values=past, use_cache=True
            )
        self.cache: EncoderDecoderCache = out.past_key_values
        self.logits = out.logits[:, -1]

    def step(self) -> list[int]:
        """The next token of each sequence."""
        with torch.inference_mode():
            if self.started:
                self._forward(self.cache)
            self.started = True
            self.tokens = next_tokens(self.logits, self.suppress)
            tokens: list[int] = self.tokens[:, 0].tolist()
        return tokens

    @property
    def finite(self) -> bool:
        """Whether the logits of the tokens chosen last are numbers."""
        return bool(self.logits.gather(-1, self.tokens).isfinite().all())

    @property
    def cache_bytes(self) -> int:
        """Bytes of the decoder's own keys and values and of those of the encoder's output."""
        return sum(sizes(self.cache).values())

    @property
    def cache_tokens(self) -> int:
        """Positions held: the encoder's and the decoder's, which take the same bytes."""
        encoded = int(self.encoded.last_hidden_state.shape[1])
        return encoded + int(self.cache.self_attention_cache.get_seq_length())

    def close(self) -> None:
        """Drop the cache, the encoder's output and the logits."""
        del self.cache, self.encoded, self.logits


class Seq2SeqEngine(TorchEngine):
    """A model that answers one text with another."""

    def warm(self) -> None:
        """One token in, one out."""
        config = self.model.config
        self.start_token = int(getattr(config, "decoder_start_token_id", None) or config.pad_token_id or 0)
        self.positions = positions(self.model) or sys.maxsize
        """Positions that the encoder and the decoder have each; T5's biases have no end."""
        self.prefill([[self.prefix_token]]).close()

    def prefill(self, prompts: Sequence[Sequence[int]], *, suppress: Collection[int] = ()) -> Seq2SeqGeneration:
        """Encode prompts of equal length and take the decoder's first step."""
        check_context(len(prompts[0]), self.positions)
        return Seq2SeqGeneration(self.model, self.start_token, self.tensor(prompts), suppress, self.positions)

    @cached_property
    def generates_together(self) -> int:
        """Answers side by side: the encoder's and the decoder's attention take any mask."""
        alone = self.plain_scoring or self.small_batches or self.scheme.whole_pass
        return 1 if alone else ROWS[self.device]

    def generate(self, asked: Sequence[Asked], take: Take) -> None:
        """Greedy answers side by side."""
        check_context(max((len(one.tokens) for one in asked), default=0), self.positions)
        together = EncodedSideBySide(self.model, self.start_token, self.prefix_token, asked, take)
        most = together.run(self.generates_together, self.positions)
        if most < self.generates_together:
            self.generates_together = most
            self.caveats = (*self.caveats, smaller_batches(most))

    def _halves(self, tokens: Sequence[int]) -> tuple[Sequence[int], Sequence[int]]:
        """What the encoder reads, and what the decoder predicts; the first is longer by a token where one is."""
        first = len(tokens) - len(tokens) // 2
        check_context(first, self.positions)
        return tokens[:first], tokens[first:]

    def log_probs(self, tokens: Sequence[int]) -> NDArray[np.float32]:
        """Distributions of the second half of the tokens, given the first half to the encoder."""
        source, target = self._halves(tokens)
        with self.reading():
            logits = self.model(
                input_ids=self.tensor([source]), decoder_input_ids=self.tensor([[self.start_token, *target[:-1]]])
            ).logits[0]
            result: NDArray[np.float32] = distributions(logits, self.vocabulary)
        return result

    def log_probs_stepwise(self, tokens: Sequence[int]) -> NDArray[np.float32]:
        """As `log_probs`, the decoder reading one token a pass behind its cache; the encoder reads as ever."""
        source, target = self._halves(tokens)
        found: list[NDArray[np.float32]] = []
        with torch.inference_mode(), fits("score"):
            encoded, past = self.model.get_encoder()(self.tensor([source])), None
            for token in (self.start_token, *target[:-1]):
                read = self.tensor([[token]])
                out = self.model(encoder_outputs=encoded, decoder_input_ids=read, past_key_values=past, use_cache=True)
                past = out.past_key_values
                found.append(distributions(out.logits[0], self.vocabulary))
        return np.concatenate(found)

    def score(self, rows: Sequence[Row], done: Callable[[int], None] = lambda finished: None) -> list[Score]:
        """Log-probabilities of each continuation as the decoder's target, its context given once to the encoder.

        A scheme that looks at the whole pass reads each row by itself: one context, one target, no padding.
        """
        check_context(max((max(len(r.context), len(r.continuation)) for r in rows), default=0), self.positions)
        scores: dict[int, Score] = {}
        with self.scoring():
            if not self.plain_scoring and not self.scheme.whole_pass:
                return score_by_context(
                    self.model, rows, start=self.start_token, fill=self.prefix_token,
                    tokens=self.batch_tokens, done=done,
                )  # fmt: skip
            for batch in row_batches(rows, self.batch_tokens):
                scores |= zip(batch, self._score_batch([rows[i] for i in batch]), strict=True)
                done(len(scores))
        return [scores[index] for index in range(len(rows))]

    def _score_batch(self, rows: Sequence[Row]) -> list[Score]:
        tokens, mask = self.padded([row.context for row in rows])
        targets, _ = self.padded([(self.start_token, *row.continuation[:-1]) for row in rows])
        logits = self.model(input_ids=tokens, attention_mask=mask, decoder_input_ids=targets).logits
        pairs = zip(rows, logits, strict=True)
        return [scored(of_row[: len(row.continuation)], row.continuation) for row, of_row in pairs]
