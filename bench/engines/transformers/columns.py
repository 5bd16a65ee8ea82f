# SPDX-License-Identifier: Apache-2.0
"""Keys and values of sequences of any lengths in the columns of one batch, and the pass that goes on with all of them.

All rows end in the same column, so that a class's own masks, biases by distance and sliding windows hold; columns
before a row's beginning are masked. On a GPU a pass sends nothing to the device: lengths and tokens stay there, and
what must be sent where rows change goes from pinned memory. The room behind the columns is a static cache in blocks:
a token is written in place, and every `COLUMNS` tokens the room is made larger.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, TypeAlias

import torch
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

from bench.engines.transformers.forward import Forward, State
from bench.engines.transformers.shared_prefix import shares, sharing
from bench.engines.transformers.tree_scoring import takes_trees, window

Parts: TypeAlias = list[torch.Tensor]
"""What follows one another in a row, each (heads, positions, width)."""
COLUMNS = 32
"""Columns of room that a row gets beyond what it holds, and columns that may stand empty before the longest row."""
CROWDED = 0.75
"""Slots stay as they are, empty ones among them, while more than this share of them is taken."""


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
        """Write new positions behind those held; views of all that is held then. What is read first gets no room."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        start = self.get_seq_length()
        if not start:
            self.keys, self.values = key_states.contiguous(), value_states.contiguous()
            return self.keys, self.values
        end = start + key_states.shape[-2]
        if self.rooms is None or self.rooms[0].shape[-2] < end:
            size = end + COLUMNS * (self.rooms is not None)
            self.rooms = (_room(self.keys, size), _room(self.values, size))
        for room, new in zip(self.rooms, (key_states, value_states), strict=True):
            room[:, :, start:end] = new
        self.keys, self.values = (room[:, :, :end] for room in self.rooms)
        return self.keys, self.values

    def replace(self, slot: int, keys: Parts, values: Parts) -> None:
        """Put another sequence, no longer than the columns held, into a row.

        What stood there goes: a NaN would come through the mask, which multiplies by zero.
        """
        for held, parts in ((self.keys, keys), (self.values, values)):
            held[slot].zero_()
            _fill(held[slot], parts, held.shape[-2])

    def drop(self) -> None:
        """Let go of what it holds."""
        self.rooms = self.keys = self.values = None


def _room(held: torch.Tensor, size: int) -> torch.Tensor:
    room = held.new_zeros((*held.shape[:2], size, held.shape[-1]))
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


