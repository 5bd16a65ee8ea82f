# SPDX-License-Identifier: Apache-2.0
"""What processes that were killed have left on this machine: a run removes it before it measures, and after itself."""

from __future__ import annotations

from bench import processes
from bench.paths import cache_folder
from bench.records import progress
from bench.records.store import Store
from bench.run.locks import sweep_locks
from bench.run.memory_limit import sweep_groups
from bench.run.taken import Taken


def sweep(store: Store) -> None:
    """Delete half-written files and folders, the files of free locks, and control groups with all that runs in them.

    What a living process works on stays, whoever's it is (`bench.processes.left_behind`).
    """
    sweep_groups()
    sweep_locks()
    Taken(store, frozenset()).sweep()
    progress.clear_up(store.root)
    store.sweep()
    processes.sweep(cache_folder().rglob("*.part*"))
    processes.sweep(processes.temporary_folders())
