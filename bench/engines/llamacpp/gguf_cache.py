# SPDX-License-Identifier: Apache-2.0
"""GGUF files that are made once and cached. When the cache is full, the least recently used file goes first."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

from bench.errors import UserError
from bench.paths import cache_folder
from bench.processes import in_use, sweep, unfinished

LIMIT_BYTES = 48 << 30
"""Bytes of made files that stay; about one 7B model at every scheme. `BENCH_GGUF_CACHE_BYTES` overrides it."""
SPARE_BYTES = 256 << 20
"""Room that a disk keeps after a file is made."""


def folder() -> Path:
    """Where made GGUF files lie."""
    return cache_folder() / "gguf"


def made(name: str, needed_bytes: int, write: Callable[[Path], None]) -> Path:
    """The cached file `name`, written by `write(path)` if it is not there.

    It is written under a temporary name and renamed when complete, so that a full disk, a crash or a kill leaves no
    half file; what a killed process left is removed by the next one. Raises UserError when there is no room.
    """
    target = folder() / name
    if target.is_file() and in_use(target):
        return target
    part = unfinished(target)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        sweep(folder().glob("*.part*"))
        _make_room(needed_bytes)
        write(part)
        part.replace(target)
    except OSError as error:
        raise UserError(
            f"cannot write {name} into {target.parent}: {error.strerror or error}", "free space, or set BENCH_CACHE"
        ) from None
    finally:
        part.unlink(missing_ok=True)
    in_use(target)
    return target


def _make_room(needed: int) -> None:
    """Delete the least recently used files until the bound holds; refuse what the disk cannot take."""
    limit = int(os.environ.get("BENCH_GGUF_CACHE_BYTES", LIMIT_BYTES))
    kept = sorted(folder().glob("*.gguf"), key=lambda path: path.stat().st_mtime)
    total = sum(path.stat().st_size for path in kept) + needed
    free = shutil.disk_usage(folder()).free
    while kept and (total > limit or free < needed + SPARE_BYTES):
        oldest = kept.pop(0)
        size = oldest.stat().st_size
        oldest.unlink(missing_ok=True)
        total, free = total - size, free + size
    if free < needed + SPARE_BYTES:
        raise UserError(
            f"a GGUF of {needed / 2**30:.1f} GiB is to be made in {folder()}, where {free / 2**30:.1f} GiB are free",
            "free space, or set BENCH_CACHE to a larger disk",
        )
