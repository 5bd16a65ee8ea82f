# SPDX-License-Identifier: Apache-2.0
"""Checkpoints of compressed-tensors: packed while they load, unpacked to 16 bits for good at the first forward pass.

The library has no kernel for packed weights in transformers, whatever it is told: a hook on the first pass replaces
every packed weight by its values. So what is proven is the file's packing, before that pass, and what a row's memory
and speed are of, the census counts after it.
"""

from __future__ import annotations

import torch
from torch import nn
from transformers import PreTrainedModel

from bench.engines.contract import Unsupported
from bench.records.cell import Scheme
from bench.records.census import LEAST_QUANTIZED
from bench.records.record import Caveat

NOMINAL = {"ct-w4a16": 4, "ct-w8a16": 8, "ct-w8a8": 8}
"""Bits of a weight in the file."""
BEYOND = 1.0
"""Bits by which scales and zero points may exceed them."""
WEIGHTS = ("weight_packed", "weight")


def proven(model: PreTrainedModel, scheme: Scheme) -> Caveat:
    """What a reader must know of it, the bits that were found packed among it. Raises Unsupported where they are not.

    To be asked before the first forward pass.
    """
    head, weights, packed, held = model.get_output_embeddings(), 0, 0, 0
    for module in model.modules():
        if not isinstance(module, nn.Linear) or module is head:
            continue
        count = module.in_features * module.out_features
        weights += count
        parts = {name: part for name, part in _own(module).items() if not part.is_floating_point()}
        if any(name in parts for name in WEIGHTS):
            packed += count
            held += sum(part.numel() * part.element_size() for name, part in _own(module).items() if name != "bias")
    bits = 8 * held / packed if packed else 0.0
    if packed < LEAST_QUANTIZED * weights or not packed:
        raise Unsupported(f"{packed} of {weights} linear weights are packed, which {scheme.name} asks of all")
    nominal = NOMINAL[scheme.name]
    if not nominal <= bits <= nominal + BEYOND:
        raise Unsupported(f"{scheme.name} asks for {nominal} bits a linear weight, its file has {bits:.2f}")
    return Caveat(
        kind="unpacked",
        text=f"{bits:.2f} bits a linear weight in the file, unpacked to 16 for good at the first forward pass",
        advice="memory and speed are those of 16-bit weights; the fewer bits show in the answers alone",
    )


def _own(module: nn.Module) -> dict[str, torch.Tensor]:
    return dict([*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)])
