# SPDX-License-Identifier: Apache-2.0
"""Count what a PyTorch model really holds: every parameter, unwrapped, with its quantization metadata."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import torch
from torch import nn
from transformers import PreTrainedConfig, PreTrainedModel

from bench.engines.transformers import packed_layers
from bench.records.census import Census

MATRICES = 3
"""Dimensions of a tensor that holds one matrix for each expert."""
EXPERTS = ("num_local_experts", "num_experts", "n_routed_experts")
"""Configurations' words for how many there are."""
NARROW = 16
"""Bits a weight below which it counts as quantized, whatever words its integers are packed into."""
GRID_BLOCK = 32
GRID_VALUES = 16
GRID_TENSORS = 8
GRID_BLOCKS = 256


def count(model: PreTrainedModel) -> Census:
    """The census of a loaded model. Tensors that share memory are counted once.

    Linear weights that the architecture itself keeps from every scheme (T5's `wo`) are left out of the shares, as the
    output head is: their bytes count, and a quantizing scheme names them among what it left out.
    """
    seen: set[int] = set()
    storage: Counter[str] = Counter()
    kernels: Counter[str] = Counter()
    head = model.get_output_embeddings()
    linear = quantized = linear_bytes = expert_bytes = experts = 0
    left_out: list[str] = []
    dense: list[torch.Tensor] = []
    kept = getattr(model, "_keep_in_fp32_modules", None) or ()
    quantizing = any(_is_quantized(module) for module in model.modules())
    for name, module in model.named_modules():
        is_linear = _is_linear(module)
        if is_linear:
            kernels[_kernel(module)] += 1
            if quantizing and not _is_quantized(module):
                left_out.append(name)
        is_kept = any(part in name.split(".") for part in kept)
        is_expert = _is_experts(module) or "experts" in name.split(".")
        for is_weight, elements, labelled in _held(module):
            parts = [(label, part) for label, part in labelled if _new(part, seen)]
            for label, part in parts:
                storage[label] += part.numel() * part.element_size()
            expert_bytes += is_expert * sum(part.numel() * part.element_size() for _, part in parts)
            is_matrix = (is_linear and is_weight) or (is_expert and bool(parts) and parts[0][1].dim() == MATRICES)
            if is_matrix and module is not head and not is_kept and parts:
                linear += elements
                experts += is_expert * elements
                linear_bytes += sum(part.numel() * part.element_size() for _, part in parts)
                if _is_quantized(module):
                    quantized += elements
                else:
                    dense.append(parts[0][1])
    return Census(
        bytes_by_storage=dict(storage), linear_weights=linear, linear_quantized=quantized,
        linear_bits=8 * linear_bytes / linear if linear else 0.0, kernels=dict(kernels), left_out=tuple(left_out),
        grid_share=None if quantizing else grid_share(dense), embedding_bytes=_looked_up(model, head),
        expert_bytes=expert_bytes, expert_weights=experts, expert_share=_expert_share(model.config) if experts else 1.0,
        compute=_compute(model, head),
    )  # fmt: skip


def _kernel(module: nn.Module) -> str:
    """What computes a layer: its class, and the class of a weight that brings its own products."""
    weight = getattr(module, "weight", None)
    own = f" ({type(weight).__name__})" if hasattr(weight, "__tensor_flatten__") else ""
    return type(module).__name__ + own


def _is_experts(module: nn.Module) -> bool:
    """Whether it holds all experts of a mixture in one tensor, as transformers 5 does; bitsandbytes skips it."""
    named = type(module).__name__
    return named.endswith("Experts") and "Shared" not in named


def _expert_share(config: PreTrainedConfig) -> float:
    """Share of the experts that process one token; 1 if the configuration does not say."""
    text = config.get_text_config()
    there = next((getattr(text, key, None) for key in EXPERTS if getattr(text, key, None)), None)
    return min(1.0, text.num_experts_per_tok / there) if there and getattr(text, "num_experts_per_tok", None) else 1.0


def _looked_up(model: PreTrainedModel, head: nn.Module | None) -> int:
    """Bytes of the embedding tables that are not also the output head."""
    tables = {m.weight.data_ptr(): m.weight for m in model.modules() if isinstance(m, nn.Embedding)}
    weight = getattr(head, "weight", None)
    if weight is not None:
        tables.pop(weight.data_ptr(), None)
    return sum(table.numel() * table.element_size() for table in tables.values())


def _compute(model: PreTrainedModel, head: nn.Module | None) -> str | None:
    """The type most linear layers multiply in: what bitsandbytes was told or does, or the weight's own."""
    kinds: Counter[str] = Counter()
    for module in model.modules():
        if not _is_linear(module) or module is head:
            continue
        if packed_layers.is_packed(module) or getattr(module, "weight", None) is None:
            continue  # its kernel's choice, which it does not tell
        if type(module).__name__ == "Linear8bitLt":
            kinds["int8" if _multiplies_8_bits(module.weight.device) else "float32"] += 1
        elif getattr(module, "support_avx512bf16_for_cpu", False) and module.weight.device.type == "cpu":
            kinds["bfloat16"] += 1  # bitsandbytes' own kernel takes bfloat16, whatever it was told
        else:
            kinds[_dtype_name(getattr(module, "compute_dtype", None) or module.weight.dtype)] += 1
    name = kinds.most_common(1)[0][0] if kinds else ""
    return {"float32": "fp32", "bfloat16": "bf16", "float16": "fp16", "int8": "int8"}.get(name)


