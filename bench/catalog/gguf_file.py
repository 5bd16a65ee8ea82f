# SPDX-License-Identifier: Apache-2.0
"""Read the header of a GGUF file: its metadata and its list of tensors. No library is needed, no weights are loaded.

The format is written down in ggml's docs/gguf.md: magic, version, counts, key-value pairs, tensor records, padding,
data. Long arrays (the tokenizer's) are skipped, only their lengths are kept, so that a header of any vocabulary is
read in well under a second.
"""

from __future__ import annotations

import math
import mmap
import struct
from dataclasses import dataclass
from pathlib import Path

from pydantic import JsonValue

MAGIC = b"GGUF"
SCALARS = {0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q", 11: "<q", 12: "<d"}
STRING, ARRAY = 8, 9
SHORT = 1024
"""Longest array of numbers whose values are kept (one for each layer); of a longer one the length alone."""
SHORT_TEXTS = 64
"""The same of any other array: a tokenizer's texts are nobody's business here."""
BLOCKS = {
    0: ("F32", 1, 4), 1: ("F16", 1, 2), 2: ("Q4_0", 32, 18), 3: ("Q4_1", 32, 20), 6: ("Q5_0", 32, 22),
    7: ("Q5_1", 32, 24), 8: ("Q8_0", 32, 34), 9: ("Q8_1", 32, 36), 10: ("Q2_K", 256, 84), 11: ("Q3_K", 256, 110),
    12: ("Q4_K", 256, 144), 13: ("Q5_K", 256, 176), 14: ("Q6_K", 256, 210), 15: ("Q8_K", 256, 292),
    16: ("IQ2_XXS", 256, 66), 17: ("IQ2_XS", 256, 74), 18: ("IQ3_XXS", 256, 98), 19: ("IQ1_S", 256, 50),
    20: ("IQ4_NL", 32, 18), 21: ("IQ3_S", 256, 110), 22: ("IQ2_S", 256, 82), 23: ("IQ4_XS", 256, 136),
    24: ("I8", 1, 1), 25: ("I16", 1, 2), 26: ("I32", 1, 4), 27: ("I64", 1, 8), 28: ("F64", 1, 8),
    29: ("IQ1_M", 256, 56), 30: ("BF16", 1, 2), 34: ("TQ1_0", 256, 54), 35: ("TQ2_0", 256, 66), 39: ("MXFP4", 32, 17),
}  # fmt: skip
"""Tensor type number to its name, its elements per block and its bytes per block (ggml.h, gguf's constants)."""
MOST_PAIRS, MOST_TENSORS, MOST_ITEMS = 1 << 16, 1 << 20, 1 << 22
"""Of a header; real ones have some dozens, some thousands, and as many as a vocabulary has merges. What says more is
damaged, and would be read for hours."""
MOST_TEXT = 1 << 24
"""Bytes of one text: the longest are chat templates of some thousands."""
MOST_DIMENSIONS, MOST_NESTING = 8, 2
MOST_ALIGNMENT = 1 << 20
FILE_TYPES = {0: "F32", 1: "F16", 2: "Q4_0", 3: "Q4_1", 7: "Q8_0", 8: "Q5_0", 9: "Q5_1", 10: "Q2_K", 11: "Q3_K_S",
              12: "Q3_K_M", 13: "Q3_K_L", 14: "Q4_K_S", 15: "Q4_K_M", 16: "Q5_K_S", 17: "Q5_K_M", 18: "Q6_K",
              25: "IQ4_NL", 30: "IQ4_XS", 32: "BF16", 38: "MXFP4_MOE"}  # fmt: skip
"""`general.file_type` to its name (llama.h, llama_ftype)."""
FILE_NUMBERS = {name: number for number, name in FILE_TYPES.items()}
"""The same by name."""


class BadGguf(ValueError):
    """The file is no GGUF, or not all of one; the message says which, with both figures where there are two."""


class CutShort(BadGguf):
    """The header goes on behind the bytes that were given."""


@dataclass(frozen=True)
class Tensor:
    """One tensor's record."""

    name: str
    shape: tuple[int, ...]
    """Output features first, as in PyTorch (GGUF itself stores the reverse)."""
    type: str
    offset: int
    """Bytes from the start of the data."""

    @property
    def elements(self) -> int:
        """How many values."""
        return math.prod(self.shape)

    @property
    def bytes(self) -> int:
        """Bytes in the file and, unless the engine repacks, in memory."""
        return type_bytes(self.type, self.elements)


@dataclass(frozen=True)
class Gguf:
    """A file's header."""

    metadata: dict[str, JsonValue]
    """Scalars and short arrays as they are; a longer array is its length."""
    tensors: tuple[Tensor, ...]

    def whole(self, key: str, otherwise: int) -> int:
        """The integer under a key, `otherwise` where there is none."""
        value = self.metadata.get(key)
        return int(value) if isinstance(value, int | float) and math.isfinite(value) else otherwise

    @property
    def architecture(self) -> str:
        """llama.cpp's name of it."""
        return str(self.metadata.get("general.architecture", "unknown"))

    @property
    def file_type(self) -> str:
        """How it says its weights are stored (`Q4_K_M`), else the type that holds most elements."""
        named = FILE_TYPES.get(self.whole("general.file_type", -1))
        if named:
            return named
        counts: dict[str, int] = {}
        for tensor in self.tensors:
            counts[tensor.type] = counts.get(tensor.type, 0) + tensor.elements
        return max(counts, key=lambda name: counts[name], default="unknown")

    @property
    def bytes(self) -> int:
        """Bytes of all tensors."""
        return sum(tensor.bytes for tensor in self.tensors)


def type_bytes(name: str, elements: int) -> int:
    """Bytes of so many elements of a tensor type, whole blocks."""
    block, size = next((block, size) for known, block, size in BLOCKS.values() if known == name)
    return -(-elements // block) * size


class _Cursor:
    """Reads little-endian values one after the other, from the beginning of a file of `size` bytes."""

    def __init__(self, data: mmap.mmap | bytes, size: int) -> None:
        self.data, self.size, self.at = data, size, 0

    def _ends(self) -> CutShort:
        return CutShort(f"truncated: the header ends at byte {len(self.data)}")

    def scalar(self, form: str) -> float:
        """One number, an integer or a truth value where the form says so."""
        try:
            value: float = struct.unpack_from(form, self.data, self.at)[0]
        except struct.error:
            raise self._ends() from None
        self.at += struct.calcsize(form)
        return value

    def whole(self, form: str) -> int:
        """One unsigned integer."""
        return int(self.scalar(form))

    def count(self, form: str, most: int, what: str) -> int:
        """How many of something follow. Raises BadGguf for more than any file has."""
        found = self.whole(form)
        if found > most:
            raise BadGguf(f"damaged: its header promises {found} {what}, more than {most}")
        return found

    def string(self) -> str:
        """Length and bytes."""
        length = self.whole("<Q")
        if self.at + length > self.size:
            raise BadGguf(f"truncated: the header ends at byte {self.size}")
        if length > MOST_TEXT:
            raise BadGguf(f"damaged: its header promises a text of {length} bytes")
        if self.at + length > len(self.data):
            raise self._ends()
        text = self.data[self.at : self.at + length]
        self.at += length
        return text.decode("utf-8", errors="replace")

    def value(self, kind: int, within: int = 0) -> JsonValue:
        """A value of any type."""
        if kind == STRING:
            return self.string()
        if kind in SCALARS:
            return self.scalar(SCALARS[kind])
        if kind != ARRAY or within >= MOST_NESTING:
            raise BadGguf(f"not a GGUF this reader knows: value type {kind} in {within} arrays")
        inner, count = self.whole("<I"), self.whole("<Q")
        if inner in SCALARS and count > SHORT:
            self.at += count * struct.calcsize(SCALARS[inner])
            if self.at > self.size:
                raise BadGguf(f"truncated: the header ends at byte {self.size}")
            return count
        if count > MOST_ITEMS and self.at + count <= self.size:
            raise BadGguf(f"damaged: its header promises an array of {count} values, more than {MOST_ITEMS}")
        values: list[JsonValue] = []
        most = SHORT if inner in SCALARS else SHORT_TEXTS
        for index in range(count):
            value = self.value(inner, within + 1)
            if index < most:
                values.append(value)
        return values if count <= most else count


def read(path: Path) -> Gguf:
    """The header of a GGUF file. Raises BadGguf if it is none or is cut short, OSError if it cannot be read."""
    size = path.stat().st_size
    if size < len(MAGIC):
        raise BadGguf(f"not a GGUF file: it has {size} bytes")
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        return parse(data, size)


def parse(data: mmap.mmap | bytes, size: int) -> Gguf:
    """The header in the first bytes of a file of `size` bytes.

    Raises CutShort where it goes on behind them, BadGguf where the file is none or is cut short.
    """
    if data[:4] != MAGIC:
        raise BadGguf("not a GGUF file: it does not begin with GGUF")
    cursor = _Cursor(data, size)
    cursor.at = 4
    version = cursor.whole("<I")
    if version not in {2, 3}:
        raise BadGguf(f"GGUF version {version} is not 2 or 3")
    count, pairs = cursor.count("<Q", MOST_TENSORS, "tensors"), cursor.count("<Q", MOST_PAIRS, "fields")
    metadata: dict[str, JsonValue] = {}
    for _ in range(pairs):
        key = cursor.string()
        metadata[key] = cursor.value(cursor.whole("<I"))
    tensors = tuple(_tensor(cursor) for _ in range(count))
    alignment = Gguf(metadata, tensors).whole("general.alignment", 32)
    if not 0 < alignment <= MOST_ALIGNMENT:
        raise BadGguf(f"damaged: field 'general.alignment' is {alignment}")
    start = -(-cursor.at // alignment) * alignment
    wanted = max((start + tensor.offset + tensor.bytes for tensor in tensors), default=start)
    if wanted > size:
        raise BadGguf(f"truncated: its header promises {wanted} bytes, the file has {size}")
    return Gguf(metadata, tensors)


def _tensor(cursor: _Cursor) -> Tensor:
    name = cursor.string()
    named = name[:80]
    shape = tuple(
        cursor.whole("<Q") for _ in range(cursor.count("<I", MOST_DIMENSIONS, f"dimensions of tensor {named}"))
    )
    kind, offset = cursor.whole("<I"), cursor.whole("<Q")
    if not all(shape):
        raise BadGguf(f"damaged: tensor {named} has a dimension of 0")
    if kind not in BLOCKS:
        raise BadGguf(f"tensor {named} has type {kind}, which this reader does not know")
    return Tensor(name, shape[::-1], BLOCKS[kind][0], offset)
