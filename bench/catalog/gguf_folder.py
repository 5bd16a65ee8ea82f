# SPDX-License-Identifier: Apache-2.0
"""Which GGUF of a folder is the model: a projector, an adapter, a shard or another model may lie beside it.

What a file is, its own header says, never its name. Files of one model in several types (F16, Q8_0 …) are the same
model; where two files could each be what was meant, both are named and nothing is guessed.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.catalog import gguf_file
from bench.catalog.gguf_file import BadGguf, Gguf
from bench.errors import UserError
from bench.units import human_bytes

WIDEST = ("F32", "F16", "BF16")
"""File types that come before all others, for what is made from them loses least; the others by their bytes."""
KINDS = {"adapter": "an adapter", "mmproj": "a projector", "imatrix": "an importance matrix"}
"""`general.type` in words."""
ARCHITECTURES = {"clip": "a projector", "controlvector": "a control vector"}
"""Architectures that are no models, in files older than `general.type`."""
EMBEDDING = "token_embd.weight"
"""What every language model has, and no projector, adapter or vocabulary alone."""
MAY_LACK = frozenset({"output.weight", "rope_freqs.weight"})
"""Tensors that one converter writes and another leaves out of the same model."""


@dataclass(frozen=True)
class Found:
    """One file of a folder with its header."""

    path: Path
    header: Gguf

    @property
    def in_words(self) -> str:
        """`b.gguf (llama, Q8_0, 138 MiB)`."""
        header = self.header
        return f"{self.path.name} ({header.architecture}, {header.file_type}, {human_bytes(header.bytes)})"


def header_of(path: Path) -> Gguf:
    """The header of a GGUF. Raises UserError when the file is damaged or is none."""
    try:
        return gguf_file.read(path)
    except BadGguf as error:
        raise UserError(f"{path.name}: {error}", "get the file again, or give another") from None
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}", "check the path") from None


def no_model(header: Gguf) -> str | None:
    """What a file is instead of a whole language model, in words; None if it is one."""
    parts = header.whole("split.count", 1)
    if parts > 1:
        return f"part {header.whole('split.no', 0) + 1} of {parts} of a split model"
    kind = str(header.metadata.get("general.type", "model"))
    if kind != "model":
        return KINDS.get(kind, f"of type {kind}")
    if header.architecture in ARCHITECTURES:
        return ARCHITECTURES[header.architecture]
    if not any(tensor.name == EMBEDDING for tensor in header.tensors):
        return f"no language model (architecture {header.architecture}, no {EMBEDDING})"
    return None


def models_of(path: Path) -> list[Found]:
    """A file, or the files of a folder that hold one and the same model, each in a type of its own; widest first.

    Raises UserError where there is none, where two could be meant, and where a file is damaged.
    """
    files = [path] if path.is_file() else sorted(path.glob("*.gguf"))
    if not files:
        raise UserError(
            f"{path} holds no .gguf file",
            "convert it with llama.cpp's convert_hf_to_gguf.py, or measure the folder with --backend transformers",
        )
    every = [Found(file, header_of(file)) for file in files]
    found = sorted((one for one in every if no_model(one.header) is None), key=_width)
    if not found:
        raise UserError(_nothing(path, every), _remedy(every))
    if len({_identity(one.header) for one in found}) > 1 or _twice(found):
        raise UserError(
            f"{path} holds several models: {', '.join(one.in_words for one in found)}",
            f"give the one that is meant: --weights {shlex.quote(f'local={path}/{found[0].path.name}')}",
        )
    return found


def chosen(path: Path, stored: str | None = None) -> Found:
    """The file to take: the one that is stored as that type, else the widest. Raises as `models_of`."""
    found = models_of(path)
    return next((one for one in found if one.header.file_type == stored), found[0])


def _width(found: Found) -> tuple[int, int, str]:
    kind = found.header.file_type
    return WIDEST.index(kind) if kind in WIDEST else len(WIDEST), -found.header.bytes, found.path.name


def _identity(header: Gguf) -> tuple[object, ...]:
    """What files of one model share: architecture, name and every tensor's shape."""
    shapes = sorted((tensor.name, tensor.shape) for tensor in header.tensors if tensor.name not in MAY_LACK)
    return header.architecture, header.metadata.get("general.name"), tuple(shapes)


def _twice(found: Sequence[Found]) -> bool:
    """Whether two files store the same type: the same model twice, or two tunes of one size."""
    types = [one.header.file_type for one in found]
    return len(set(types)) < len(types)


def _nothing(path: Path, every: Sequence[Found]) -> str:
    if path.is_file():
        return f"{path.name} is {no_model(every[0].header)}"
    said = ", ".join(f"{one.path.name} is {no_model(one.header)}" for one in every)
    return f"{path} holds no whole language model: {said}"


def _remedy(every: Sequence[Found]) -> str:
    part = next((one for one in every if one.header.whole("split.count", 1) > 1), None)
    if part is None:
        return "give the model's own file"
    first = next((one for one in every if one.header.whole("split.no", 0) == 0), part)
    return f"join its parts: llama-gguf-split --merge {shlex.quote(first.path.name)} WHOLE.gguf"
