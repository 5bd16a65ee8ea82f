# SPDX-License-Identifier: Apache-2.0
"""`python fuzz/headers.py gguf|safetensors FOLDER [--runs N] [--seconds S]`: binary headers, guided by what they reach.

Atheris changes the bytes of a good header and keeps each change that runs a line of ours that none ran before, which
drawing at random rarely finds in a format of lengths and counts. A header is read or refused by the reader's own error,
within five seconds and a gigabyte; all else ends this, and the bytes lie in the folder, which is emptied at the start.
The bytes are read and nothing more, in the same order each time.
"""

from __future__ import annotations

import argparse
import json
import shutil
import struct
import sys
from collections.abc import Callable
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["bench.catalog", "bench.records.parsing"]):
    from bench.catalog import contents, gguf_file
    from bench.errors import UserError

LIMITS = ("-timeout=5", "-rss_limit_mb=1024", "-max_len=2048", "-print_final_stats=1")
SEED = 18


def text(value: str) -> bytes:
    """As GGUF writes it."""
    return struct.pack("<Q", len(value)) + value.encode()


def good_gguf() -> bytes:
    """A header with each kind of value that this reader treats apart, one tensor, and its data."""
    fields = [
        text("general.architecture") + struct.pack("<I", gguf_file.STRING) + text("llama"),
        text("general.file_type") + struct.pack("<II", 4, 2),
        text("general.alignment") + struct.pack("<II", 4, 32),
        text("llama.expert_count") + struct.pack("<II", 4, 8),
        text("llama.expert_used_count") + struct.pack("<II", 4, 2),
        text("tokenizer.ggml.tokens") + struct.pack("<IIQ", gguf_file.ARRAY, 8, 2) + text("a") + text("b"),
        text("tokenizer.ggml.scores") + struct.pack("<IIQ2f", gguf_file.ARRAY, 6, 2, 0.5, -1.0),
        text("llama.rope.freq_base") + struct.pack("<Id", 12, 1e4),
        text("nested") + struct.pack("<IIQIQB", gguf_file.ARRAY, 9, 1, 0, 1, 7),
    ]
    tensor = text("blk.0.ffn_gate_exps.weight") + struct.pack("<IQQIQ", 2, 32, 1, 2, 0)
    head = gguf_file.MAGIC + struct.pack("<IQQ", 3, 1, len(fields)) + b"".join(fields) + tensor
    return head + bytes(-len(head) % 32 + 18)


def good_safetensors() -> bytes:
    """A header of two tensors, with the length before it."""
    entries = {"__metadata__": {"format": "pt"}, "a": {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 16]},
               "lm_head.weight": {"dtype": "BF16", "shape": [4], "data_offsets": [16, 24]}}  # fmt: skip
    header = json.dumps(entries).encode()
    return struct.pack("<Q", len(header)) + header


def read_gguf(data: bytes) -> None:
    """As `bench inspect` reads it."""
    try:
        header = gguf_file.parse(data, len(data))
    except gguf_file.BadGguf:
        return
    found = contents.of_gguf(header)
    assert found.bytes == header.bytes and 0 <= found.read_bytes() <= found.bytes
    header.file_type, header.architecture  # noqa: B018 - it must not raise


def read_safetensors(data: bytes) -> None:
    """The same."""
    size = struct.unpack_from("<Q", data)[0] if len(data) >= 8 else 0
    if not 0 < size <= contents.LONGEST_HEADER:
        return
    try:
        tensors = contents.parse(data[8 : 8 + size], "odd")
    except UserError:
        return
    assert all(tensor.bytes >= 0 for tensor in tensors)


KINDS: dict[str, tuple[Callable[[], bytes], Callable[[bytes], None]]] = {
    "gguf": (good_gguf, read_gguf), "safetensors": (good_safetensors, read_safetensors),
}  # fmt: skip


def main() -> None:
    """Begin with a good header; ends the process, with 0 where all were read or refused."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kind", choices=KINDS)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--runs", type=int, default=300_000)
    parser.add_argument("--seconds", type=int, default=60)
    asked = parser.parse_args()
    good, read = KINDS[asked.kind]
    read(good())
    shutil.rmtree(asked.folder, ignore_errors=True)
    asked.folder.mkdir(parents=True)
    (asked.folder / "good").write_bytes(good())
    bounds = (f"-runs={asked.runs}", f"-max_total_time={asked.seconds}", f"-seed={SEED}")
    atheris.Setup([sys.argv[0], *LIMITS, *bounds, f"-artifact_prefix={asked.folder}/", str(asked.folder)], read)
    atheris.Fuzz()  # it ends the process


if __name__ == "__main__":
    main()
