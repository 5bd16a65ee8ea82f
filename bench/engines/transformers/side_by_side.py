# SPDX-License-Identifier: Apache-2.0
"""Answers to prompts of any lengths, generated side by side; a place that one answer leaves is taken by the next.

Decoding is bound by memory: a pass that reads all weights for sixteen tokens costs little more than one for one. Every
prompt is read without padding, several in one pass where the class allows it, behind what they share (few-shot
examples), which is read once and held once where the class lets rows share it (`shared_prefix`); then it takes a row of
a batch (`columns`).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from itertools import islice

import torch
from transformers import DynamicCache

from bench.engines import token_tree
from bench.engines.abilities import CACHE_BYTES, LEFT_SHARE, Asked, Take
from bench.engines.contract import DoesNotFit, check_context
from bench.engines.transformers.columns import COLUMNS, Batch, Read, chosen_of, pairs, send
from bench.engines.transformers.engine import fits, left_bytes
from bench.engines.transformers.forward import Forward
from bench.engines.transformers.onednn import through_onednn
from bench.engines.transformers.shared_prefix import shares
from bench.engines.transformers.tree_scoring import PACK_TOKENS


class SideBySide:
    """Generates the answers of one call."""

    def __init__(self, forward: Forward, asked: Sequence[Asked], take: Take, most: int, context_length: int) -> None:
        self.forward, self.asked, self.take = forward, asked, take
        self.most, self.context_length = most, context_length
        self.pack_tokens = PACK_TOKENS[forward.model.device.type]
        self.texts = [list(one.tokens) for one in asked]
        """Prompts, and what was generated behind them."""
        self.prefixes = token_tree.prefixes([one.tokens for one in asked])
        self.waiting = deque(sorted(range(len(asked)), key=lambda i: (self.prefixes[i], -len(asked[i].tokens), i)))
        self.ready: deque[tuple[int, Read]] = deque()
        """Prompts that have been read and whose answers have begun: the next to stand beside others."""
        self.behind: tuple[token_tree.Tokens, DynamicCache | None] = ((), None)
        self.position_elements, self.position_bytes = 0, 0
        """Numbers of one sequence's keys and values at one position, and their bytes: known once a prompt is read."""
        self.shares = shares(forward.model)
        self.widest, self.short = 0, False
        """Most answers that stood side by side, and whether memory that was short kept others from joining them."""
        self.left = int(LEFT_SHARE * left_bytes(forward.model.device.type))

    def run(self) -> int:
        """Until every answer has ended; how many may stand side by side, fewer where memory was short."""
        while self.waiting or self.ready:
            running: list[int] = []
            try:
                with torch.inference_mode(), fits("generate"), through_onednn(self.forward.model):
                    self._run(running)
            except DoesNotFit:
                if self.most == 1:
                    raise
                self.most //= 2
                self.waiting.extendleft([*(index for index, _ in reversed(self.ready)), *reversed(running)])
                self.ready.clear()
                self.behind = ((), None)
        return min(self.most, self.widest) if self.short else self.most

    def _run(self, running: list[int]) -> None:
        batch, slots = Batch(self.forward), dict[int, int]()
        tokens = send([], batch.device)
        while True:
            new: dict[int, Read] = {}
            while len(running) < self.most and self._is_ready(batch) and self._has_room(running):
                begins = self.prefixes[self.ready[0][0]] if batch.shares else ()
                if begins != batch.begins:  # what another beginning shares waits until these have ended
                    if running:
                        break
                    batch, slots = Batch(self.forward, begins, self.behind[1]), {}
                index, read = self.ready.popleft()
                running.append(index)
                new[index] = read
            self.widest = max(self.widest, len(running))
            if not running:
                return
            old = [index for index in running if index not in new]
            if new or len(old) < len(slots):
                places = batch.settle([slots[index] for index in old], list(new.values()))
                running[:] = [*old, *new]
                slots = dict(zip(running, places, strict=True))
                tokens = self._last_tokens(slots, len(batch.lengths), batch.device)
            new.clear()
            check_context(max(len(self.texts[index]) for index in running), self.context_length)
            tokens, told = chosen_of(batch.step(tokens))
            ended = self._ended(running, [told[slots[index]] for index in running])
            running[:] = [index for index in running if index not in ended]

    def _last_tokens(self, slots: dict[int, int], count: int, device: torch.device) -> torch.Tensor:
        read = [0] * count
        for index, slot in slots.items():
            read[slot] = self.texts[index][-1]
        return send(read, device)

    def _has_room(self, running: Sequence[int]) -> bool:
        """Whether the next answer fits beside those running, each as long as it may become; one always does.

        As many as fit when counted in float32 whatever the type, so that precisions share their batches; fewer only
        where the memory that is left would not hold them in their own.
        """
        together = [*running, self.ready[0][0]]
        shared = len(self.prefixes[together[-1]]) if self.shares else 0
        longest = max(len(self.asked[index].tokens) + self.asked[index].limit for index in together)
        positions = shared + len(together) * (min(longest, self.context_length) - shared + COLUMNS)
        if len(together) == 1:
            return True
        meant = 4 * positions * self.position_elements <= CACHE_BYTES
        short = positions * self.position_bytes > self.left
        self.short |= meant and short
        return meant and not short

    def _is_ready(self, batch: Batch) -> bool:
        """Whether an answer has begun and waits for a place, once the next prompts have been read if none had."""
        while self.waiting and not self.ready:
            reading = self._next(batch)
            for index in reading:
                check_context(len(self.texts[index]), self.context_length)
            prefix = self.prefixes[reading[0]]
            if prefix and self.behind[0] != prefix:
                self.behind = (prefix, batch.read([prefix])[1][0].cache)
            behind = self.behind[1] if prefix else None
            texts = [self.texts[index] for index in reading]
            logits, read = batch.read(texts, behind)
            tokens = chosen_of(logits)[1]
            if min(tokens) < 0 and len(reading) > 1:  # a NaN comes through the mask between prompts of one pass
                apart = [batch.read([text], behind) for text in texts]
                read = [one for _, (one,) in apart]
                tokens = [token for found, _ in apart for token in chosen_of(found)[1]]
            for _ in reading:
                self.waiting.popleft()
            self._measure(read[0].cache)
            ended = self._ended(reading, tokens)
            self.ready += [pair for pair in zip(reading, read, strict=True) if pair[0] not in ended]
        return bool(self.ready)

    def _next(self, batch: Batch) -> list[int]:
        """Prompts read in the next pass: those behind one prefix, at most as many tokens as a pass that scores."""
        first = self.waiting[0]
        reading, prefix = [first], self.prefixes[first]
        tokens = len(self.texts[first]) - len(prefix)
        for index in islice(self.waiting, 1, None):
            tokens += len(self.texts[index]) - len(prefix)
            if not batch.ready_mask or tokens > self.pack_tokens or self.prefixes[index] != prefix:
                break
            reading.append(index)
        return reading

    def _measure(self, cache: DynamicCache) -> None:
        held = [tensor[0, :, 0] for pair in pairs(cache) for tensor in pair]
        self.position_elements = sum(one.numel() for one in held)
        self.position_bytes = sum(one.numel() * one.element_size() for one in held)

    def _ended(self, indices: Sequence[int], tokens: Sequence[int]) -> set[int]:
        """Hand over each one's next token, -1 for none; those that go on no further."""
        ended = set()
        for index, token in zip(indices, tokens, strict=True):
            if self.take(index, token if token >= 0 else None):
                self.texts[index].append(token)
            else:
                ended.add(index)
        return ended
