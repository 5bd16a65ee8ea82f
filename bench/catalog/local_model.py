# SPDX-License-Identifier: Apache-2.0
"""A model on disk that is not in the catalogue, described by its own files."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path

from pydantic import JsonValue

from bench.catalog import dimensions, gguf_folder, gguf_model
from bench.catalog.adapted import adapted
from bench.catalog.config import Config
from bench.catalog.gguf_file import MAGIC, Gguf
from bench.catalog.model import Kind, Model, Objective
from bench.errors import UserError
from bench.records.parsing import read_json
from bench.units import slug

FILLS_BLANKS = ("ForMaskedLM", "ForPreTraining")
"""How transformers' names of classes end whose models read both sides of a token."""
DESCRIBING = (
    "config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json",
    "added_tokens.json", "vocab.json", "adapter_config.json", "quantize_config.json", "*.index.json",
)  # fmt: skip
"""Files in Hub layout that hold an object."""
SMALL_BYTES = 4 << 20


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
    described = base if adapter and base else path
    for folder in {path, described}:
        if folder.is_dir():
            check_files(folder)
    config = _architecture(described)
    if adapter:
        config = adapted(config, path)
    header = gguf_model.header_in(config)
    return Model(
        name=slug(path.stem if path.is_file() else path.name), display=path.name, family="own", organisation="-",
        kind=Kind.ADAPTER if adapter else Kind.OPEN,
        objective=objective(config), repo=f"local/{path.name}", architecture=config,
        parameters=header.elements if header else None,
    )  # fmt: skip


def objective(config: Config) -> Objective:
    """What a model was trained to predict, by its own words: an encoder and a decoder, or the class it was saved as.

    One that says nothing counts as causal, which engines prove.
    """
    if config.get("is_encoder_decoder"):
        return Objective.SEQ2SEQ
    classes = config.get("architectures")
    saved_as = [str(name) for name in classes] if isinstance(classes, list) else []
    masked = any(name.endswith(FILLS_BLANKS) for name in saved_as) and not config.get("is_decoder")
    return Objective.MASKED if masked else Objective.CAUSAL


def gguf_config(path: Path) -> dict[str, JsonValue]:
    """What the header of a GGUF tells, or those of a folder's files of one model. Raises UserError."""
    return told_by([found.header for found in gguf_folder.models_of(path)], path)


def told_by(headers: Sequence[Gguf], path: Path) -> dict[str, JsonValue]:
    """What the headers of one model's files at `path` tell, widest first. Raises UserError where no model is so."""
    for header in headers:
        name = header.architecture
        told = ((key, header.metadata.get(f"{name}.{key}")) for key in gguf_model.KEYS)
        if name in gguf_model.FAMILIES:  # others have sizes of zero: a model without attention has no heads
            given: dict[str, JsonValue] = {gguf_model.KEYS[key]: value for key, value in told if isinstance(value, int)}
            dimensions.check({"model_type": gguf_model.FAMILIES[name], **given}, path)
    return gguf_model.config(headers)


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


def _architecture(path: Path) -> dict[str, JsonValue]:
    """Its config as transformers would write it, of a GGUF what its header tells."""
    if path.is_file() or formats(path) == {Format.GGUF}:
        return gguf_config(path)
    if not (path / "config.json").is_file():
        raise UserError(f"{path} is no model folder: no config.json", "give a folder in Hub layout, or a GGUF file")
    return read_json(path / "config.json")
