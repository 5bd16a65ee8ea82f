# SPDX-License-Identifier: Apache-2.0
"""Where things lie: the checkout's own folders, and this machine's cache of what can be made again."""

from __future__ import annotations

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CATALOG = ROOT / "catalog"
RESULTS = ROOT / "results"


def cache_folder() -> Path:
    """`$BENCH_CACHE`, else `bench` in the user's cache folder. Deleting it loses time, never results."""
    own, base = os.environ.get("BENCH_CACHE"), os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    folder = Path(own) if own else Path(base) / "affordable-bench"
    # A worker stands in another folder and must find the same one; where nobody has a home, `~` stays a name.
    return Path(os.path.expanduser(folder)).absolute()  # noqa: PTH111 - Path's own raises there


def reference_folder() -> Path:
    """Where the distributions of reference cells lie."""
    return cache_folder() / "reference"
