# SPDX-License-Identifier: Apache-2.0
"""Keep this machine's cache below a limit: what was not used for longest goes first, and nothing that is in use.

Whoever loads weights or reads distributions holds a shared lock on their folder or file for as long as its process
runs, and touches it (`bench.processes.in_use`). What is to go is locked alone first, and renamed before it is deleted,
so that nobody finds half of it. Whatever else the cache holds is small and stays.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
from pathlib import Path

from bench.paths import cache_folder
from bench.processes import is_unfinished, unfinished
from bench.run.cache import size

EVICTED = ("weights", "gguf", "reference", "texts")
"""Folders of the cache whose entries are large, and can be made or fetched again. A reference that another cell of this
call still needs is measured again before it, as one that was deleted is."""


def evict(limit_bytes: int) -> int:
    """Delete entries until the cache is below that, but none that is in use; returns the bytes freed."""
    root = cache_folder()
    total = size(root) if root.is_dir() else 0
    entries = [path for name in EVICTED for path in (root / name).glob("*") if not is_unfinished(path)]
    freed = 0
    for path in sorted(entries, key=_used):
        if total - freed <= limit_bytes:
            break
        freed += _take_away(path)
    return freed


def _used(path: Path) -> float:
    with contextlib.suppress(OSError):
        return path.lstat().st_mtime
    return 0.0


def _take_away(path: Path) -> int:
    """Delete one entry unless somebody uses it; returns its bytes."""
    try:
        import fcntl

        held = os.open(path, os.O_RDONLY)
    except (ImportError, OSError):
        return 0
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        there = size(path)
        gone = unfinished(path.with_name(f"{path.name}-{secrets.token_hex(3)}"))
        path.rename(gone)
    except OSError:  # it is in use, or another run takes it away
        return 0
    finally:
        os.close(held)
    if gone.is_dir() and not gone.is_symlink():
        shutil.rmtree(gone, ignore_errors=True)
    else:
        gone.unlink(missing_ok=True)
    return there
