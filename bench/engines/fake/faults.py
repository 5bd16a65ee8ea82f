# SPDX-License-Identifier: Apache-2.0
"""The fake backend's faults, done where `BENCH_FAKE_FAULT=kind@point[:scheme][#n]` asks for them, with #n once.

Kinds: crash, kill, hang (hang0.5: half a second), deaf (hangs and hears no TERM), wait:PIPE (until somebody writes into
it), hoard (takes real memory, so that a real limit kills), leak (keeps a megabyte each time), garbage, error, memory,
crowd (memory ends with usual batches), unsupported, nan (no logit is a number from there on), wide (16 bits a weight,
whatever was asked for).
Points: load, census, prefill, log_probs, score, generate (a step of answers side by side).
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from bench.engines.contract import DoesNotFit, Unsupported

HOARD_BYTES = 10**9
HANG_S = 3600
_REACHED: Counter[str] = Counter()
"""How often this process has come to the point of a fault."""


def misbehave(point: str, scheme: str) -> str:
    """Do what is asked for at this point; returns the kind where that is the engine's own to show, else nothing."""
    kind, _, where = os.environ.get("BENCH_FAKE_FAULT", "").partition("@")
    where, _, nth = where.partition("#")
    if where not in {point, f"{point}:{scheme}"}:
        return ""
    _REACHED[where] += 1
    if nth and _REACHED[where] != int(nth):
        return ""
    kind, _, pipe = kind.partition(":")
    if kind == "wait":
        Path(pipe).read_bytes()
    elif kind.startswith("hang"):
        time.sleep(float(kind.removeprefix("hang") or HANG_S))
    elif kind in FAULTS:
        FAULTS[kind](point)
    return kind


def _crash(_point: str) -> None:
    os.abort()


def _kill(_point: str) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _deaf(_point: str) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    time.sleep(HANG_S)


def _hoard(_point: str) -> None:
    bytearray(HOARD_BYTES)


def _garbage(_point: str) -> None:
    sys.stdout.write('{"outcome": "ok"}\n' * 1000)


def _error(_point: str) -> None:
    raise RuntimeError("a fault that was asked for")


def _memory(point: str) -> None:
    raise DoesNotFit(point, wanted_bytes=2 * 10**12, had_bytes=10**12)


def _unsupported(_point: str) -> None:
    raise Unsupported("a fault that was asked for")


FAULTS: dict[str, Callable[[str], None]] = {
    "crash": _crash, "kill": _kill, "deaf": _deaf, "hoard": _hoard, "garbage": _garbage, "error": _error,
    "memory": _memory, "unsupported": _unsupported,
}  # fmt: skip
