# SPDX-License-Identifier: Apache-2.0
"""16-bit linear layers multiplied in float32, on CPUs that multiply no 16-bit numbers themselves.

Without AVX-512 torch takes such products one number at a time. Both ways the products of two 16-bit numbers are summed
in float32 and rounded once, so what differs is the order of a sum. Weights are widened a block at a time: a copy of the
whole would double what the model takes. Whoever measures speed measures what the library does by itself; this is for
answers, scores and distributions.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import torch

BLOCK_BYTES = 8 << 20
"""Of float32 weights at a time."""
FEW = 8
"""Rows up to which the library is as fast: to widen a weight costs more than to read it."""


def multiplies_16_bits() -> bool:
    """Whether torch has kernels for 16-bit products on this CPU."""
    return torch.backends.cpu.get_cpu_capability() not in {"DEFAULT", "AVX2"}


@contextmanager
def in_float32(model: torch.nn.Module) -> Iterator[None]:
    """Let a model's 16-bit linear layers multiply so on such a CPU; others stay as they are."""
    layers = [
        module
        for module in (() if multiplies_16_bits() else model.modules())
        if type(module) is torch.nn.Linear and "forward" not in vars(module) and _takes(module.weight)
    ]
    for layer in layers:
        layer.forward = partial(_multiply, layer)
    try:
        yield
    finally:
        for layer in layers:
            del layer.forward


def _takes(weight: torch.Tensor) -> bool:
    """Whether it is a plain tensor of 16-bit numbers."""
    plain = type(weight) is torch.nn.Parameter and weight.dtype in {torch.bfloat16, torch.float16}
    return plain and weight.device.type == "cpu"


def _multiply(layer: torch.nn.Linear, read: torch.Tensor) -> torch.Tensor:
    rows = read.numel() // read.shape[-1]
    if rows <= FEW or read.dtype != layer.weight.dtype:
        return torch.nn.functional.linear(read, layer.weight, layer.bias)
    wide = read.reshape(rows, -1).float()
    made = torch.empty(rows, layer.out_features, dtype=read.dtype)
    step = max(1, BLOCK_BYTES // (4 * layer.in_features))
    for first in range(0, layer.out_features, step):
        block = slice(first, first + step)
        bias = None if layer.bias is None else layer.bias[block].float()
        made[:, block] = torch.nn.functional.linear(wide, layer.weight[block].float(), bias)
    return made.reshape(*read.shape[:-1], -1)


def plus(made: torch.Tensor, left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    """A product, added and rounded once; shapes (rows, outputs), (rows, columns), (columns, outputs)."""
    if made.dtype is torch.float32 or multiplies_16_bits():
        return made.addmm(left, right)
    return made.float().addmm_(left.float(), right.float()).to(made.dtype)
