# SPDX-License-Identifier: Apache-2.0
"""Let only one harness measure on a device at a time. The kernel releases the lock file when its holder ends.

The lock is `flock` on a file of this machine's cache; what the file says is only for people, so a file left behind
by a crash means nothing. Two harnesses with different caches do not see each other: what they cost one another shows
as other processes' use of the CPU or GPU.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from bench.errors import UserError
from bench.paths import cache_folder


def lock_path(device: str) -> Path:
    """The lock file of a device."""
    return cache_folder() / "locks" / f"{device}.lock"


@contextlib.contextmanager
def measuring(device: str, *, wait: bool, tell: Callable[[str], None]) -> Iterator[None]:
    """Hold a device's lock. While another holds it, say so once and wait, or refuse.

    Raises UserError naming the holder when told not to wait. Where the platform has no `flock` nothing is locked.
    """
    try:
        import fcntl
    except ImportError:  # Windows
        yield
        return
    path = lock_path(device)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            holder = file.read().strip() or "unknown"
            text = f"another bench (process {holder}) measures on {device}"
            if not wait:
                raise UserError(text, "wait for it, or leave --no-wait out") from None
            tell(f"{text}: waiting for it")
            fcntl.flock(file, fcntl.LOCK_EX)
        file.seek(0)
        file.truncate()
        file.write(f"{os.getpid()}\n")
        file.flush()
        try:
            yield
        finally:
            file.seek(0)
            file.truncate()