def _multiplies_8_bits(device: torch.device) -> bool:
    """Whether bitsandbytes does; without AVX-512 it widens both sides to float32 (backends/cpu/ops.py)."""
    return device.type != "cpu" or str(torch.backends.cpu.get_cpu_capability()) == "AVX512"


def _is_linear(module: nn.Module) -> bool:
    return isinstance(module, nn.Linear) or type(module).__name__ == "Conv1D" or packed_layers.is_packed(module)


def _is_quantized(module: nn.Module) -> bool:
    """Fewer than 16 bits a weight, whichever library stores it."""
    if packed_layers.is_packed(module):
        return True
    weight = getattr(module, "weight", None)
    if not _is_linear(module) or weight is None:
        return False
    parts = [part for _, part in _parts(module, "weight", weight)]
    if any(part.dtype in {torch.int8, torch.uint8} for part in parts) or "float8" in str(weight.dtype):
        return True
    held = sum(part.numel() * part.element_size() for part in parts)
    return bool(8 * held < NARROW * _elements(weight))


def _held(module: nn.Module) -> Iterator[tuple[bool, int, list[tuple[str, torch.Tensor]]]]:
    """What a module itself holds: whether it is a layer's weight, its elements, its tensors with their labels."""
    if packed_layers.is_packed(module):
        parts = list(packed_layers.parts(module))
        yield True, packed_layers.elements(module), [part for part in parts if part[0].startswith("packed")]
        yield False, 0, [part for part in parts if not part[0].startswith("packed")]
        return
    for name, tensor in module.named_parameters(recurse=False):
        yield name == "weight", _elements(tensor), list(_parts(module, name, tensor))


def _parts(module: nn.Module, name: str, tensor: torch.Tensor) -> Iterator[tuple[str, torch.Tensor]]:
    """A parameter's tensors with their storage labels: itself or what it wraps, then its metadata.

    bitsandbytes keeps int8 row scales in `weight.SCB` until the first forward pass moves them to `state.SCB`, and
    4-bit scales in `weight.quant_state`; a tensor subclass (torchao and others) says what it wraps, values first.
    """
    state = getattr(tensor, "quant_state", None)
    if state is not None:
        yield f"{state.quant_type}", tensor.data
        for nested in (state, getattr(state, "state2", None)):
            for value in vars(nested).values() if nested is not None else ():
                if isinstance(value, torch.Tensor):
                    yield f"{state.quant_type} metadata", value
    elif hasattr(tensor, "__tensor_flatten__"):
        values, *metadata = _unwrapped(tensor)
        yield _dtype(values), values
        yield from ((f"{_dtype(values)} metadata", part) for part in metadata)
    else:
        yield _dtype(tensor), tensor.data
        if name == "weight":
            scales = getattr(tensor, "SCB", None)
            if scales is None:
                scales = getattr(getattr(module, "state", None), "SCB", None)
            if scales is not None:
                yield "int8 metadata", scales


def _unwrapped(tensor: torch.Tensor) -> Iterator[torch.Tensor]:
    """The plain tensors in a subclass, which may wrap another subclass."""
    if not hasattr(tensor, "__tensor_flatten__"):
        yield tensor
        return
    for name in tensor.__tensor_flatten__()[0]:
        yield from _unwrapped(getattr(tensor, name))


def _dtype(tensor: torch.Tensor) -> str:
    return _dtype_name(tensor.dtype)


def _dtype_name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _new(tensor: torch.Tensor, seen: set[int]) -> bool:
    """Whether this memory has not been counted yet."""
    pointer = tensor.data_ptr()
    if pointer in seen:
        return False
    seen.add(pointer)
    return True


def _elements(tensor: torch.Tensor) -> int:
    """Elements of a parameter, however bitsandbytes packs them."""
    state = getattr(tensor, "quant_state", None)
    return int(torch.Size(state.shape).numel()) if state is not None else tensor.numel()


def grid_share(tensors: list[torch.Tensor]) -> float | None:
    """Share of sampled blocks of 32 consecutive weights that hold at most 16 distinct values.

    Near 1, the weights were 4-bit before: quantizing them again to the same blocks looks falsely lossless.
    """
    grid = blocks = 0
    for tensor in tensors[:: max(1, len(tensors) // GRID_TENSORS)]:
        flat = tensor.detach().reshape(-1)
        usable = min(flat.numel() // GRID_BLOCK, GRID_BLOCKS)
        for block in flat[: usable * GRID_BLOCK].reshape(usable, GRID_BLOCK).float().cpu():
            grid += len(block.unique()) <= GRID_VALUES
            blocks += 1
    return grid / blocks if blocks else None
