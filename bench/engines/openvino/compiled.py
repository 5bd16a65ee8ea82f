# SPDX-License-Identifier: Apache-2.0
"""How a model is compiled, each choice by name, and what the compiled model says of itself.

Unasked, OpenVINO keeps keys and values in 8 bits or in what the exported file says, and rounds activations beside
quantized weights where the CPU multiplies such numbers.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace
from typing import Any

import openvino as ov

from bench.engines.contract import LoadRequest, Unsupported
from bench.engines.openvino.layout import kept_in

ROUNDED = 32
"""Activations that share a scale where they are rounded to 8 bits: OpenVINO's own choice."""
KINDS = {"f32": "fp32", "f16": "fp16", "bf16": "bf16", "u8": "int8", "i8": "int8", "u4": "int4"}
PRECISIONS = ("INFERENCE_PRECISION_HINT", "KEY_CACHE_PRECISION", "VALUE_CACHE_PRECISION")
"""What a compiled model is asked of its types. What it says of keys and values together does not tell these apart."""
KV = {"fp16": "f16", "int8": "u8", "int4": "u4"}


@dataclass(frozen=True)
class Way:
    """How a compiled model computes, in OpenVINO's words."""

    precision: str
    """Type of products and sums where nothing is rounded: `f32`, `f16`, `bf16`."""
    keys: str
    values: str
    """Types of keys and of values."""
    group: int
    """Activations that share a scale beside quantized weights, 0 where they are not rounded."""

    @property
    def compute(self) -> str:
        """The type that products run in, in this project's words."""
        return "int8" if self.group else KINDS[self.precision]

    @property
    def kept_in(self) -> str:
        """The type of keys and values, or of each (`int8/int4`), in this project's words."""
        keys, values = KINDS[self.keys], KINDS[self.values]
        return keys if keys == values else f"{keys}/{values}"

    @property
    def carries(self) -> bool:
        """Whether what is carried can be put back: 4-bit keys or values cannot (2026.4.1)."""
        return "u4" not in {self.keys, self.values}


EXACT = Way("f32", "f32", "f32", 0)
"""Everything in float32: weights in fewer bits are widened before they are multiplied."""
WAYS = {
    "ov-fp32": EXACT,
    "ov-fp16": Way("f32", "f16", "f16", 0),
    "ov-bf16": Way("bf16", "f16", "f16", 0),
    "ov-int8": Way("f32", "f16", "f16", ROUNDED),
    "ov-int4": Way("f32", "f16", "f16", ROUNDED),
}


def asked_of(request: LoadRequest) -> Way:
    """How a request wants its model compiled."""
    way = WAYS[request.scheme.name]
    if request.kv is None:
        return way
    keys, values = (KV[one] for one in kept_in(request.kv))
    return replace(way, keys=keys, values=values)


@functools.cache
def core() -> ov.Core:
    """OpenVINO with its plugins, once a process."""
    return ov.Core()


def compiled(model: ov.Model, way: Way, threads: int | None) -> tuple[Any, Way]:
    """The model for the CPU, and how it says that it computes."""
    options: dict[str, object] = {
        "INFERENCE_PRECISION_HINT": way.precision, "KEY_CACHE_PRECISION": way.keys,
        "VALUE_CACHE_PRECISION": way.values, "DYNAMIC_QUANTIZATION_GROUP_SIZE": way.group, "NUM_STREAMS": 1,
        "PERFORMANCE_HINT": "LATENCY",
    }  # fmt: skip
    if threads:
        options["INFERENCE_NUM_THREADS"] = threads
    made = core().compile_model(model, "CPU", options)
    precision, keys, values = (_kind(made, name) for name in PRECISIONS)
    return made, Way(precision, keys, values, _group(made))


def _kind(made: Any, name: str) -> str:
    return str(made.get_property(name).get_type_name())


def _group(made: Any) -> int:
    return int(made.get_property("DYNAMIC_QUANTIZATION_GROUP_SIZE"))


def check(asked: Way, found: Way) -> None:
    """Refuse what computes otherwise than asked: OpenVINO takes another type without a word. Raises Unsupported."""
    if asked.precision != found.precision:
        raise Unsupported(f"this CPU multiplies no {KINDS[asked.precision]}: OpenVINO would compute in {found.compute}")
    if (asked.keys, asked.values) != (found.keys, found.values):
        raise Unsupported(f"OpenVINO keeps keys and values as {found.kept_in} here, not as {asked.kept_in}")
