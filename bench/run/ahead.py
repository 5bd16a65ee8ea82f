# SPDX-License-Identifier: Apache-2.0
"""What a worker does before its turn: it makes ready what its load needs, and waits without working for its request.

From its first moment on it can write down where its threads stand, when it crashes or when its runner asks.
"""

from __future__ import annotations

import faulthandler
import gc
import os
import signal
import sys
from pathlib import Path

from bench.engines.registry import backend
from bench.run.request import Request, load_request

AHEAD = "--ahead"
"""Told to a worker that begins with what its request says of the load, and gets the request itself afterwards."""
READY = b'{"event": "ready"}\n'
STACKS, LAST = "stacks.txt", "last"
"""Files beside its request: where its threads stood, and that it is to end after the cell that it answers."""
DUMP_SIGNAL = getattr(signal, "SIGUSR1", signal.SIGTERM)


def tell_stacks(folder: Path) -> None:
    """Write where every thread stands into STACKS of that folder, on a crash and on DUMP_SIGNAL."""
    file = (folder / STACKS).open("w", encoding="utf-8")  # for as long as the process runs
    faulthandler.enable(file)
    if hasattr(faulthandler, "register"):
        faulthandler.register(DUMP_SIGNAL, file)


def begun_ahead(request: Request) -> bool | None:
    """Make ready what the load needs, say so, and wait for a line on stdin.

    Returns whether all is ready, None where no line came. What could not be made ready is tried again in the load,
    where its end becomes a record with its reason.
    """
    engines, ready = backend(request.backend), True
    try:
        engines.instruments(request.machine.kind)
        engines.prepare(load_request(request))
    except Exception:  # noqa: BLE001 - every ending becomes a record
        ready = False
    keep_imported()
    os.write(request.events, READY)
    return ready if sys.stdin.readline() else None


def keep_imported() -> None:
    """Collect what importing left once, then look at none of it again: a million objects, which stay as they are.

    Looking for garbage among them takes a quarter of the time of importing, and 0.1 s before each reading of memory.
    """
    gc.collect()
    gc.freeze()
    gc.enable()
