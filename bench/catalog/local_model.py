# SPDX-License-Identifier: Apache-2.0
"""A model on disk that is not in the catalogue, described by its own files."""

from __future__ import annotations

from pathlib import Path

from pydantic import JsonValue

from bench.catalog import dimensions, gguf_file
from bench.catalog.model import Kind, Model, Objective
from bench.errors import UserError
from bench.records.parsing import read_json
from bench.units import slug

OBJECTIVES = {"bert": Objective.MASKED, "t5": Objective.SEQ2SEQ}
"""What architectures that are not causal predict, for models that no catalogue describes."""
DESCRIBING = (
    "config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json",
    "added_tokens.json", "vocab.json", "adapter_config.json", "quantize_config.json", "*.index.json",
)  # fmt: skip
"""Files in Hub layout that hold an object."""
SMALL_BYTES = 4 << 20


def own_model(path: Path, base: Path | None = None) -> Model:
    """An entry for a folder in Hub layout (an adapter's with its base), a GGUF file or a folder of them.

    Raises UserError if it is none of these.
    """
    adapter = (path / "adapter_config.json").is_file()
    if adapter and base is None:
        raise UserError(f"{path} is an adapter and nothing without its base", "pass --base FOLDER")
    described = base if adapter and base else path
    for folder in {path, described}:
        if folder.is_dir():
            check_files(folder)
    config = _architecture(described)
    if described.is_file():
        dimensions.check(config or {}, described)
    return Model(
        name=slug(path.stem if path.is_file() else path.name), display=path.name, family="own", organisation="-",
        kind=Kind.ADAPTER if adapter else Kind.OPEN,
        objective=OBJECTIVES.get(str((config or {}).get("model_type")), Objective.CAUSAL), repo=f"local/{path.name}",
        architecture=config,
    )  # fmt: skip


def check_files(folder: Path) -> None:
    """Raise UserError, naming the file, where one that describes a model or its tokenizer is none that can be read.

    Libraries read these files too, and say less of what is wrong. A tokenizer's own file may be large, and is then left
    to its library: what this process has read would be counted as the model's memory.
    """
    for path in sorted(path for name in DESCRIBING for path in folder.glob(name)):
        if path.stat().st_size <= SMALL_BYTES:
            found = read_json(path)
            if path.name == "config.json":
                dimensions.check(found, path)


def _architecture(path: Path) -> dict[str, JsonValue] | None:
    """Its config as transformers would write it, None where a GGUF is of an architecture that cannot be predicted."""
    files = [path] if path.is_file() else sorted(path.glob("*.gguf"))
    if files and not (path / "config.json").is_file():
        try:
            return gguf_file.config(gguf_file.read(files[0]))
        except (OSError, ValueError) as error:
            raise UserError(f"{files[0]}: {error}", "get the file again, or give another") from None
    if not (path / "config.json").is_file():
        raise UserError(f"{path} is no model folder: no config.json", "give a folder in Hub layout, or a GGUF file")
    return read_json(path / "config.json")
