# SPDX-License-Identifier: Apache-2.0
"""What a GGUF's header says of its model: config keys where its architecture is known, and every tensor in any case.

The header names every tensor, so bytes are predicted of any architecture and of any mixture, without a formula for it.
Keys of transformers are filled in beside that only where the known architecture of that name has exactly this many
parameters: a mixture of experts also calls itself `llama`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from pydantic import JsonValue

from bench.catalog import architecture, gguf_states
from bench.catalog.config import Config
from bench.catalog.gguf_file import Gguf

FAMILIES = {
    "llama": "llama", "gpt2": "gpt2", "gptneox": "gpt_neox", "bloom": "bloom", "qwen2": "qwen2", "qwen3": "qwen3",
    "gemma3": "gemma3_text", "olmo2": "olmo2",
}  # fmt: skip
"""llama.cpp's name of an architecture to transformers' model_type, where `bench.catalog.architecture` knows it."""
KEYS = {
    "block_count": "num_hidden_layers",
    "embedding_length": "hidden_size",
    "feed_forward_length": "intermediate_size",
    "attention.head_count": "num_attention_heads",
    "attention.head_count_kv": "num_key_value_heads",
    "attention.key_length": "head_dim",
    "context_length": "max_position_embeddings",
    "attention.sliding_window": "sliding_window",
}
HEADER = "gguf"
"""The key of a config that holds a Header; as `model_type`, an architecture of which nothing else is known."""
EXPERTS = "_exps."
"""What names the matrices of a mixture's experts, all of a layer in one tensor."""


@dataclass(frozen=True, kw_only=True)
class Header:
    """What is predicted from, of one model that lies in one or several files."""

    tensors: tuple[tuple[str, tuple[int, ...], str], ...]
    """Name, shape (output features first) and type of each tensor of the widest file."""
    stored: dict[str, int]
    """Bytes of all tensors by the type of each file that lies there: what is loaded as it is."""
    layers: int
    hidden: int
    widest: int
    """Widest inner layer that one token is sent through."""
    vocabulary: int
    context: int
    """Positions, 0 if the file does not say."""
    cache_elements: int
    """Of keys and values, for each position, all layers together."""
    state_bytes: int = 0
    """Of the states that recurrent and convolution layers carry for each sequence, however long its text is."""
    heads: int = 0
    """Of queries, the most of any layer."""
    shared: int = 0
    """Queries that share a key and value in the first layer, 0 if the file does not say."""
    experts: int = 0
    experts_used: int = 0

    @property
    def elements(self) -> int:
        """Values of all tensors."""
        return sum(_elements(shape) for _, shape, _ in self.tensors)

    @property
    def multiplied(self) -> int:
        """Values that one token is multiplied with: of a mixture's experts, those it is sent through alone."""
        resting = sum(_elements(shape) for name, shape, _ in self.tensors if EXPERTS in name)
        share = self.experts_used / self.experts if self.experts and self.experts_used else 1.0
        return self.elements - round((1 - share) * resting)


def header_in(config: Config | None) -> Header | None:
    """The header that a config holds, None if it is of no GGUF."""
    held = (config or {}).get(HEADER)
    if not isinstance(held, Mapping):
        return None
    facts = cast(dict[str, Any], dict(held))
    tensors = tuple((name, tuple(shape), kind) for name, shape, kind in facts.pop("tensors"))
    return Header(tensors=tensors, **facts)


def config(files: Sequence[Gguf]) -> dict[str, JsonValue]:
    """The config of a model from the headers of its files, widest first."""
    widest = files[0]
    name = widest.architecture
    known = _known(widest)
    by_layer = _whole_list(widest.metadata.get(f"{name}.feed_forward_length"))
    used, experts = widest.whole(f"{name}.expert_used_count", 0), widest.whole(f"{name}.expert_count", 0)
    each = widest.whole(f"{name}.expert_feed_forward_length", max(by_layer, default=0))
    shapes = {tensor.name: tensor.shape for tensor in widest.tensors}
    tensors: list[JsonValue] = [[tensor.name, list(tensor.shape), tensor.type] for tensor in widest.tensors]
    header: dict[str, JsonValue] = {
        "tensors": tensors, "stored": {file.file_type: file.bytes for file in files},
        "layers": widest.whole(f"{name}.block_count", 0),
        "hidden": widest.whole(f"{name}.embedding_length", 0), "widest": max([*by_layer, used * each], default=0),
        "vocabulary": shapes["token_embd.weight"][0], "context": widest.whole(f"{name}.context_length", 0),
        "cache_elements": cache_elements(widest), "state_bytes": gguf_states.state_bytes(widest),
        "heads": max(_whole_list(widest.metadata.get(f"{name}.attention.head_count", 0)), default=0),
        "shared": _shared(widest), "experts": experts, "experts_used": used,
    }  # fmt: skip
    return {**(known or {"model_type": HEADER}), HEADER: header}


