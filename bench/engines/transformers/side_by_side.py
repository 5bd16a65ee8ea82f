# SPDX-License-Identifier: Apache-2.0
"""Answers to prompts of any lengths, generated side by side; a place that one answer leaves is taken by the next.

Decoding is bound by memory: a pass that reads all weights for eight tokens costs little more than one for one. Every
prompt is read by itself, without padding, behind what it shares with others (few-shot examples), which is read once.
Its keys and values then stand in one row of a batch, all rows ending in the same column, so that a class's own masks,
biases by distance and sliding windows hold; columns before a row's beginning are masked.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

import torch
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

from bench.engines.abilities import Asked, Take
from bench.engines.contract import DoesNotFit, Row, check_context
from bench.engines.transformers import token_tree
from bench.engines.transformers.engine import fits
from bench.engines.transformers.forward import Forward, State

ROWS = {"cpu": 16, "cuda": 64, "mps": 16}
"""Most answers side by side: fixed by the device, so that precisions share their batches."""
CACHE_BYTES = 1 << 29
"""Most bytes of keys and values side by side, counted in float32 whatever the precision: what scoring's logits take."""
COLUMNS = 64
"""Columns of room that a row gets beyond what it holds, and columns that may stand empty before the longest row."""


def carries_columns(state: State) -> bool:
    """Whether all that is carried are keys and values by position: no states, nothing of a repository's own."""
    return type(state) is DynamicCache and all(
        type(layer) in (DynamicLayer, DynamicSlidingWindowLayer) for layer in state.layers
    )


class RoomyLayer(DynamicLayer):  # type: ignore[misc] # the library is not typed for us
    """Keys and values with room behind them: a token is written there, where the library copies all before it."""

    rooms: tuple[torch.Tensor, torch.Tensor] | None = None
    keys: torch.Tensor
    values: torch.Tensor

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: object, **kwargs: object
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Write new positions behind those held; views of all that is held then."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        start = self.get_seq_length()
        end = start + key_states.shape[-2]
        if self.rooms is None or self.rooms[0].shape[-2] < end:
            held = (self.keys, self.values) if start else (None, None)
            self.rooms = (_room(key_states, held[0], end), _room(value_states, held[1], end))
        for room, new in zip(self.rooms, (key_states, value_states), strict=True):
            room[:, :, start:end] = new
        self.keys, self.values = (room[:, :, :end] for room in self.rooms)
        return self.keys, self.values

    def replace(self, slot: int, keys: torch.Tensor, values: torch.Tensor) -> None:
        """Put another sequence, no longer than the columns held, into a row.

        What stood there goes: a NaN would come through the mask, which multiplies by zero.
        """
        for held, new in ((self.keys, keys), (self.values, values)):
            held[slot].zero_()
            held[slot, :, held.shape[-2] - new.shape[-2] :] = new[0]


def _room(like: torch.Tensor, held: torch.Tensor | None, end: int) -> torch.Tensor:
    room = like.new_zeros((*like.shape[:2], end + COLUMNS, like.shape[-1]))
    if held is not None:
        room[:, :, : held.shape[-2]] = held
    return room


def _empty() -> DynamicCache:
    cache = DynamicCache()  # a window's own layers would drop columns; the class's mask keeps the window
    cache.layer_class_to_replicate = RoomyLayer
    return cache


def _holding(pairs: Sequence[tuple[torch.Tensor, torch.Tensor]]) -> DynamicCache:
    """A cache of these keys and values by layer; what is added later leaves them as they are."""
    cache = _empty()
    for keys, values in pairs:
        layer = RoomyLayer()
        layer.lazy_initialization(keys, values)
        layer.keys, layer.values = keys, values
        cache.layers.append(layer)
    return cache


def _pairs(cache: DynamicCache) -> list[tuple[torch.Tensor, torch.Tensor]]:
    return [(layer.keys, layer.values) for layer in cache.layers]


