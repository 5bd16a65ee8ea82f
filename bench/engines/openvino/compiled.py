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

ROUNDED = 32
"""Activations that share a scale where they are rounded to 8 bits: OpenVINO's own choice."""
KINDS = {"f32": "fp32", "f16": "fp16", "bf16": "bf16", "u8": "int8", "i8": "int8"}
KV = {"fp16": "f16", "int8": "u8"}


@dataclass(frozen=True)
class Way:
    """How a compiled model computes, in OpenVINO's words."""

    precision: str
    """Type of products and sums where nothing is rounded: `f32`, `f16`, `bf16`."""
    cache: str
    """Type of keys and values."""
    group: int
    """Activations that share a scale beside quantized weights, 0 where they are not rounded."""

    @property
    def compute(self) -> str:
        """The type that products run in, in this project's words."""
        return "int8" if self.group else KINDS[self.precision]

    @property
    def kept_in(self) -> str:
        """The type of keys and values, in this project's words."""
        return KINDS[self.cache]


EXACT = Way("f32", "f32", 0)
"""Everything in float32: weights in fewer bits are widened before they are multiplied."""
WAYS = {
    "ov-fp32": EXACT,
    "ov-fp16": Way("f32", "f16", 0),
    "ov-bf16": Way("bf16", "f16", 0),
    "ov-int8": Way("f32", "f16", ROUNDED),
    "ov-int4": Way("f32", "f16", ROUNDED),
}


def asked_of(request: LoadRequest) -> Way:
    """How a request wants its model compiled. Raises Unsupported."""
    way = WAYS[request.scheme.name]
    if request.kv and request.kv not in KV:
        raise Unsupported(f"OpenVINO keeps keys and values here as fp16 or int8, not as {request.kv}")
    return replace(way, cache=KV[request.kv]) if request.kv else way


@functools.cache
def core() -> ov.Core:
    """OpenVINO with its plugins, once a process."""
    return ov.Core()


def compiled(model: ov.Model, way: Way, threads: int | None) -> tuple[Any, Way]:
    """The model for the CPU, and how it says that it computes."""
    options: dict[str, object] = {
        "INFERENCE_PRECISION_HINT": way.precision, "KV_CACHE_PRECISION": way.cache,
        "DYNAMIC_QUANTIZATION_GROUP_SIZE": way.group, "NUM_STREAMS": 1, "PERFORMANCE_HINT": "LATENCY",
    }  # fmt: skip
    if threads:
        options["INFERENCE_NUM_THREADS"] = threads
    made = core().compile_model(model, "CPU", options)
    return made, Way(_kind(made, "INFERENCE_PRECISION_HINT"), _kind(made, "KV_CACHE_PRECISION"), _group(made))


def _kind(made: Any, name: str) -> str:
    return str(made.get_property(name).get_type_name())


def _group(made: Any) -> int:
    return int(made.get_property("DYNAMIC_QUANTIZATION_GROUP_SIZE"))


def check(asked: Way, found: Way) -> None:
    """Refuse what computes otherwise than asked: OpenVINO takes another type without a word. Raises Unsupported."""
    if asked.precision != found.precision:
        raise Unsupported(f"this CPU multiplies no {KINDS[asked.precision]}: OpenVINO would compute in {found.compute}")
    if asked.cache != found.cache:
        raise Unsupported(f"OpenVINO keeps keys and values as {found.kept_in} here, not as {asked.kept_in}")
