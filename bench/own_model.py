# SPDX-License-Identifier: Apache-2.0
"""A model on this disk that no catalogue names, described by its own files."""

from __future__ import annotations

import json
from pathlib import Path

from pydantic import JsonValue

from bench import gguf_file
from bench.cell import Kind, Model, slug
from bench.errors import UserError


def own_model(path: Path) -> Model:
    """An entry for a folder in Hub layout, a GGUF file or a folder of them. Raises UserError if it is neither."""
    return Model(
        name=slug(path.stem if path.is_file() else path.name),
        display=path.name,
        family="own",
        organisation="-",
        kind=Kind.OPEN,
        repo=f"local/{path.name}",
        architecture=_architecture(path),
    )


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
