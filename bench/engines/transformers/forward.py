# SPDX-License-Identifier: Apache-2.0
"""A causal model's forward pass, whatever its class hands from one pass to the next, and the bytes of that.

Attention carries keys and values, state-space and linear-attention layers one state of fixed size, convolutions their
last inputs, and hybrids some of each in one object. Classes call it by five names and a few have none at all; whoever
passes it under another name is not told, and each token then reads the whole text again.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeAlias

import torch
from transformers import Cache, DynamicCache, PreTrainedConfig, PreTrainedModel

CARRIED = ("past_key_values", "cache_params", "state", "mems", "past_buckets_states")
"""What classes call it, as an argument and in their output: transformers' own list (5.23.0, generation/utils.py,
ALL_CACHE_NAMES): attention and hybrids, Mamba and xLSTM, RWKV, XLNet, Reformer."""
FIXED = frozenset({"conv_states", "recurrent_states", "linear_cache", "rnn_state", "conv1d_state"})
"""Attributes that hold a state of one size whatever the text's length: of linear-attention and convolution layers
(transformers 5.23.0, cache_utils.py, LinearAttentionLayer), MiniMax, xLSTM and RecurrentGemma."""
NO_STATE = (PreTrainedConfig, torch.nn.Module)
"""What some caches point to besides."""
State: TypeAlias = Any
"""A `Cache`, or whatever else a class carries; None where nothing has been read, or nothing is kept."""
Place: TypeAlias = tuple[str, ...]


class Inside:
    """What a class keeps in its own modules beside a cache that it fills and does not give back: RecurrentGemma."""

    def __init__(self, model: PreTrainedModel) -> None:
        self.model, self.cache = model, DynamicCache(config=model.config)

    def kept(self) -> Iterator[tuple[torch.nn.Module, str, str, torch.Tensor]]:
        """Tensors that are neither parameters nor buffers: module, its name, the attribute and the tensor."""
        for name, module in self.model.named_modules():
            for attribute, value in list(vars(module).items()):
                if attribute in FIXED and isinstance(value, torch.Tensor):
                    yield module, name, attribute, value

    def clear(self) -> None:
        """Take them out again: they would stay as long as the model."""
        for module, _, attribute, _ in list(self.kept()):
            setattr(module, attribute, None)


class Forward:
    """Calls a causal model by the argument names that its class has."""

    def __init__(self, model: PreTrainedModel) -> None:
        self.model = model
        accepted = inspect.signature(model.forward).parameters
        self.carries = next((name for name in CARRIED if name in accepted), None)
        """The name of what it carries, None for a class that has nothing to carry."""
        self.cuts, self.masks = "logits_to_keep" in accepted, "attention_mask" in accepted
        self.can_place = "position_ids" in accepted
        self.places = False
        """Whether it must be told where a text goes on: some classes count from 0 again, whatever they carry."""
        self.hands = False
        """Whether it must be given the cache that it fills, for it keeps its own to itself."""
        self.trusted = True
        """Whether going on gives what reading the whole text gives; if not, nothing is carried."""
        self.new_cache: Callable[[], Cache] | None = None
        """What makes the cache that a text begins with, None where the class makes its own."""
        self.in_parts = False
        """Whether a text may go on by more than one token: many recurrent layers then forget their state."""

    def __call__(
        self, tokens: torch.Tensor, *, state: State = None, past: int = 0, carry: bool = False,
        keep: int | torch.Tensor = 0, mask: torch.Tensor | None = None, **options: object,
    ) -> tuple[torch.Tensor, State]:  # fmt: skip
        """Logits of the last `keep` positions (0: of all), or of those it lists, and what to hand to the next pass.

        `carry` asks for that; the second value is None without it, and where the class keeps nothing. `past` is how
        many positions `state` stands for. `mask` tells tokens from filling on the right, which changes no token before
        it, so a class without masks needs none.
        """
        carry = carry and self.trusted
        if carry and state is None and self.hands:
            state = Inside(self.model)
        elif carry and state is None and self.new_cache:
            state = self.new_cache()
        if self.carries:
            options |= {self.carries: state.cache if isinstance(state, Inside) else state, "use_cache": carry}
        if self.places and past:
            options["position_ids"] = torch.arange(past, past + tokens.shape[1], device=tokens.device)[None]
        if self.masks and mask is not None:
            options["attention_mask"] = mask
        if self.cuts:
            options["logits_to_keep"] = keep
        out = self.model(tokens, **options)
        logits = out.logits
        if not self.cuts:
            logits = logits[:, -keep:] if isinstance(keep, int) else logits[:, keep]
        if not carry or self.carries is None:
            return logits, None
        return logits, state if isinstance(state, Inside) else getattr(out, self.carries, None)


def tensors(state: State, place: Place = ()) -> Iterator[tuple[Place, torch.Tensor]]:
    """Every tensor in what a model carries, by where it is: of lists, dictionaries and transformers' own objects.

    Counters and window sizes, whole numbers that stand alone, are left out.
    """
    if isinstance(state, torch.Tensor):
        if state.numel() > 1 or state.is_floating_point():
            yield place, state
        return
    for name, value in _parts(state):
        yield from tensors(value, (*place, name))


def _parts(state: State) -> Iterable[tuple[str, State]]:
    """What is in it, by name or number; nothing where it is neither a container nor an object of a cache."""
    if isinstance(state, Inside):
        return [("cache", state.cache), *((f"{name}.{attribute}", value) for _, name, attribute, value in state.kept())]
    if isinstance(state, dict):
        return [(str(key), value) for key, value in state.items()]
    if isinstance(state, list | tuple):
        return [(str(index), value) for index, value in enumerate(state)]
    own = type(state).__module__.startswith("transformers") and not isinstance(state, NO_STATE)
    return vars(state).items() if own else ()


def sizes(state: State) -> dict[Place, int]:
    """Bytes of every tensor in what a model carries, one that layers share once."""
    found: dict[Place, int] = {}
    seen: set[tuple[int, torch.Size]] = set()
    for place, tensor in tensors(state):
        same = (tensor.data_ptr(), tensor.shape)
        if same not in seen:
            seen.add(same)
            found[place] = tensor.numel() * tensor.element_size()
    return found


def fixed_bytes(state: State) -> int:
    """Bytes of them that do not grow with the text: recurrent states and the last inputs of convolutions.

    RWKV's is a bare list of such states.
    """
    return sum(size for place, size in sizes(state).items() if _is_fixed(place))


NAMES = {torch.float32: "fp32", torch.bfloat16: "bf16", torch.float16: "fp16"}


def kept_in(state: State) -> str | None:
    """The type of keys and values, None where nothing that grows with the text is carried."""
    kinds = (tensor.dtype for place, tensor in tensors(state) if not _is_fixed(place))
    return next((NAMES[kind] for kind in kinds if kind in NAMES), None)


def _is_fixed(place: Place) -> bool:
    return all(map(str.isdigit, place)) or any(name.rpartition(".")[2] in FIXED for name in place)
