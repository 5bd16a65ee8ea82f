# SPDX-License-Identifier: Apache-2.0
"""Count a GGUF's tensors: bytes by type, linear weights apart from embeddings and head, tied ones once."""

from __future__ import annotations

from collections import Counter

from bench.catalog.gguf_file import Gguf, Tensor, type_bytes
from bench.engines.llamacpp import recurrent
from bench.records.census import Census

HEAD = "output.weight"
EMBEDDINGS = ("token_embd.weight", "position_embd.weight", "token_types.weight", HEAD)
"""Looked up, or the head: no linear layers of the census."""
NARROW = 16
"""Types of fewer bits than this count as quantized."""


def count(header: Gguf) -> Census:
    """The census of a loaded file. llama.cpp holds exactly its tensors; a tied head is the embedding itself."""
    storage: Counter[str] = Counter()
    kernels: Counter[str] = Counter()
    linear = quantized = linear_bytes = 0
    left_out: list[str] = []
    quantizing = any(_linear(tensor) and _bits(tensor.type) < NARROW for tensor in header.tensors)
    for tensor in header.tensors:
        storage[tensor.type.lower()] += tensor.bytes
        if not _linear(tensor):
            continue
        kernels[tensor.type.lower()] += 1
        linear += tensor.elements
        linear_bytes += tensor.bytes
        if _bits(tensor.type) < NARROW:
            quantized += tensor.elements
        elif quantizing:
            left_out.append(tensor.name)
    return Census(
        bytes_by_storage=dict(storage), linear_weights=linear, linear_quantized=quantized,
        linear_bits=8 * linear_bytes / linear if linear else 0.0, kernels=dict(kernels), left_out=tuple(left_out),
        embedding_bytes=_looked_up(header), compute=_compute(kernels),
    )  # fmt: skip


def _looked_up(header: Gguf) -> int:
    """Bytes of the embedding tables, except one that is also the output head."""
    tied = not any(tensor.name == HEAD for tensor in header.tensors)
    return sum(
        tensor.bytes
        for tensor in header.tensors
        if tensor.name in EMBEDDINGS and tensor.name != HEAD and not (tied and tensor.name == EMBEDDINGS[0])
    )


def _compute(kernels: Counter[str]) -> str | None:
    """The type most matrices multiply in: activations are quantized to 8 bits for quantized weights."""
    kind = kernels.most_common(1)[0][0] if kernels else ""
    return {"f32": "fp32", "f16": "fp16", "bf16": "bf16"}.get(kind, "int8") if kind else None


def _linear(tensor: Tensor) -> bool:
    """A matrix that multiplies activations, the output head left out."""
    return len(tensor.shape) > 1 and tensor.name.endswith(".weight") and tensor.name not in EMBEDDINGS


def _bits(kind: str) -> float:
    return type_bytes(kind, 256) * 8 / 256


def cache_bytes_per_token(header: Gguf) -> int:
    """Bytes of float16 keys and values of one position, every layer."""
    name = header.architecture
    layers, heads = header.whole(f"{name}.block_count", 0), header.whole(f"{name}.attention.head_count", 1)
    if recurrent.layers(header, recurrent.RECURRENT):
        layers = len(recurrent.layers(header, recurrent.ATTENTION))
    if not heads or not layers:  # state-space models have no heads at all
        return 0
    head = header.whole(f"{name}.embedding_length", 0) // heads
    widths = sum(header.whole(f"{name}.attention.{which}_length", head) for which in ("key", "value"))
    by_layer = header.metadata.get(f"{name}.attention.head_count_kv")
    if isinstance(by_layer, list):
        return 2 * widths * sum(count for count in by_layer if isinstance(count, int))
    return 2 * widths * layers * header.whole(f"{name}.attention.head_count_kv", heads)
