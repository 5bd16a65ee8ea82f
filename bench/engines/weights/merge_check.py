# SPDX-License-Identifier: Apache-2.0
"""Does a merged model answer as its adapter did? A few tokens are read before and after, with products in float32.

peft merges what it is told to and says nothing when the sum answers otherwise: LoRA on the output head of a model with
tied embeddings, merged, changes every embedding (`tests/engines/test_derived.py`). So outputs decide, not rules.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

TOKENS = 48
"""Tokens read, spread over the whole vocabulary so that rows an adapter added are among them."""
FLOOR_NAT = 1e-5
"""Divergence that float32 sums in another order stay far below (1e-12 to 1e-8), and that no reader could see."""
TIMES = 10
"""How many times the divergence that rounding makes by itself a merge may make: 3 times the error in a logit, for
divergence grows with its square. Rounded weights and rounded products are not the same error, only of one size."""
HALF = (torch.bfloat16, torch.float16)


def log_probs(model: Any, rows: int, *, wide: bool = True) -> torch.Tensor:
    """Log-probabilities behind each of the tokens, float64, shape (tokens, vocabulary); `rows` of the embedding.

    `wide`: computed in float32 whatever type the weights are stored in; each is widened for the moment of its use.
    """
    read = torch.linspace(0, rows - 1, min(TOKENS, rows)).round().long()[None].to(model.device)
    inputs = {"input_ids": read}
    if model.config.is_encoder_decoder:
        inputs["decoder_input_ids"] = read
    model.eval()
    with torch.inference_mode(), _widened(model) if wide else _as_it_is():
        logits = model(**inputs).logits[0]
    return torch.log_softmax(logits.double(), -1)


def divergence(before: torch.Tensor, after: torch.Tensor) -> float:
    """Mean KL(before || after) over the tokens, nats, to three digits; NaN or infinite where an output is."""
    found = float((before.exp() * (before - after)).sum(-1).mean())
    return float(f"{max(0.0, found):.3g}") if math.isfinite(found) else math.nan


def allowed_nat(rounding_nat: float) -> float:
    """The divergence that a merge may make where rounding by itself makes so much."""
    return max(FLOOR_NAT, TIMES * rounding_nat) if math.isfinite(rounding_nat) else TIMES * FLOOR_NAT


@contextmanager
def _as_it_is() -> Iterator[None]:
    yield


@contextmanager
def _widened(model: nn.Module) -> Iterator[None]:
    """Every module computes with float32 copies of its own 16-bit parameters, one module's at a time."""
    held: dict[nn.Module, dict[nn.Module, dict[str, nn.Parameter | None]]] = {}

    def widen(module: nn.Module, _: Any) -> None:
        held[module] = {part: dict(part._parameters) for part in _together(module)}  # noqa: SLF001 - setters tie anew
        for part, own in held[module].items():
            part._parameters.update({name: _wide(value) for name, value in own.items()})  # noqa: SLF001

    def narrow(module: nn.Module, _: Any, __: Any) -> None:
        for part, own in held.pop(module).items():
            part._parameters.update(own)  # noqa: SLF001

    hooks = []
    for module in model.modules():
        if any(value.dtype in HALF for part in _together(module) for value in part.parameters(recurse=False)):
            hooks += [module.register_forward_pre_hook(widen), module.register_forward_hook(narrow)]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
        for module in reversed(list(held)):  # of a pass that failed half-way, the inner ones first
            narrow(module, None, None)


def _together(module: nn.Module) -> list[nn.Module]:
    """The module; of a layer that peft wraps with all inside, for it reads the parameters of what it wraps."""
    wraps = hasattr(module, "base_layer") or hasattr(module, "original_module")
    return list(module.modules()) if wraps else [module]


def _wide(value: nn.Parameter | None) -> nn.Parameter | None:
    if value is None or value.dtype not in HALF:
        return value
    return nn.Parameter(value.float(), requires_grad=False)
