# SPDX-License-Identifier: Apache-2.0
"""What weight files hold under their label, from their headers alone: types, bits a weight, embeddings and the head.

Safetensors begin with the length of a JSON header that names every tensor; GGUF with counts and records. Nothing is
loaded, and no library of tensors is needed.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.catalog import gguf_file
from bench.catalog.gguf_model import EXPERTS, expert_share
from bench.errors import UserError
from bench.records.parsing import parse_json

BITS = {
    "F64": 64, "I64": 64, "U64": 64, "F32": 32, "I32": 32, "U32": 32, "F16": 16, "BF16": 16, "I16": 16, "U16": 16,
    "F8_E4M3": 8, "F8_E5M2": 8, "F8_E8M0": 8, "I8": 8, "U8": 8, "BOOL": 8, "F6_E2M3": 6, "F6_E3M2": 6, "F4": 4,
}  # fmt: skip
"""Bits of an element by safetensors' name of its type."""
AGAIN = "download the file again"
LENGTH = struct.Struct("<Q")
LONGEST_HEADER = 100_000_000
"""Bytes: what the safetensors library allows."""
EMBEDDINGS = ("embed_tokens", "word_embeddings", "wte", "embed_in", "tok_embeddings", "token_embd", "shared.weight")
"""Parts of the names of tables that tokens are looked up in, Hub's and llama.cpp's."""
HEADS = ("lm_head", "embed_out", "output.weight")
"""Beginnings of the names of output heads; llama.cpp's is `output.weight`."""


@dataclass(frozen=True)
class Stored:
    """One tensor of a file."""

    name: str
    type: str
    elements: int
    bytes: int


@dataclass(frozen=True, kw_only=True)
class Contents:
    """All tensors of a model's weight files."""

    tensors: tuple[Stored, ...]
    label: str
    """What the files say of themselves: `Q4_K_M`, `gptq 4 bits`, `bfloat16`; empty if nothing."""
    expert_share: float = 1.0
    """Share of a mixture's experts that one token is sent through, 1 where there are none or nothing tells."""

    @property
    def bytes(self) -> int:
        """Of all tensors."""
        return sum(tensor.bytes for tensor in self.tensors)

    @property
    def elements(self) -> int:
        """Stored values; of packed formats fewer than weights."""
        return sum(tensor.elements for tensor in self.tensors)

    def shares(self) -> dict[str, float]:
        """The share of the bytes that each type has, the largest first."""
        found: dict[str, int] = {}
        for tensor in self.tensors:
            found[tensor.type] = found.get(tensor.type, 0) + tensor.bytes
        return {name: count / (self.bytes or 1) for name, count in sorted(found.items(), key=lambda item: -item[1])}

    def embedding(self) -> Stored | None:
        """The table that tokens are looked up in, None where no name tells."""
        return self._largest(tensor for tensor in self.tensors if any(part in tensor.name for part in EMBEDDINGS))

    def head(self) -> Stored | None:
        """An output head with values of its own, None where it is the embedding's table or no name tells."""
        return self._largest(tensor for tensor in self.tensors if tensor.name.startswith(HEADS))

    @staticmethod
    def _largest(found: Iterable[Stored]) -> Stored | None:
        return max(found, key=lambda tensor: tensor.bytes, default=None)

    def read_bytes(self) -> int:
        """What one generated token reads: all but a table that is only looked up in, and experts that rest.

        A table that is the head too is read.
        """
        table = self.embedding()
        looked_up = table.bytes if table is not None and self.head() is not None else 0
        experts = sum(tensor.bytes for tensor in self.tensors if EXPERTS in tensor.name)
        return self.bytes - looked_up - round((1 - self.expert_share) * experts)


def of_gguf(header: gguf_file.Gguf) -> Contents:
    """What a GGUF's header names."""
    tensors = tuple(Stored(one.name, one.type, one.elements, one.bytes) for one in header.tensors)
    return Contents(tensors=tensors, label=header.file_type, expert_share=expert_share(header))


def of_folder(folder: Path, config: Mapping[str, object]) -> Contents:
    """What the safetensors of a folder name. Raises UserError where there are none, or one is damaged."""
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise UserError(f"{folder} holds no safetensors", "other formats have no header that could be read alone")
    return Contents(tensors=tuple(one for path in files for one in _tensors(path)), label=label_of(config))


def _tensors(path: Path) -> Sequence[Stored]:
    with path.open("rb") as file:
        first = file.read(LENGTH.size)
        size = LENGTH.unpack(first)[0] if len(first) == LENGTH.size else 0
        if not 0 < size <= LONGEST_HEADER:
            raise UserError(f"{path}: no safetensors header", AGAIN)
        return parse(file.read(size), str(path))


def parse(header: bytes, name: str) -> list[Stored]:
    """The tensors of a safetensors header. Raises UserError naming the file and the tensor."""
    try:
        entries = parse_json(header.decode())
    except ValueError:
        entries = None
    if not isinstance(entries, dict):
        raise UserError(f"{name}: its safetensors header is no JSON object", AGAIN)
    found = []
    for tensor, entry in entries.items():
        if tensor == "__metadata__":
            continue
        try:
            kind, elements = str(entry["dtype"]), math.prod(int(size) for size in entry["shape"])
            start, end = (int(place) for place in entry["data_offsets"])
        except (KeyError, TypeError, ValueError, OverflowError):
            raise UserError(
                f"{name}: tensor {tensor!r} has no type, shape and place", "download the file again"
            ) from None
        if end < start or elements < 0 or (kind in BITS and end - start != -(-elements * BITS[kind] // 8)):
            raise UserError(f"{name}: tensor {tensor!r}: {elements} of {kind} in {end - start} bytes", AGAIN)
        found.append(Stored(tensor, kind, elements, end - start))
    return found


def label_of(config: Mapping[str, object]) -> str:
    """What a config says of how its weights are stored."""
    text = config.get("text_config")
    quantized = config.get("quantization_config") or (
        text.get("quantization_config") if isinstance(text, Mapping) else None
    )
    if isinstance(quantized, Mapping):
        method = str(quantized.get("quant_method", "quantized"))
        bits = quantized.get("bits") or (
            4 if quantized.get("load_in_4bit") else 8 if quantized.get("load_in_8bit") else 0
        )
        return f"{method} {bits} bits" if bits else method
    return str(config.get("dtype") or config.get("torch_dtype") or "")
