# SPDX-License-Identifier: Apache-2.0
"""Which files a model was read from, to the last byte: what a record says of them, and what names a copy made of them.

Weights alone do not make a model. The same tensors with another `rope_theta`, `lora_alpha` or tokenizer answer
otherwise, so every file that transformers or peft reads is told. A record, a cached merge and a journal that hold equal
fingerprints are of one model.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import time
from pathlib import Path

from bench.errors import UserError
from bench.paths import cache_folder
from bench.processes import write_whole
from bench.records.cell import digest

WEIGHT_FILES = ("*.safetensors", "*.bin")
DECIDING = (
    "config.json", "generation_config.json", "adapter_config.json", "*.index.json", "tokenizer*", "added_tokens.json",
    "special_tokens_map.json", "vocab*", "merges.txt", "*.model", "*.tiktoken", "chat_template*", "*.py",
)  # fmt: skip
"""What decides an answer beside the weights. Model cards and what a trainer left behind decide nothing."""
SAMPLE = 1 << 20
"""Bytes at the head and the tail of a file that are hashed apart from the rest."""
RACE_S = 2.0
"""A file changed so lately may change again within the clock tick of its time stamp: its hash is not remembered."""


def weight_files(folder: Path) -> list[Path]:
    """The weight files of a folder, safetensors alone where there are any. Raises UserError if it holds none."""
    for pattern in WEIGHT_FILES:
        files = sorted(folder.glob(pattern))
        if files:
            return files
    raise UserError(f"{folder} holds no weights", "it needs *.safetensors or pytorch_model*.bin")


def fingerprints(folder: Path) -> dict[str, str]:
    """By name, the fingerprint of every file of a folder that decides what its model answers. Raises UserError."""
    deciding = {path for pattern in DECIDING for path in folder.glob(pattern) if path.is_file()}
    return {path.name: fingerprint(path) for path in [*weight_files(folder), *sorted(deciding)]}


def fingerprint(path: Path) -> str:
    """`size:sha256` (12 digits) over a file's first and last MiB, for a larger one `:sha256` of all of it as well.

    The first hash is what older records hold of a large file. A large file is read whole once, and again when its time
    stamps, size or inode change: the time of the last change of an inode cannot be set back as that of its content can.
    """
    stat = path.stat()
    with path.open("rb") as file:
        head = file.read(SAMPLE)
        file.seek(max(0, stat.st_size - SAMPLE))
        tail = file.read(SAMPLE)
    mark = f"{stat.st_size}:{hashlib.sha256(head + tail).hexdigest()[:12]}"
    return mark if stat.st_size <= 2 * SAMPLE else f"{mark}:{_whole(path, stat)}"


def _whole(path: Path, stat: os.stat_result) -> str:
    """First 12 digits of the hash of a large file, remembered in the cache under its path."""
    now = [stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns]
    note = cache_folder() / "fingerprints" / f"{digest(str(path.resolve()))}.json"
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        held = json.loads(note.read_text(encoding="utf-8"))
        if held["stat"] == now:
            return str(held["sha256"])
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()[:12]
    if time.time() - max(stat.st_mtime, stat.st_ctime) > RACE_S:
        with contextlib.suppress(OSError):  # a full or read-only cache costs the time, not the answer
            write_whole(note, json.dumps({"stat": now, "sha256": found}))
    return found