class Batch:
    """Sequences side by side, one a slot, and the pass that reads one more token of each."""

    def __init__(self, forward: Forward) -> None:
        self.forward = forward
        self.lengths: list[int] = []
        """Positions each slot holds."""
        self.cache = _empty()

    def read(self, tokens: Sequence[int], behind: DynamicCache | None = None) -> tuple[torch.Tensor, DynamicCache]:
        """Logits (1, vocabulary) behind a prompt, and its own cache; `behind` holds what it begins with."""
        past = behind.get_seq_length() if behind is not None else 0
        state = _holding(_pairs(behind)) if behind is not None else _empty()
        logits, state = self.forward(self._tensor([tokens[past:]]), state=state, past=past, carry=True, keep=1)
        return logits[:, -1], state

    def _tensor(self, values: Sequence[Sequence[int]]) -> torch.Tensor:
        return torch.tensor([list(row) for row in values], dtype=torch.long, device=self.forward.model.device)

    @property
    def columns(self) -> int:
        """Columns that every row takes."""
        return self.cache.get_seq_length() if self.lengths else 0

    def settle(self, kept: Sequence[int], new: Sequence[DynamicCache]) -> list[int]:
        """Let go of all slots but those `kept`, take new sequences in; the slot of each, kept ones first.

        A newcomer takes a free slot where it fits. Slots without one stay, empty, while they are few.
        """
        lengths = [cache.get_seq_length() for cache in new]
        longest = max([*(self.lengths[slot] for slot in kept), *lengths])
        free = [slot for slot in range(len(self.lengths)) if slot not in set(kept)]
        fits_in = longest <= self.columns <= longest + COLUMNS and len(free) >= len(new)
        if fits_in and len(kept) + len(new) > 0.75 * len(self.lengths):
            taken = free[: len(new)]
            for slot, cache, length in zip(taken, new, lengths, strict=True):
                for layer, (keys, values) in zip(self.cache.layers, _pairs(cache), strict=True):
                    layer.replace(slot, keys, values)
                self.lengths[slot] = length
            for slot in free[len(new) :]:
                self.lengths[slot] = 1  # its token is read beside the others' and thrown away
            return [*kept, *taken]
        self._rebuild(kept, new, longest)
        self.lengths = [*(self.lengths[slot] for slot in kept), *lengths]
        return list(range(len(self.lengths)))

    def _rebuild(self, kept: Sequence[int], new: Sequence[DynamicCache], longest: int) -> None:
        """Layer by layer, so that no more than one layer stands twice in memory."""
        layers = len(new[0].layers) if new else len(self.cache.layers)
        cache = _empty()
        for at in range(layers):
            rows = [(self.cache.layers[at].keys[slot], self.cache.layers[at].values[slot]) for slot in kept]
            rows += [(one.layers[at].keys[0], one.layers[at].values[0]) for one in new]
            layer = RoomyLayer()
            layer.lazy_initialization(*rows[0])
            layer.rooms = (_aligned([row[0] for row in rows], longest), _aligned([row[1] for row in rows], longest))
            layer.keys, layer.values = (room[:, :, :longest] for room in layer.rooms)
            cache.layers.append(layer)
            if kept:
                self.cache.layers[at].rooms = self.cache.layers[at].keys = self.cache.layers[at].values = None
        self.cache = cache

    def step(self, tokens: Sequence[int]) -> torch.Tensor:
        """Read one more token of every slot; logits (slots, vocabulary)."""
        self.lengths = [length + 1 for length in self.lengths]
        width, device = self.columns + 1, self.forward.model.device
        held = torch.tensor(self.lengths, device=device)[:, None]
        mask = (torch.arange(width, device=device)[None] >= width - held).long()
        options = {"position_ids": held - 1} if self.forward.can_place else {}
        read = self._tensor([[token] for token in tokens])
        logits, _ = self.forward(read, state=self.cache, carry=True, keep=1, mask=mask, **options)
        return logits[:, -1]


def _aligned(rows: Sequence[torch.Tensor], longest: int) -> torch.Tensor:
    """Rows (heads, columns, width) that end in one column, with room behind it."""
    heads, _, width = rows[0].shape
    room = rows[0].new_zeros((len(rows), heads, longest + COLUMNS, width))
    for place, row in zip(room, rows, strict=True):
        columns = min(longest, row.shape[1])
        place[:, longest - columns : longest] = row[:, row.shape[1] - columns :]
    return room


