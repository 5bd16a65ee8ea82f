# SPDX-License-Identifier: Apache-2.0
"""Whether two models are of the same files."""

from __future__ import annotations

from collections.abc import Mapping

WEIGHT_SUFFIXES = (".safetensors", ".bin", ".gguf")


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