def pairs(cache: DynamicCache) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Keys and values of every layer, each (sequences, heads, positions, width)."""
    return [(layer.keys, layer.values) for layer in cache.layers]


def send(values: Sequence[int] | Sequence[Sequence[int]], device: torch.device) -> torch.Tensor:
    """Whole numbers on the device. From pinned memory to a GPU, so that nobody waits until they are there."""
    made = torch.tensor(values, dtype=torch.long)
    return made.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else made.to(device)


def fetch(tensor: torch.Tensor) -> list[int]:
    """Its values on the host, once the device has them: the one wait of a pass."""
    values: list[int] = tensor.tolist()
    return values


def chosen_of(logits: torch.Tensor) -> tuple[torch.Tensor, list[int]]:
    """The most probable token of each row, on the device and here; here -1 where its logit is no number."""
    tokens = logits.argmax(-1)
    finite = logits.gather(-1, tokens[:, None])[:, 0].isfinite()
    return tokens, fetch(tokens.where(finite, -1))


@dataclass(frozen=True)
class Read:
    """A sequence that has been read: its places in a cache that others may share."""

    cache: DynamicCache
    spans: tuple[tuple[int, int], ...]
    """First and last but one position of each part."""

    @property
    def length(self) -> int:
        """Positions."""
        return sum(end - start for start, end in self.spans)

    def parts(self, layer: int) -> tuple[Parts, Parts]:
        """Keys and values of a layer."""
        held = self.cache.layers[layer]
        keys, values = ([of[0, :, start:end] for start, end in self.spans] for of in (held.keys, held.values))
        return keys, values


class Batch:
    """Sequences side by side, one a slot, and the pass that reads one more token of each."""

    def __init__(self, forward: Forward, begins: Sequence[int] = (), prefix: DynamicCache | None = None) -> None:
        """`begins` are tokens that all begin with, `prefix` holds them; none where its class does not share."""
        self.forward, self.device = forward, forward.model.device
        self.begins, self.prefix = tuple(begins), pairs(prefix) if prefix is not None and begins else None
        self.lengths: list[int] = []
        """Positions each slot holds, the shared beginning left out."""
        self.held = send([], self.device)
        """The same on the device, a column."""
        self.cache = _empty()
        model = forward.model
        self.ready_mask = takes_trees(model) and window(model.config.get_text_config()) is None
        """Whether its class takes a finished mask. Of another it is asked whether it masks anything: a wait more."""
        self.shares = shares(model)
        """Whether rows may share a beginning."""

    def read(
        self, prompts: Sequence[Sequence[int]], behind: DynamicCache | None = None
    ) -> tuple[torch.Tensor, list[Read]]:
        """Logits (prompts, vocabulary) behind each prompt; `behind` holds what all begin with.

        Several are read in one pass, one behind the other, where the class takes a finished mask (`ready_mask`). What
        is found has places in `behind` unless rows share it.
        """
        past = behind.get_seq_length() if behind is not None else 0
        state = _holding(pairs(behind)) if behind is not None else _empty()
        own = [list(prompt[past:]) for prompt in prompts]
        if len(own) == 1:
            logits, state = self.forward(send(own, self.device), state=state, past=past, carry=True, keep=1)
            return logits[:, -1], [Read(state, ((0, self._cut(state, past) + len(own[0])),))]
        ends = list(accumulate(map(len, own)))
        spans = list(zip([0, *ends[:-1]], ends, strict=True))
        read = send([[token for tokens in own for token in tokens]], self.device)
        owner = send([index for index, tokens in enumerate(own) for _ in tokens], self.device)
        places = send([[past + at for tokens in own for at in range(len(tokens))]], self.device)
        logits, state = self.forward(
            read, state=state, past=past, carry=True, keep=send([end - 1 for end in ends], self.device),
            mask=self._finished(_apart(owner, past)), position_ids=places,
        )  # fmt: skip
        past = self._cut(state, past)
        return logits[0], [Read(state, ((0, past), (past + start, past + end))) for start, end in spans]

    def _cut(self, state: DynamicCache, past: int) -> int:
        """Let go of the beginning where rows share it, for it would stay with every pass; what is left of it."""
        if not self.shares or not past:
            return past
        for layer in state.layers:
            layer.keys, layer.values = layer.keys[:, :, past:].clone(), layer.values[:, :, past:].clone()
            layer.rooms = None
        return 0

    @property
    def columns(self) -> int:
        """Columns that every row takes."""
        return self.cache.get_seq_length() if self.lengths else 0

    def settle(self, kept: Sequence[int], new: Sequence[Read]) -> list[int]:
        """Let go of all slots but those `kept`, take new sequences in; the slot of each, kept ones first.

        A newcomer takes a free slot where it fits. Slots without one stay, empty, while they are few.
        """
        lengths = [one.length for one in new]
        longest = max([*(self.lengths[slot] for slot in kept), *lengths])
        free = [slot for slot in range(len(self.lengths)) if slot not in set(kept)]
        fits_in = longest <= self.columns <= longest + COLUMNS and len(free) >= len(new)
        if fits_in and len(kept) + len(new) > CROWDED * len(self.lengths):
            taken = free[: len(new)]
            for slot, one, length in zip(taken, new, lengths, strict=True):
                for at, layer in enumerate(self.cache.layers):
                    layer.replace(slot, *one.parts(at))
                self.lengths[slot] = length
            for slot in free[len(new) :]:
                self.lengths[slot] = 1  # its token is read beside the others' and thrown away
            places = [*kept, *taken]
        else:
            self._rebuild(kept, new, longest)
            self.lengths = [*(self.lengths[slot] for slot in kept), *lengths]
            places = list(range(len(self.lengths)))
        self.held = send(self.lengths, self.device)[:, None]
        return places

    def _rebuild(self, kept: Sequence[int], new: Sequence[Read], longest: int) -> None:
        """Layer by layer, so that of those kept no more than one layer stands twice in memory."""
        cache = _empty()
        for at in range(len(new[0].cache.layers if new else self.cache.layers)):
            rows: list[tuple[Parts, Parts]] = []
            for slot in kept:
                held = self.cache.layers[at]
                columns = slice(max(0, held.keys.shape[2] - longest), None)
                rows.append(([held.keys[slot][:, columns]], [held.values[slot][:, columns]]))
            rows += [one.parts(at) for one in new]
            layer = RoomyLayer()
            layer.lazy_initialization(rows[0][0][0], rows[0][1][0])
            layer.rooms = (_aligned([row[0] for row in rows], longest), _aligned([row[1] for row in rows], longest))
            layer.keys, layer.values = (room[:, :, :longest] for room in layer.rooms)
            cache.layers.append(layer)
            if kept:
                self.cache.layers[at].drop()
        self.cache = cache

    def step(self, tokens: torch.Tensor) -> torch.Tensor:
        """Read one more token of every slot, (slots,) on the device; logits (slots, vocabulary)."""
        self.lengths = [length + 1 for length in self.lengths]
        self.held = self.held + 1
        width = self.columns + 1
        seen = torch.arange(width, device=self.device)[None] >= width - self.held
        mask = self._finished(seen[:, None]) if self.ready_mask else seen.long()
        options: dict[str, Any] = {}
        if self.forward.can_place:
            options["position_ids"] = self.held - 1 + len(self.begins)
        if self.prefix is not None:
            options["shared_prefix"] = self.prefix
        with nullcontext() if self.prefix is None else sharing(self.forward.model):
            logits, _ = self.forward(tokens[:, None], state=self.cache, carry=True, keep=1, mask=mask, **options)
        return logits[:, -1]

    def _finished(self, seen: torch.Tensor) -> torch.Tensor:
        """An additive mask (slots, 1, tokens, columns) in the model's own type, of what each token sees."""
        dtype = self.forward.model.dtype
        mask = torch.zeros(seen.shape, dtype=dtype, device=self.device)
        return mask.masked_fill_(~seen, torch.finfo(dtype).min)[:, None]


def _apart(owner: torch.Tensor, past: int) -> torch.Tensor:
    """Which token of several prompts sees which, (1, tokens, past + tokens): the past, and its own prompt before it."""
    own = (owner[:, None] == owner[None]).tril()
    return torch.nn.functional.pad(own, (past, 0), value=True)[None]


def _aligned(rows: Sequence[Parts], longest: int) -> torch.Tensor:
    """Rows that end in one column, with room behind it."""
    heads, _, width = rows[0][0].shape
    room = rows[0][0].new_zeros((len(rows), heads, longest + COLUMNS, width))
    for place, parts in zip(room, rows, strict=True):
        _fill(place, parts, longest)
    return room


def _fill(row: torch.Tensor, parts: Parts, end: int) -> None:
    """Write parts into a row (heads, columns, width), the last one up to that column."""
    for part in reversed(parts):
        row[:, end - part.shape[1] : end] = part
        end -= part.shape[1]
