# SPDX-License-Identifier: Apache-2.0
"""Where things lie: the checkout's own folders, and this machine's cache of what can be made again."""

from __future__ import annotations

import os
from pathlib import Path

from bench.errors import UserError

ROOT = Path(__file__).resolve().parent.parent
CATALOG = ROOT / "catalog"
RESULTS = ROOT / "results"


def cache_folder() -> Path:
    """`$BENCH_CACHE`, else `bench` in the user's cache folder. Deleting it loses time, never results."""
    own, base = os.environ.get("BENCH_CACHE"), os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    folder = Path(own) if own else Path(base) / "affordable-bench"
    try:
        return folder.expanduser().absolute()  # a worker stands in another folder and must find the same one
    except RuntimeError:
        raise UserError("no home folder to keep a cache in", "set BENCH_CACHE to a folder") from None


def reference_folder() -> Path:
    """Where the distributions of reference cells lie."""
    return cache_folder() / "reference"
