# SPDX-License-Identifier: Apache-2.0
"""Which files lie under a folder of results, and what tells that one of them has changed."""

from __future__ import annotations

import hashlib
import marshal
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

DEPTH = 4
"""Folders between the root and a record: device, model, engine with scheme, suite."""
RUNS_DEPTH = 2
YOUNG_NS = 2 * 10**9
"""A file that changed less than this before it was looked at may change again without another time (FAT keeps two
seconds, ext4 a clock tick): its stamp says nothing, and it is read again next time."""
UNSURE = ""
"""The stamp of such a file."""
PARTS = 2
"""Processes that look at files beside this one: the smallest machines have two CPUs."""


Seen = tuple[int, ...]
"""Of one file its size, times of change of content and of inode, and inode; nothing where these may be young."""


@dataclass(frozen=True)
class Folder:
    """The JSON files of one folder."""

    path: str
    """Relative to the root, with `/` between its parts."""
    seen: dict[str, Seen]
    """By file name."""

    @cached_property
    def stamps(self) -> dict[str, str]:
        """The same as texts."""
        return {name: " ".join(map(str, seen)) for name, seen in self.seen.items()}

    @property
    def digest(self) -> str:
        """Equal for equal listings, and equal to none where a stamp is unsure."""
        if () in self.seen.values():
            return UNSURE
        lines = marshal.dumps(sorted(self.seen.items()), 2)  # of that version equal values have equal bytes
        return hashlib.blake2b(lines, digest_size=16).hexdigest()


def folders(root: Path, runs: str) -> list[str]:
    """Every folder that may hold records, and every device's folder of that name, which holds the ends of its runs."""
    return [*_below(root, DEPTH), *(path for path in _below(root, RUNS_DEPTH) if path.rpartition("/")[2] == runs)]


def listed(root: Path, folder: str) -> Folder:
    """What lies in one folder now."""
    seen: dict[str, Seen] = {}
    young = time.time_ns() - YOUNG_NS
    try:
        with _entries(root / folder) as entries:
            for entry in entries:
                name = entry.name
                if not name.endswith(".json"):
                    continue
                try:
                    found = entry.stat()
                except OSError:  # a link to nowhere: reading it says so
                    seen[name] = ()
                    continue
                changed, inode_changed = found.st_mtime_ns, found.st_ctime_ns
                old = changed <= young and inode_changed <= young
                seen[name] = (found.st_size, changed, inode_changed, found.st_ino) if old else ()
    except OSError:
        return Folder(folder, {})
    return Folder(folder, seen)


@contextmanager
def _entries(path: Path) -> Iterator[Iterator[os.DirEntry[str]]]:
    """What lies in a folder, by its descriptor where the system can: then no file's path is looked up as a whole."""
    if os.scandir not in os.supports_fd:
        with os.scandir(path) as entries:
            yield entries
        return
    opened = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with os.scandir(opened) as entries:
            yield entries
    finally:
        os.close(opened)


class Digests:
    """The digest of every folder's listing, made by processes of its own while this one loads its code.

    Looking at a hundred thousand files takes half a second of CPU. Where processes cannot be forked safely it is done
    here.
    """

    def __init__(self, root: Path, runs: str) -> None:
        self._root, self._runs = root, runs
        self._helpers: list[tuple[int, int]] = []
        """Of each process its number and the pipe that its part comes through."""
        if has_one_thread():
            for part in range(PARTS):
                self._begin(part)

    def _begin(self, part: int) -> None:
        try:
            pipe, theirs = os.pipe()
            process = os.fork()
        except OSError:
            return
        if process == 0:
            try:
                os.close(pipe)
                with os.fdopen(theirs, "wb") as file:
                    file.write(marshal.dumps(self._found(part, PARTS)))
            finally:
                os._exit(0)
        os.close(theirs)
        self._helpers.append((process, pipe))

    def get(self) -> dict[str, str]:
        """By folder; called once."""
        parts = [_told(*helper) for helper in self._helpers]
        if len(parts) < PARTS or None in parts:  # one could not be begun, or was ended from outside
            return self._found()
        return {path: digest for part in parts for path, digest in (part or {}).items()}

    def _found(self, part: int = 0, parts: int = 1) -> dict[str, str]:
        mine = folders(self._root, self._runs)[part::parts]
        return {path: listed(self._root, path).digest for path in mine}


def _told(process: int, pipe: int) -> dict[str, str] | None:
    """What a process has found, None where it was ended before it had told all."""
    with os.fdopen(pipe, "rb") as file:
        told = file.read()
    os.waitpid(process, 0)
    try:
        found: dict[str, str] = marshal.loads(told)  # noqa: S302 - from our own process
    except (EOFError, ValueError, TypeError):
        return None
    return found


def has_one_thread() -> bool:
    """Whether this process may be forked: another thread, a library's own too, could hold a lock for ever."""
    try:
        return sys.platform == "linux" and len(list(Path("/proc/self/task").iterdir())) == 1
    except OSError:
        return False


def _below(root: Path, depth: int) -> list[str]:
    """Folders so many levels down."""
    found = [""]
    for _ in range(depth):
        found = [f"{above}/{entry}" if above else entry for above in found for entry in _folders(root / above)]
    return found


def _folders(path: Path) -> list[str]:
    try:
        with os.scandir(path) as entries:
            return [entry.name for entry in entries if entry.is_dir()]
    except OSError:  # not there, no folder, or not ours to read: nothing is in it
        return []
