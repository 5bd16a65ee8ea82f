# SPDX-License-Identifier: Apache-2.0
"""Whether two models are of the same files, and what adding adapters to a base did to it."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import Field, FiniteFloat

from bench.records.cell import Value

WEIGHT_SUFFIXES = (".safetensors", ".bin", ".gguf")


class Merge(Value):
    """What adding one adapter to its base did, on a few tokens spread over the vocabulary.

    Mean Kullback-Leibler divergences in nats from the adapter as peft runs it beside its base, products in float32.
    """

    moved_nat: FiniteFloat
    """To the merged weights as they are stored: the cost of merging. Beyond rounding, nothing is measured."""
    adapter_nat: FiniteFloat
    """To the base without the adapter: what the adapter does."""
    rounding_nat: FiniteFloat | None
    """To the same computed in the type the base is stored in: what rounding alone moves. 0 where that is float32, None
    where that type overflows."""
    tensors: int = Field(gt=0)
    """Tensors of the adapter, each of which has its place in the base."""
    untied: bool = False
    """Whether the output head was parted from the embedding it shared memory with, for the adapter changes one."""


def same_files(ours: Mapping[str, str], theirs: Mapping[str, str]) -> bool:
    """Whether two tables of fingerprints are of the very same files, as far as both tell.

    One that holds weights alone, as older records do, is compared by weights alone; of one whose large files were
    sampled, the samples are.
    """
    if any(all(name.endswith(WEIGHT_SUFFIXES) for name in files) for files in (ours, theirs)):
        ours, theirs = (
            {name: mark for name, mark in files.items() if name.endswith(WEIGHT_SUFFIXES)} for files in (ours, theirs)
        )
    return ours.keys() == theirs.keys() and all(same_mark(mark, theirs[name]) for name, mark in ours.items())


def same_mark(this: str, other: str) -> bool:
    """Whether two fingerprints may be of one file: equal, or one is the sampled beginning of the other."""
    return this == other or this.startswith(f"{other}:") or other.startswith(f"{this}:")
