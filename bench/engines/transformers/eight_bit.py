# SPDX-License-Identifier: Apache-2.0
"""bitsandbytes' LLM.int8() layers on a CPU: its arithmetic to the last bit, in fewer passes over the numbers.

The library looks for outliers and rounds in float16, element by element through lists of indices, and does so again for
every layer that reads the same input (queries, keys and values; gate and up). Here the same values are handled in
float32, columns at once, and an input is rounded once: that is the very tensor, which no class of transformers changes
between two layers that read it. What is multiplied, and every rounding on the way, is as in
bitsandbytes 0.50.2 (backends/default/ops.py: int8_vectorwise_quant, int8_mm_dequant, int8_mixed_scaled_mm).

One product is another where a CPU multiplies no 16-bit numbers itself: torch then multiplies the outliers' columns one
number at a time (44 ms for 200 rows by 6 columns by 1,536 on an AVX2 box, the whole layer takes 4), so they are
multiplied in float32 and rounded once. torch does the same sums in another order: with 40 such columns 9 of 307,200
values are one step of bfloat16 apart, with six none.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple

import torch

from bench.engines.transformers.sixteen_bit import plus

SCALE = 6.200124e-05
"""What int8_mm_dequant multiplies with: 1 / (127 x 127), as written there."""


class Rounded(NamedTuple):
    """An input in 8 bits."""

    values: torch.Tensor
    """int8, (rows, inputs), columns with outliers empty."""
    scales: torch.Tensor
    """float32, (rows, 1)."""
    outliers: torch.Tensor
    """Columns that are multiplied in the input's own type."""


@contextmanager
def in_few_passes(model: torch.nn.Module) -> Iterator[None]:
    """Let a model's LLM.int8() layers on a CPU multiply so; others, and a layer not yet rounded, stay as they are."""
    layers = [module for module in model.modules() if "forward" not in vars(module) and _takes(module)]
    inputs = _Inputs()
    for layer in layers:
        layer.forward = partial(_multiply, inputs, layer)
    try:
        yield
    finally:
        for layer in layers:
            del layer.forward


def _takes(module: torch.nn.Module) -> bool:
    state: Any = getattr(module, "state", None)
    if type(module).__name__ != "Linear8bitLt" or state.CB is None or state.has_fp16_weights:
        return False
    return bool(state.CB.device.type == "cpu" and state.threshold > 0 and not module.training)


class _Inputs:
    """The input that was rounded last."""

    def __init__(self) -> None:
        self.read: torch.Tensor | None = None
        self.rounded: Rounded

    def rounded_as(self, read: torch.Tensor, threshold: float) -> Rounded:
        if read is not self.read:
            self.read, self.rounded = read, rounded(read.reshape(-1, read.shape[-1]), threshold)
        return self.rounded


def rounded(rows: torch.Tensor, threshold: float) -> Rounded:
    """Rows scaled to 8 bits each, but for columns where any of them reaches the threshold."""
    wide = rows.to(torch.float16).float()
    sizes = wide.abs()
    outliers = (sizes.amax(0) >= threshold).nonzero()[:, 0]
    if len(outliers):
        columns = sizes[:, outliers]
        sizes[:, outliers] = columns.masked_fill_(columns >= threshold, 0)
    scales = sizes.amax(1, keepdim=True)
    values = wide.mul_(127.0 / scales).round_().to(torch.int8)
    if len(outliers):
        values[:, outliers] = 0
    return Rounded(values, scales, outliers)


def _multiply(inputs: _Inputs, layer: Any, read: torch.Tensor) -> torch.Tensor:
    if not read.numel():
        return type(layer).forward(layer, read)
    weight, scales = layer.state.CB, layer.state.SCB
    held = inputs.rounded_as(read, layer.state.threshold)
    product = torch.ops.bitsandbytes.int8_linear_matmul.default(held.values, weight)
    wide = product.float().mul_(held.scales * scales.reshape(1, -1)).mul_(SCALE)
    if layer.bias is not None:
        wide += layer.bias
    made: torch.Tensor = wide.to(read.dtype)
    if len(held.outliers):
        columns = weight[:, held.outliers].contiguous()
        widened = torch.ops.bitsandbytes.int8_vectorwise_dequant.default(columns, scales).to(read.dtype).t()
        made = plus(made, read.reshape(-1, read.shape[-1])[:, held.outliers].contiguous(), widened)
    return made.reshape(*read.shape[:-1], -1)
