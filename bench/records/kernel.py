# SPDX-License-Identifier: Apache-2.0
"""Memory that a quantized layer's kernel needs beside the weights, as prediction must know it."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict

Moment = tuple[tuple[Literal["input", "output", "weight", "outliers"], int], ...]
"""Blocks alive at once, each as bytes for each element of what. `outliers` are the weight's columns that LLM.int8()
computes apart."""


class Kernel(BaseModel):
    """How one kernel uses memory. The default needs nothing more, like a plain matrix product."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    moments: tuple[Moment, ...] = ()
    """What a layer holds beside input, output and weight at each moment that may be its worst."""
    mapped: bool = False
    """Whether tensors stay where the checkpoint's file is mapped: one that does keeps all of the file resident, and
    what was cast or packed anew is there twice."""
    file_group_bytes: float | None = None
    """Bytes of metadata that the file has for each group of a layer packed anew, None if layers are used as they lie
    there."""
    traced: bool = False
    """Whether torch.compile traces what unpacks a layer, each layer by itself."""
