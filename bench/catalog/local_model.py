# SPDX-License-Identifier: Apache-2.0
"""A model on disk that is not in the catalogue, described by its own files."""

from __future__ import annotations

import json
from pathlib import Path

from pydantic import JsonValue

from bench.catalog import gguf_file
from bench.catalog.adapted import adapted
from bench.catalog.model import Kind, Model, Objective
from bench.errors import UserError
from bench.units import slug

OBJECTIVES = {"bert": Objective.MASKED, "t5": Objective.SEQ2SEQ}
"""What architectures that are not causal predict, for models that no catalogue describes."""


def own_model(path: Path, base: Path | None = None) -> Model:
    """An entry for a folder in Hub layout (an adapter's with its base), a GGUF file or a folder of them.

    Raises UserError if it is none of these.
    """
    adapter = (path / "adapter_config.json").is_file()
    if adapter and base is None:
        raise UserError(f"{path} is an adapter and nothing without its base", "pass --base FOLDER")
    config = _architecture(base if adapter and base else path)
    if adapter and config is not None:
        config = adapted(config, path)
    return Model(
        name=slug(path.stem if path.is_file() else path.name), display=path.name, family="own", organisation="-",
        kind=Kind.ADAPTER if adapter else Kind.OPEN,
        objective=OBJECTIVES.get(str((config or {}).get("model_type")), Objective.CAUSAL), repo=f"local/{path.name}",
        architecture=config,
    )  # fmt: skip


def _architecture(path: Path) -> dict[str, JsonValue] | None:
    """Its config as transformers would write it, None where a GGUF is of an architecture that cannot be predicted."""
    files = [path] if path.is_file() else sorted(path.glob("*.gguf"))
    if files and not (path / "config.json").is_file():
        try:
            return gguf_file.config(gguf_file.read(files[0]))
        except (OSError, ValueError) as error:
            raise UserError(f"{files[0]}: {error}", "get the file again, or give another") from None
    try:
        config: dict[str, JsonValue] = json.loads((path / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path} is no model folder ({error})", "give a folder in Hub layout, or a GGUF file") from None
    return config
