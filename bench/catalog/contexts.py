# SPDX-License-Identifier: Apache-2.0
"""How many positions the entries of a catalogue were made for."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from bench.catalog.architecture import context_length
from bench.catalog.config import UnknownArchitecture
from bench.catalog.entries import read_catalog
from bench.paths import CATALOG


def longest_context(folder: Path = CATALOG) -> Callable[[str], int | None]:
    """By an entry's name the positions that its architecture allows; None without a limit, or where it is not known."""
    models = {model.name: model for model in read_catalog(folder)}

    def longest(name: str) -> int | None:
        model = models.get(name)
        try:
            return context_length(model.architecture) if model and model.architecture else None
        except UnknownArchitecture:
            return None

    return longest
