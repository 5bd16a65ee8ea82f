# SPDX-License-Identifier: Apache-2.0
"""Several cards of one box: one call of its own for each, side by side, which share the cells by their claims.

Each sees one card alone, holds that card's lock, and draws the next job that nobody has taken; what the others took it
finds answered at the end. Only cards measure side by side: what computes on the CPU would be slowed down by whatever
stands beside it. The calls end with the one that started them.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import IO

from bench.errors import UserError
from bench.instruments import machine
from bench.processes import module

PART = "BENCH_PART_OF"
"""Told to such a call: whose it is. It shows no tables and publishes nothing."""
WORST = (130, 2, 1)


def named(very: Sequence[str]) -> tuple[str, ...]:
    """The cards that are meant, `all` for every one; `cuda:0+cuda:1` are two that measure as one.

    Raises UserError where one is not there.
    """
    there = [f"cuda:{index}" for index in range(len(machine.cards()))]
    if tuple(very) == ("all",):
        return tuple(there)
    for name in (part for group in very for part in group.split(machine.TOGETHER)):
        if name not in there:
            has = ", ".join(there) or f"no NVIDIA GPU; --device {machine.device_kind()}"
            raise UserError(f"this machine has no {name}", f"it has {has}")
    return tuple(very)


def is_part() -> bool:
    """Whether this call is one of several that another started."""
    return bool(os.environ.get(PART))


def side_by_side(devices: Sequence[str], budget_s: float | None, tell: Callable[[str], None]) -> int:
    """Give this process's command once for each of these devices and wait; returns the worst exit code.

    A budget counts for all of them together and is shared by what is predicted: each device is handed as many times of
    it as there are devices, for it will answer only a part of the cells.
    """
    more = [] if budget_s is None else ["--budget", f"{budget_s * len(devices):g}s"]
    own = {**os.environ, PART: str(os.getpid())}
    calls = [
        subprocess.Popen(
            module("bench", *sys.argv[1:], "--device", name, *more), env=own, text=True, start_new_session=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, errors="replace",
        )
        for name in devices
    ]  # fmt: skip
    pairs = zip(devices, calls, strict=True)
    heard = [threading.Thread(target=_pass_on, args=(name, call.stderr, tell), daemon=True) for name, call in pairs]
    for thread in heard:
        thread.start()
    with _passing_on_signals(calls):
        codes = [call.wait() for call in calls]
    for thread in heard:
        thread.join()
    return next((code for code in WORST if code in codes), max(codes, key=abs))


def _pass_on(name: str, said: IO[str] | None, tell: Callable[[str], None]) -> None:
    for line in said or ():
        tell(f"{name}: {line.rstrip()}")


@contextmanager
def _passing_on_signals(calls: Sequence[subprocess.Popen[str]]) -> Iterator[None]:
    """What this process is asked, its calls are asked: each of them lets its suite end first, or ends at once."""

    def passed(number: int, frame: FrameType | None) -> None:
        for call in calls:
            call.send_signal(number)

    before = {number: signal.signal(number, passed) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
