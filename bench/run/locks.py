# SPDX-License-Identifier: Apache-2.0
"""Let only one harness measure on a device at a time. The kernel releases the lock file when its holder ends.

The lock is `flock` on a file of this machine's cache, which its holder removes. What the file says is only for people,
so a file left behind by a crash means nothing. Two harnesses with different caches do not see each other: what they
cost one another shows as other processes' use of the CPU or GPU.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO

from bench.errors import UserError
from bench.paths import cache_folder
from bench.processes import boot


def lock_path(name: str) -> Path:
    """The lock file of a device of this machine, or of a question to a server.

    Equal machines name their devices alike and may share a home. Containers of one machine share its devices.
    """
    return cache_folder() / "locks" / f"{name}-{boot()}.lock"


@contextlib.contextmanager
def measuring(
    name: str, *, wait: bool, tell: Callable[[str], None], what: str = "measures on {name}"
) -> Iterator[bool]:
    """Hold the lock of that name, and tell whether another held it. Meanwhile say so once and wait, or refuse.

    `what` says what its holder does. Raises UserError naming the holder when told not to wait. Where the platform has
    no `flock` nothing is locked.
    """
    try:
        import fcntl
    except ImportError:  # Windows
        yield False
        return
    path, waited = lock_path(name), False
    path.parent.mkdir(parents=True, exist_ok=True)
    while True:
        with path.open("a+", encoding="utf-8") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                file.seek(0)
                holder = file.read().strip() or "unknown"
                text = f"another bench (process {holder}) {what.format(name=name)}"
                if not wait:
                    raise UserError(text, "wait for it, or leave --no-wait out") from None
                if not waited:
                    tell(f"{text}: waiting for it")
                waited = True
                fcntl.flock(file, fcntl.LOCK_EX)
            if not _is(path, file):  # its holder took the file away as it ended: whoever comes now makes another
                continue
            file.truncate(0)
            file.write(f"{os.getpid()}\n")
            file.flush()
            try:
                yield waited
            finally:
                path.unlink(missing_ok=True)
            return


@contextlib.contextmanager
def measuring_on(names: Sequence[str], *, wait: bool, tell: Callable[[str], None]) -> Iterator[bool]:
    """Hold the locks of several devices, taken in one order; tells whether another held one. Raises as `measuring`."""
    with contextlib.ExitStack() as held:
        waited = [held.enter_context(measuring(name, wait=wait, tell=tell)) for name in sorted(names)]
        yield any(waited)


def sweep_locks() -> None:
    """Remove the files of locks that nobody holds: their holders were killed."""
    with contextlib.suppress(ImportError):
        import fcntl

        for path in (cache_folder() / "locks").glob("*.lock"):
            with contextlib.suppress(OSError), path.open("r+", encoding="utf-8") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if _is(path, file):
                    path.unlink()


def _is(path: Path, file: IO[str]) -> bool:
    """Whether the file that is open lies there still."""
    try:
        return os.path.samestat(path.stat(), os.fstat(file.fileno()))
    except FileNotFoundError:
        return False
