# SPDX-License-Identifier: Apache-2.0
"""Which files lie under a folder of results, and what tells that one of them has changed."""

from __future__ import annotations

import hashlib
import marshal
import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path

DEPTH = 4
"""Folders between the root and a record: device, model, engine with scheme, suite."""
RUNS_DEPTH = 2
YOUNG_NS = 2 * 10**9
"""A file that changed less than this before it was looked at may change again without another time (FAT keeps two
seconds, ext4 a clock tick): its stamp says nothing, and it is read again next time."""
UNSURE = ""
"""The stamp of such a file."""


@dataclass(frozen=True, slots=True)
class Folder:
    """The JSON files of one folder."""

    path: str
    """Relative to the root, with `/` between its parts."""
    stamps: dict[str, str]
    """By file name: size, times of change of content and of inode, and inode."""

    @property
    def digest(self) -> str:
        """Equal for equal listings, and equal to none where a stamp is unsure."""
        if UNSURE in self.stamps.values():
            return UNSURE
        lines = marshal.dumps(sorted(self.stamps.items()), 2)  # of that version equal values have equal bytes
        return hashlib.blake2b(lines, digest_size=16).hexdigest()


def folders(root: Path, runs: str) -> list[str]:
    """Every folder that may hold records, and every device's folder of that name, which holds the ends of its runs."""
    return [*_below(root, DEPTH), *(path for path in _below(root, RUNS_DEPTH) if path.rpartition("/")[2] == runs)]


def listed(root: Path, folder: str) -> Folder:
    """What lies in one folder now."""
    stamps: dict[str, str] = {}
    young = time.time_ns() - YOUNG_NS
    try:
        with os.scandir(root / folder) as entries:
            for entry in entries:
                name = entry.name
                if not name.endswith(".json"):
                    continue
                try:
                    seen = entry.stat()
                except OSError:  # a link to nowhere: reading it says so
                    stamps[name] = UNSURE
                    continue
                changed, inode_changed = seen.st_mtime_ns, seen.st_ctime_ns
                if changed > young or inode_changed > young:
                    stamps[name] = UNSURE
                else:
                    stamps[name] = f"{seen.st_size} {changed} {inode_changed} {seen.st_ino}"
    except OSError:
        return Folder(folder, {})
    return Folder(folder, stamps)


class Digests:
    """The digest of every folder's listing, made by a process of its own while this one loads its code.

    Looking at a hundred thousand files takes half a second. Where processes cannot be forked safely it is done here.
    """

    def __init__(self, root: Path, runs: str) -> None:
        self._root, self._runs = root, runs
        self._pipe, self._process = -1, 0
        if _has_one_thread():
            self._begin()

    def _begin(self) -> None:
        try:
            pipe, theirs = os.pipe()
            self._process = os.fork()
        except OSError:
            return
        if self._process == 0:
            try:
                os.close(pipe)
                with os.fdopen(theirs, "wb") as file:
                    file.write(marshal.dumps(self._found()))
            finally:
                os._exit(0)
        os.close(theirs)
        self._pipe = pipe

    def get(self) -> dict[str, str]:
        """By folder; called once."""
        if not self._process:
            return self._found()
        with os.fdopen(self._pipe, "rb") as file:
            told = file.read()
        os.waitpid(self._process, 0)
        try:
            found: dict[str, str] = marshal.loads(told)  # noqa: S302 - from our own process
        except (EOFError, ValueError, TypeError):  # it was ended from outside
            return self._found()
        return found

    def _found(self) -> dict[str, str]:
        return {path: listed(self._root, path).digest for path in folders(self._root, self._runs)}


def _has_one_thread() -> bool:
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