class SideBySide:
    """Generates the answers of one call."""

    def __init__(self, forward: Forward, asked: Sequence[Asked], take: Take, most: int, context_length: int) -> None:
        self.forward, self.asked, self.take = forward, asked, take
        self.most, self.context_length = most, context_length
        self.texts = [list(one.tokens) for one in asked]
        """Prompts, and what was generated behind them."""
        self.prefixes = _prefixes(asked)
        self.waiting = deque(sorted(range(len(asked)), key=lambda i: (self.prefixes[i], -len(asked[i].tokens), i)))
        self.behind: tuple[token_tree.Tokens, DynamicCache | None] = ((), None)
        self.position_bytes = 0
        """Of one sequence's keys and values, in float32: known once a prompt has been read."""

    def run(self) -> int:
        """Until every answer has ended; how many stood side by side at most, fewer where memory ran out."""
        while self.waiting:
            running: list[int] = []
            try:
                with torch.inference_mode(), fits("generate"):
                    self._run(running)
            except DoesNotFit:
                if self.most == 1:
                    raise
                self.most //= 2
                self.waiting.extendleft(reversed(running))
                self.behind = ((), None)
        return self.most

    def _run(self, running: list[int]) -> None:
        batch, slots = Batch(self.forward), dict[int, int]()
        while True:
            new: dict[int, DynamicCache] = {}
            while self.waiting and len(running) < self.most and self._has_room(running):
                index = self.waiting.popleft()
                running.append(index)
                logits, cache = self._read(batch, index)
                if self._ended([index], logits):
                    running.remove(index)
                else:
                    new[index] = cache
            if not running:
                return
            old = [index for index in running if index not in new]
            if new or len(old) < len(slots):
                places = batch.settle([slots[index] for index in old], list(new.values()))
                running[:] = [*old, *new]
                slots = dict(zip(running, places, strict=True))
            del new
            check_context(max(len(self.texts[index]) for index in running), self.context_length)
            read = [0] * len(batch.lengths)
            for index, slot in slots.items():
                read[slot] = self.texts[index][-1]
            logits = batch.step(read)
            ended = self._ended(running, logits[[slots[index] for index in running]])
            running[:] = [index for index in running if index not in ended]

    def _has_room(self, running: Sequence[int]) -> bool:
        """Whether the next answer fits beside those running, each as long as it may become; one always does."""
        together = [*running, self.waiting[0]]
        longest = max(len(self.asked[index].tokens) + self.asked[index].limit for index in together)
        return len(together) == 1 or len(together) * longest * self.position_bytes <= CACHE_BYTES

    def _read(self, batch: Batch, index: int) -> tuple[torch.Tensor, DynamicCache]:
        text, prefix = self.texts[index], self.prefixes[index]
        check_context(len(text), self.context_length)
        if prefix and self.behind[0] != prefix:
            self.behind = (prefix, batch.read(prefix)[1])
        logits, cache = batch.read(text, self.behind[1] if prefix else None)
        self.position_bytes = 4 * sum(held[0, :, 0].numel() for pair in _pairs(cache) for held in pair)
        return logits, cache

    def _ended(self, indices: Sequence[int], logits: torch.Tensor) -> set[int]:
        """Choose each one's next token and hand it over; those that go on no further. One wait for the device."""
        tokens = logits.argmax(-1)
        finite = logits.gather(-1, tokens[:, None])[:, 0].isfinite()
        ended = set()
        for index, token in zip(indices, tokens.where(finite, -1).tolist(), strict=True):
            if self.take(index, token if token >= 0 else None):
                self.texts[index].append(token)
            else:
                ended.add(index)
        return ended


def _prefixes(asked: Sequence[Asked]) -> list[token_tree.Tokens]:
    """What each prompt begins with that is worth reading apart, as for rows that are scored."""
    found: list[token_tree.Tokens] = [()] * len(asked)
    rows = [Row(tuple(one.tokens), (0,)) for one in asked]
    for group in token_tree.plan(rows, 1):
        for pack in group.packs:
            for index, _ in pack.rows:
                found[index] = group.prefix
    return found
