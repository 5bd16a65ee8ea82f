# SPDX-License-Identifier: Apache-2.0
"""A model of bitsandbytes or torchao taken back to float32: the weights its integers stand for, multiplied exactly.

What its distance from the 16-bit row still is belongs to the format; the rest of the quantized model's own distance is
how this device multiplies: activations rounded to 8 bits, inputs cast to bfloat16.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from bitsandbytes import functional
from bitsandbytes import nn as quantized


def widened(model: Any) -> Any:
    """A copy of the model in float32, its quantized layers replaced by plain ones of the same weights."""
    replaced: dict[int, Any] = {}
    for module in model.modules():
        if isinstance(module, quantized.Linear8bitLt | quantized.Linear4bit) or _wraps(module):
            replaced[id(module)] = _plain(module)
    twin = copy.deepcopy(model, replaced)
    return torch.nn.Module.float(twin).eval()  # transformers' own `float` refuses what was quantized


def _wraps(module: Any) -> bool:
    """Whether torchao's tensor is its weight."""
    return isinstance(module, torch.nn.Linear) and hasattr(module.weight, "__tensor_flatten__")


def _plain(module: Any) -> torch.nn.Linear:
    bias = module.bias is not None
    made = torch.nn.Linear(module.in_features, module.out_features, bias=bias, device="meta")
    made.weight = torch.nn.Parameter(_weight(module), requires_grad=False)
    if bias:
        made.bias = torch.nn.Parameter(module.bias.detach().float(), requires_grad=False)
    return made


def _weight(module: Any) -> torch.Tensor:
    """Its weight in float32, shape (outputs, inputs)."""
    if _wraps(module):
        return module.weight.dequantize(torch.float32)
    if isinstance(module, quantized.Linear8bitLt):
        held = module.state if module.state.CB is not None else module.weight  # moved there by the first pass
        return held.CB.float() * (held.SCB.float() / 127)[:, None]
    state, packed = copy.copy(module.weight.quant_state), module.weight.data
    if getattr(state, "packing_format_for_cpu", False):  # CPUs with AVX-512 BF16 lay it out anew at the first pass
        state.original_nested = False  # scales that were quantized too are plain by now: they would be so again
        packed, state = functional._convert_weight_packed_for_cpu_inverse(packed, state)  # noqa: SLF001 - its only way
        state.absmax = state.absmax.T.reshape(-1).float() if state.absmax.dim() > 1 else state.absmax.float()
    state.dtype = torch.float32
    return functional.dequantize_4bit(packed, state).reshape(module.out_features, module.in_features)
