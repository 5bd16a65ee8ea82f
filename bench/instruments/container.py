# SPDX-License-Identifier: Apache-2.0
"""The limits of this process's control groups (cgroups v1 and v2) on memory and CPUs. Only reads.

A group's limit binds everything below it, so the strictest on the way up counts. In a container the path that the
kernel tells may not be there: then the mounted root is the container's own group.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")
KILLS = {1: "memory.oom_control", 2: "memory.events"}
"""By version, the file that counts a group's kills as `oom_kill`."""
VMSTAT = Path("/proc/vmstat")
UNLIMITED = 2**60
"""Version 1 writes the largest number of whole pages where there is no limit."""


@dataclass(frozen=True)
class Quota:
    """The share of the CPUs that a group may use, and how often it has been stopped for it."""

    cpus: float
    throttled: int | None


def limit_bytes() -> int | None:
    """The strictest memory limit, None if there is no limit or it is unknown."""
    found = (_limit(folder, version) for folder, version in _groups("memory"))
    return min((limit for limit in found if limit is not None), default=None)


def left_bytes() -> int | None:
    """Bytes that the strictest group can still take, including page cache it can drop; None if there is no limit."""
    found = (_left(folder, version) for folder, version in _groups("memory"))
    return min((left for left in found if left is not None), default=None)


def oom_kills() -> int | None:
    """How often the kernel killed a process for lack of memory, of this group if it counts them; None if neither.

    The groups' own counters hold every kill of theirs, whether a limit or the whole machine ran out. The root group has
    none: there the machine's counter is asked.
    """
    found = (field(folder / KILLS[version], "oom_kill") for folder, version in _groups("memory"))
    return next((kills for kills in found if kills is not None), field(VMSTAT, "oom_kill"))


def quota() -> Quota | None:
    """The strictest CPU quota, None if there is none."""
    found = []
    for folder, version in _groups("cpu"):
        if version == 2:
            share, _, per = (text(folder / "cpu.max") or "").partition(" ")
        else:
            share, per = (text(folder / f"cpu.cfs_{name}_us") or "" for name in ("quota", "period"))
        if share.isdigit() and per.isdigit() and int(per):
            found.append(Quota(int(share) / int(per), field(folder / "cpu.stat", "nr_throttled")))
    return min(found, key=lambda one: one.cpus, default=None)


def _groups(controller: str) -> Iterator[tuple[Path, int]]:
    """The groups that account for this process, its own first, each with its version."""
    for line in (text(Path("/proc/self/cgroup")) or "").splitlines():
        _, controllers, path = line.split(":", 2)
        if controller in controllers.split(","):
            roots, version = [CGROUPS / controller, CGROUPS / controllers], 1
        elif not controllers:
            roots, version = [CGROUPS], 2
        else:
            continue
        root = next((place for place in roots if place.is_dir()), None)
        if root is None:
            continue
        folder = root / path.lstrip("/")
        folder = folder if ".." not in folder.parts and folder.is_dir() else root
        while True:
            yield folder, version
            if folder == root:
                break
            folder = folder.parent


def _limit(folder: Path, version: int) -> int | None:
    limit = text(folder / ("memory.max" if version == 2 else "memory.limit_in_bytes")) or ""
    return int(limit) if limit.isdigit() and int(limit) < UNLIMITED else None


def _left(folder: Path, version: int) -> int | None:
    limit = _limit(folder, version)
    used = text(folder / ("memory.current" if version == 2 else "memory.usage_in_bytes")) or ""
    if limit is None or not used.isdigit():
        return limit
    cache = field(folder / "memory.stat", "inactive_file" if version == 2 else "total_inactive_file") or 0
    return max(0, limit - int(used) + cache)


def field(path: Path, name: str) -> int | None:
    """The number after a name, in a file with lines of the form `name number`."""
    for line in (text(path) or "").splitlines():
        key, _, value = line.partition(" ")
        if key == name and value.strip().isdigit():
            return int(value)
    return None


def text(path: Path) -> str | None:
    """The text of one of the kernel's files, None if it cannot be read."""
    try:
        return path.read_text(encoding="utf-8").strip()
    except OSError:
        return None