def _known(found: Gguf) -> dict[str, JsonValue] | None:
    """Config keys of transformers, None where the known architecture of that name is not this one."""
    kind = FAMILIES.get(found.architecture)
    if kind is None:
        return None
    made: dict[str, JsonValue] = {"model_type": kind}
    for key, name in KEYS.items():
        value = found.metadata.get(f"{found.architecture}.{key}")
        if isinstance(value, list):
            return None  # sizes that differ from layer to layer
        if isinstance(value, int):
            made[name] = value
    shapes = {tensor.name: tensor.shape for tensor in found.tensors}
    made["vocab_size"] = shapes["token_embd.weight"][0]
    made["tie_word_embeddings"] = "output.weight" not in shapes
    counted = sum(tensor.elements for tensor in found.tensors if tensor.name != "rope_freqs.weight")
    try:
        same = architecture.parameters(made) == counted
    except (ArithmeticError, TypeError):
        same = False
    return made if same else None


def expert_share(found: Gguf) -> float:
    """Share of the experts that one token is sent through, 1 where there are none or the file names no such number."""
    experts, used = (found.whole(f"{found.architecture}.expert{which}_count", 0) for which in ("", "_used"))
    return used / experts if 0 < used <= experts else 1.0


def cache_elements(found: Gguf) -> int:
    """Elements of keys and values for each position, every layer; a layer without attention has none.

    Heads may differ from layer to layer. Keys and values have the width that the file names, else that of the first
    layer that has heads, as llama.cpp takes it. Of a hybrid that gives one number of heads for all of them, the layers
    count that have keys.
    """
    name = found.architecture
    layers = found.whole(f"{name}.block_count", 0)
    heads = _by_layer(found, f"{name}.attention.head_count", layers, [0] * layers)
    pairs = _by_layer(found, f"{name}.attention.head_count_kv", layers, heads)
    if gguf_states.recurrent_layers(found) and not isinstance(
        found.metadata.get(f"{name}.attention.head_count_kv"), list
    ):
        attends = gguf_states.attention_layers(found)
        pairs = [count if layer in attends else 0 for layer, count in enumerate(pairs)]
    first = next((count for count in heads if count), 0)
    width = found.whole(f"{name}.embedding_length", 0) // first if first else 0
    widths = sum(found.whole(f"{name}.attention.{which}_length", width) for which in ("key", "value"))
    return widths * sum(pairs)


def _shared(found: Gguf) -> int:
    """Queries of the first layer that share a key and value; as many keys as queries where the file names no other."""
    heads = f"{found.architecture}.attention.head_count"
    queries = _whole_list(found.metadata.get(heads, 0))
    pairs = _whole_list(found.metadata[f"{heads}_kv"]) if f"{heads}_kv" in found.metadata else queries
    return queries[0] // pairs[0] if queries and pairs and pairs[0] else 0


def _by_layer(found: Gguf, key: str, layers: int, otherwise: list[int]) -> list[int]:
    """A count for each layer, given once for all of them or one by one."""
    if key not in found.metadata:
        return otherwise
    given = _whole_list(found.metadata[key])
    return given if isinstance(found.metadata[key], list) else given * layers


def _whole_list(value: JsonValue) -> list[int]:
    values = value if isinstance(value, list) else [value]
    return [int(one) for one in values if isinstance(one, int | float)]


def _elements(shape: Iterable[int]) -> int:
    count = 1
    for size in shape:
        count *= size
    return count
