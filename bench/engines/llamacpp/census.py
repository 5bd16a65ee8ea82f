# SPDX-License-Identifier: Apache-2.0
"""Count a GGUF's tensors: bytes by type, linear weights apart from embeddings and head, tied ones once."""

from __future__ import annotations

from collections import Counter

from bench.catalog.gguf_file import Gguf, Tensor, type_bytes
from bench.catalog.gguf_model import EXPERTS, cache_elements, expert_share
from bench.engines.llamacpp.gguf_layout import CACHE_BYTES
from bench.engines.llamacpp.quantizer import BLOCK, FALLBACK, SUPER_BLOCK, keeps
from bench.records.census import Census

HEAD = "output.weight"
EMBEDDINGS = (
    "token_embd.weight",
    "position_embd.weight",
    "token_types.weight",
    "per_layer_token_embd.weight",
    HEAD,
)
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
    experts = [tensor for tensor in header.tensors if EXPERTS in tensor.name and _linear(tensor)]
    return Census(
        bytes_by_storage=dict(storage), linear_weights=linear, linear_quantized=quantized,
        linear_bits=8 * linear_bytes / linear if linear else 0.0, kernels=dict(kernels), left_out=tuple(left_out),
        embedding_bytes=_looked_up(header), compute=_compute(kernels), because=_undivided(header),
        expert_bytes=sum(tensor.bytes for tensor in experts), expert_share=expert_share(header),
        expert_weights=sum(tensor.elements for tensor in experts),
    )  # fmt: skip


def _undivided(header: Gguf) -> str:
    """The first matrix whose rows its type's blocks do not divide, and what the quantizer made of it instead."""
    matrices = [tensor for tensor in header.tensors if _linear(tensor) and not keeps(tensor.name, tensor.shape)]
    whole = ((tensor, BLOCK) for tensor in matrices if tensor.shape[-1] % BLOCK and _bits(tensor.type) >= NARROW)
    fallen = (
        (tensor, SUPER_BLOCK)
        for tensor in matrices
        if tensor.shape[-1] % SUPER_BLOCK and tensor.type in FALLBACK.values()
    )
    found = next(whole, None) or next(fallen, None)
    if found is None:
        return ""
    tensor, block = found
    rows = f"{tensor.name} has rows of {tensor.shape[-1]}, which {block} does not divide"
    return f"{rows}, so llama.cpp stores it as {tensor.type}"


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
    return CACHE_BYTES * cache_elements(header)
