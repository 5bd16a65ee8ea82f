# SPDX-License-Identifier: Apache-2.0
"""Float32 linear layers on a CPU multiplied by oneDNN, where torch's own choice is MKL.

All linear layers of the default model, torch 2.13 on two cores of an AMD EPYC with AVX-512, milliseconds by rows
(MKL; MKL asked for weight times input; oneDNN, which reads the weights where they lie, so nothing is copied: a weight
of 390 MiB takes 1 MiB beyond the output at 1, 6, 64 and 512 rows):

    1: 31, 32, 21   2: 56, 14, 24   4: 58, 18, 24   8: 60, 34, 27
    16: 71, 45, 34   64: 148, 117, 75   512: 762, 704, 357

All round differently within float32. Whoever measures speed or divergence measures what the library does by itself;
this is for answers and scores.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import torch
from transformers import PreTrainedModel

FEW = range(2, 6)
"""Rows at which weight times input is fastest."""


@contextmanager
def through_onednn(model: PreTrainedModel) -> Iterator[None]:
    """Let the float32 linear layers of a model on a CPU multiply so; other layers and types stay as they are."""
    layers = [
        module
        for module in model.modules()
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
    """Whether it is a plain tensor of float32: a quantizer's own class (torchao's) says float32 and holds integers."""
    there = torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")
    plain = type(weight) is torch.nn.Parameter and weight.dtype == torch.float32
    return bool(there and plain and weight.device.type == "cpu")


def _multiply(layer: torch.nn.Linear, read: torch.Tensor) -> torch.Tensor:
    rows = read.numel() // read.shape[-1]
    if read.dtype != torch.float32:
        return torch.nn.functional.linear(read, layer.weight, layer.bias)
    if rows not in FEW:
        onednn = torch.ops.mkldnn._linear_pointwise  # noqa: SLF001 - the one that torch's compiler calls
        product: torch.Tensor = onednn(read, layer.weight, layer.bias, "none", [], "")
        return product
    made = (layer.weight @ read.reshape(rows, -1).t()).t()
    if layer.bias is not None:
        made = made + layer.bias
    return made.reshape(*read.shape[:-1], -1)
