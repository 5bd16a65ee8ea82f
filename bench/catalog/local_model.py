# SPDX-License-Identifier: Apache-2.0
"""A model on disk that is not in the catalogue, described by its own files."""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path

from pydantic import JsonValue

from bench.catalog import gguf_folder, gguf_model
from bench.catalog.gguf_file import MAGIC
from bench.catalog.model import Kind, Model, Objective
from bench.errors import UserError
from bench.units import slug

OBJECTIVES = {"bert": Objective.MASKED, "t5": Objective.SEQ2SEQ}
"""What architectures that are not causal predict, for models that no catalogue describes."""


class Format(StrEnum):
    """How weights lie on a disk."""

    HUB = "a folder in Hub layout"
    GGUF = "a GGUF file"


def formats(path: Path) -> frozenset[Format]:
    """What a path holds; a folder may hold both, and what is no model holds nothing."""
    if path.is_file():
        return frozenset({Format.GGUF} if path.suffix == ".gguf" or _begins_as_gguf(path) else ())
    hub = any((path / name).is_file() for name in ("config.json", "adapter_config.json"))
    return frozenset([Format.HUB] * hub + [Format.GGUF] * any(path.glob("*.gguf")))


def _begins_as_gguf(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(len(MAGIC)) == MAGIC
    except OSError:
        return False


def own_model(path: Path, base: Path | None = None) -> Model:
    """An entry for a folder in Hub layout (an adapter's with its base), a GGUF file or a folder of them.

    Raises UserError if it is none of these.
    """
    adapter = (path / "adapter_config.json").is_file()
    if adapter and base is None:
        raise UserError(f"{path} is an adapter and nothing without its base", "pass --base FOLDER")
    config = _architecture(base if adapter and base else path)
    header = gguf_model.header_in(config)
    return Model(
        name=slug(path.stem if path.is_file() else path.name), display=path.name, family="own", organisation="-",
        kind=Kind.ADAPTER if adapter else Kind.OPEN,
        objective=OBJECTIVES.get(str(config.get("model_type")), Objective.CAUSAL), repo=f"local/{path.name}",
        architecture=config, parameters=header.elements if header else None,
    )  # fmt: skip


def gguf_config(path: Path) -> dict[str, JsonValue]:
    """What the header of a GGUF tells, or those of a folder's files of one model. Raises UserError."""
    return gguf_model.config([found.header for found in gguf_folder.models_of(path)])


def _architecture(path: Path) -> dict[str, JsonValue]:
    """Its config as transformers would write it, of a GGUF what its header tells."""
    if path.is_file() or formats(path) == {Format.GGUF}:
        return gguf_config(path)
    try:
        config: dict[str, JsonValue] = json.loads((path / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path} is no model folder ({error})", "give a folder in Hub layout, or a GGUF file") from None
    return config
