# SPDX-License-Identifier: Apache-2.0
"""Room on the disks that a run writes to, looked at before it is needed: a full disk ends a run and loses no record."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from bench.errors import UserError
from bench.paths import cache_folder
from bench.units import human_bytes

LEAST_BYTES = 64 * 1024**2
"""More than the records of any one load; a disk of the cache or of temporary files is as good as full below that."""


def require_room(results: Path, *others: Path) -> None:
    """Raise UserError where one of the disks has hardly anything left."""
    for what, folder in (("results", results), *(("the cache or temporary files", other) for other in others)):
        free = free_bytes(folder)
        if free is not None and free < LEAST_BYTES:
            raise UserError(
                f"the disk of {what} ({folder}) has {human_bytes(free)} left, and {human_bytes(LEAST_BYTES)} must be",
                "free space; every finished record is kept, and the same command goes on from here",
            )


def working_folders() -> tuple[Path, Path]:
    """Where a run writes besides its results."""
    return cache_folder(), Path(tempfile.gettempdir())


def free_bytes(folder: Path) -> int | None:
    """What this user may still write where that folder is, or will be; None where the system does not tell."""
    there = next((path for path in (folder, *folder.absolute().parents) if path.exists()), None)
    if there is None or not hasattr(os, "statvfs"):
        return None
    disk = os.statvfs(there)
    return disk.f_bavail * disk.f_frsize
