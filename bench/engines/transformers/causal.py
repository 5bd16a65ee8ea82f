# SPDX-License-Identifier: Apache-2.0
"""Causal language models: greedy generation over what a class carries from pass to pass, scores that share work."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Collection, Iterator, Sequence
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray

from bench.engines.abilities import ROWS, Asked, Take, smaller_batches
from bench.engines.contract import Row, Score, Unsupported, check_context
from bench.engines.transformers import proof
from bench.engines.transformers.apart import score_apart
from bench.engines.transformers.columns import Batch, carries_columns
from bench.engines.transformers.engine import (
    TorchEngine,
    batches,
    distributions,
    fits,
    next_tokens,
)
from bench.engines.transformers.forward import Forward, Inside, State, fixed_bytes, kept_in, sizes
from bench.engines.transformers.kv_cache import maker
from bench.engines.transformers.likelihood import scored
from bench.engines.transformers.side_by_side import SideBySide
from bench.engines.transformers.tree_scoring import TreeScorer, takes_trees
from bench.records.record import Caveat

PROBED = "One two three, the river runs under an old red house."
"""Ordinary tokens for the passes of the proof."""


class CausalGeneration:
    """Greedy generation over what the model carries. A class that carries nothing reads the whole text at each step."""

    def __init__(
        self,
        forward: Forward,
        prompts: torch.Tensor,
        suppress: Collection[int],
        context_length: int,
        kv: str | None = None,
    ) -> None:
        self.forward, self.context_length, self.positions, self.kv = forward, context_length, 0, kv
        self.suppress = torch.tensor(sorted(suppress), dtype=torch.long, device=prompts.device)
        self.whole = prompts
        self.tokens: torch.Tensor | None = None
        self.state: State = None
        self._forward(prompts)

    def _forward(self, tokens: torch.Tensor) -> None:
        past = self.positions if self.state is not None else 0
        self.positions = past + tokens.shape[1]
        check_context(self.positions, self.context_length)
        with torch.inference_mode(), fits("generate"):
            logits, self.state = self.forward(tokens, state=self.state, past=past, carry=True, keep=1)
        self.logits = logits[:, -1]

    def step(self) -> list[int]:
        """The next token of each sequence."""
        with torch.inference_mode():
            if self.tokens is not None:
                if self.state is None:
                    self.whole = torch.cat([self.whole, self.tokens], dim=1)
                self._forward(self.whole if self.state is None else self.tokens)
            self.tokens = next_tokens(self.logits, self.suppress)
            tokens: list[int] = self.tokens[:, 0].tolist()
        return tokens

    def read(self, texts: Sequence[Sequence[int]]) -> None:
        """Tokens of each sequence behind what is carried. Raises Unsupported."""
        if self.state is None or not self.forward.in_parts:
            raise Unsupported(f"{type(self.forward.model).__name__} reads no more behind what it carries")
        self._forward(torch.tensor([list(text) for text in texts], dtype=torch.long, device=self.whole.device))
        self.tokens = None

    @property
    def finite(self) -> bool:
        """Whether the logits of the tokens chosen last are numbers."""
        return self.tokens is None or bool(self.logits.gather(-1, self.tokens).isfinite().all())

    @property
    def cache_bytes(self) -> int:
        """Bytes of every tensor carried: keys, values and states of every layer; 0 where nothing is."""
        return sum(sizes(self.state).values())

    @property
    def fixed_bytes(self) -> int:
        """Of them, states of one size whatever the text's length: recurrent ones, and convolutions' last inputs."""
        return fixed_bytes(self.state)

    @property
    def kept_in(self) -> str | None:
        """The type of what is carried; None where nothing is."""
        return self.kv or kept_in(self.state)

    @property
    def cache_tokens(self) -> int:
        """Positions that what is carried stands for, 0 where nothing is."""
        return self.positions if self.state is not None else 0

    def close(self) -> None:
        """Drop what was carried, and the logits."""
        if isinstance(self.state, Inside):
            self.state.clear()
        del self.state, self.logits


class CausalEngine(TorchEngine):
    """A model that predicts each next token."""

    most_sequences: int | None = None
    """Sequences that may be generated together, None for any number."""

    def warm(self) -> None:
        """One token; what it leaves for the next tells whether a long text can be read in parts."""
        self._forward = Forward(self.model)
        generation = self.prefill([[self.prefix_token]])
        attends = self._forward.carries == "past_key_values" and generation.state is not None
        self._forward.in_parts = attends and not generation.fixed_bytes
        self._forward.new_cache = maker(self.model, self.kv)
        self._columns = self._forward.in_parts and self._forward.masks and carries_columns(generation.state)
        generation.close()

    @property
    def forward(self) -> Forward:
        """The model's forward pass; a twin of other weights has its own."""
        if self._forward.model is not self.model:
            self._forward = copy.copy(self._forward)
            self._forward.model = self.model
        return self._forward

    def refuted(self) -> str | None:
        """Why its figures would mean nothing, None if they would not; settles how it goes on from token to token."""
        text = [*dict.fromkeys(self.encode(PROBED)), *range(proof.TOKENS + 1)][: proof.TOKENS + 1]
        read, name = self.tensor(proof.rows(text)), type(self.model).__name__
        with torch.inference_mode(), fits("load"):
            whole, _ = self.forward(read)
            if proof.reads_ahead(whole):
                return f"{name} reads each token together with those after it, so it predicts none of them"
            own = copy.copy(self.forward)  # a quantized cache is not to be proven exact
            own.new_cache = None
            self.most_sequences = proof.settle(own, read, whole)
            own.new_cache, self._forward = self.forward.new_cache, own
        if self.forward.carries is None or not self.forward.trusted:
            self.caveats = (*self.caveats, _no_cache(name, wrong=self.forward.carries is not None))
        elif (limits := proof.held_steps(self.model)) is not None:
            self.caveats = (*self.caveats, _unequal_steps(name, *limits))
        return None

    def prefill(self, prompts: Sequence[Sequence[int]], *, suppress: Collection[int] = ()) -> CausalGeneration:
        """Read prompts of equal length."""
        if self.most_sequences and len(prompts) > self.most_sequences:
            name = type(self.model).__name__
            raise Unsupported(f"{name} mixes up sequences that generate together: {self.most_sequences} at a time")
        return CausalGeneration(self.forward, self.tensor(prompts), suppress, self.context_length, self.kv)

    @cached_property
    def generates_together(self) -> int:
        """By what the class carries, and by a proof: two texts of different lengths beside each other."""
        wanted = not self.plain_scoring and not self.small_batches and not self.scheme.whole_pass and self._columns
        if not wanted or not self.forward.trusted or self.most_sequences == 1:
            return 1
        text = [*dict.fromkeys(self.encode(PROBED)), *range(proof.TOKENS)][: proof.TOKENS]
        with torch.inference_mode(), fits("generate"):
            return ROWS[self.device] if proof.stands_beside(self.forward, Batch(self.forward), text) else 1

    def generate(self, asked: Sequence[Asked], take: Take) -> None:
        """Greedy answers side by side."""
        most = SideBySide(self.forward, asked, take, self.generates_together, self.context_length).run()
        if most < self.generates_together:
            self.generates_together = most
            self.caveats = (*self.caveats, smaller_batches(most))

    def log_probs(self, tokens: Sequence[int]) -> NDArray[np.float32]:
        """Float32 log-softmax of every position but the last."""
        return next(self.log_probs_together([tokens]))

    def log_probs_together(self, rows: Sequence[Sequence[int]]) -> Iterator[NDArray[np.float32]]:
        """As `log_probs`, of equally long sequences in one batch; one sequence's float32 values at a time."""
        check_context(len(rows[0]) - 1, self.context_length)
        with self.reading():
            logits, _ = self.forward(self.tensor([row[:-1] for row in rows]))
        for of_row in logits:
            with torch.inference_mode(), fits("score"):
                result: NDArray[np.float32] = distributions(of_row, self.vocabulary)
            yield result

    def log_probs_stepwise(self, tokens: Sequence[int]) -> NDArray[np.float32]:
        """As `log_probs`, one token a pass; a class that carries nothing reads the whole text each time."""
        check_context(len(tokens) - 1, self.context_length)
        state: State = None
        found: list[NDArray[np.float32]] = []
        with torch.inference_mode(), fits("score"):
            for end in range(1, len(tokens)):
                read = tokens[:end] if state is None else tokens[end - 1 : end]
                past = 0 if state is None else end - 1
                logits, state = self.forward(self.tensor([read]), state=state, past=past, carry=True, keep=1)
                found.append(distributions(logits[0, -1:], self.vocabulary))
        return np.concatenate(found)

    def log_probs_in_pieces(
        self, tokens: Sequence[int], piece: int, keep: Sequence[int], *, own_cache: bool
    ) -> NDArray[np.float32]:
        """Log-probabilities behind some positions, read piece by piece; its own cache is of the compute type."""
        check_context(len(tokens), self.context_length)
        forward = copy.copy(self.forward)
        if not forward.in_parts or not forward.trusted:
            raise Unsupported(f"{type(self.model).__name__} reads no text in pieces behind its cache")
        if own_cache:
            forward.new_cache = None
        state: State = None
        found: list[NDArray[np.float32]] = []
        with self.reading():
            for start in range(0, max(keep) + 1, piece):
                part = self.tensor([tokens[start : start + piece]])
                logits, state = forward(part, state=state, past=start, carry=True)
                wanted = [position - start for position in keep if start <= position < start + piece]
                if wanted:
                    found.append(distributions(logits[0, wanted], self.vocabulary))
        return np.concatenate(found)

    def score(self, rows: Sequence[Row], done: Callable[[int], None] = lambda finished: None) -> list[Score]:
        """Score rows in packs with shared beginnings, or in plain batches if the model allows no packs.

        A scheme that looks at the whole pass reads each sequence by itself instead.
        Raises Unsupported for more tokens than the context.
        """
        lengths = [len(row.context) + len(row.continuation) for row in rows]
        check_context(max(lengths, default=1) - 1, self.context_length)
        scorer = TreeScorer(self.forward, self.device)
        if self.small_batches:
            scorer.pack_tokens = min(scorer.pack_tokens, self.batch_tokens)
        with self.scoring():
            if self.scheme.whole_pass:
                return score_apart(self.forward, rows, scorer.positions, done)
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
        logits, _ = self.forward(tokens, mask=mask, keep=keep)
        scores = []
        for row, of_row in zip(rows, logits, strict=True):
            first = len(row.context) - 1 - (length - keep)
            scores.append(scored(of_row[first : first + len(row.continuation)], row.continuation))
        return scores


def _no_cache(name: str, *, wrong: bool) -> Caveat:
    """What stands beside the speeds of a class that reads the whole text for each token, and of one that must."""
    why = "carries nothing from token to token"
    if wrong:
        why = "goes wrong where it goes on from what it carries, so nothing is carried"
    return Caveat(
        kind="no_cache", text=f"transformers' {name} {why}: each token reads the whole text again",
        advice="its decode speed falls as the text grows; compare it at this length only",
    )  # fmt: skip


def _unequal_steps(name: str, least: float, most: float) -> Caveat:
    """What stands beside figures of a class whose steps from a state are not those of one pass over the text."""
    held = f"of {least:g} or more" if math.isinf(most) else f"from {least:g} to {most:g}"
    text = f"transformers' {name} takes time steps {held} where it reads a text, and any where it generates"
    advice = "what it generates is not quite what is scored: its noise floor token by token says by how much"
    return Caveat(kind="unequal_steps", text=text, advice=advice)
