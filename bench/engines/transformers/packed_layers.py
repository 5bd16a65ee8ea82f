# SPDX-License-Identifier: Apache-2.0
"""Linear layers whose weights are packed integers beside them, as GPTQ's and AWQ's kernels keep them.

They have no `weight`: `qweight` holds the integers, several to a word or laid out anew by a kernel, `qzeros` and
`scales` belong to groups of inputs, `g_idx` says which input is of which group, and kernels add tables and caches of
their own. All of it is held in memory, so all of it is counted, buffers and plain attributes alike.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import nn


def is_packed(module: nn.Module) -> bool:
    """Whether its weights are packed integers."""
    return all(isinstance(getattr(module, name, None), torch.Tensor) for name in ("qweight", "scales"))


def elements(module: nn.Module) -> int:
    """Weights of the layer: inputs times outputs, as its class says, else as its tensors say.

    `scales` has a column for each output. GPTQ's `g_idx` has an entry for each input; AWQ, which has none, packs
    along outputs, so that `qweight` has a row for each input.
    """
    inputs, outputs = getattr(module, "in_features", None), getattr(module, "out_features", None)
    if isinstance(inputs, int) and isinstance(outputs, int):
        return inputs * outputs
    index, qweight, scales = (getattr(module, name, None) for name in ("g_idx", "qweight", "scales"))
    assert isinstance(qweight, torch.Tensor)
    assert isinstance(scales, torch.Tensor)
    held = isinstance(index, torch.Tensor) and index.numel()
    rows = index.numel() if isinstance(index, torch.Tensor) and held else qweight.shape[0]
    return int(rows * scales.shape[-1])


def parts(module: nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    """The layer's tensors with their storage labels: the weights by their bits, then what belongs to them."""
    weights = module.qweight
    assert isinstance(weights, torch.Tensor)
    bits = round(8 * weights.numel() * weights.element_size() / elements(module))
    yield f"packed int{bits}", weights
    for name, tensor in _tensors(module):
        if name == "bias":
            yield str(tensor.dtype).removeprefix("torch."), tensor
        elif tensor is not weights:
            yield f"packed int{bits} metadata", tensor


def _tensors(module: nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    """Parameters, buffers and plain attributes, no empty ones."""
    for name, value in [*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)]:
        if value.numel():
            yield name, value
    for name, value in vars(module).items():
        if isinstance(value, torch.Tensor) and value.numel():
            yield name, value
