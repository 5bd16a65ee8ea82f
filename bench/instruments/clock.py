# SPDX-License-Identifier: Apache-2.0
"""Three clocks: the host's, the host's read after the device is idle, and a virtual one that is moved by hand."""

from __future__ import annotations

import time
from collections.abc import Callable


class HostClock:
    """`time.perf_counter`: right for work that has finished when the call returns."""

    name = "perf_counter"

    def now(self) -> float:
        """Seconds."""
        return time.perf_counter()


class DeviceClock:
    """The host's clock, read after `synchronize` says that the device has finished its queue."""

    def __init__(self, synchronize: Callable[[], object], name: str) -> None:
        self.synchronize = synchronize
        self.name = f"perf_counter after {name}"

    def now(self) -> float:
        """Seconds."""
        self.synchronize()
        return time.perf_counter()


class VirtualClock:
    """Time that passes only when told to, so that known durations come back exactly."""

    name = "virtual"

    def __init__(self) -> None:
        self.seconds = 0.0

    def now(self) -> float:
        """Seconds."""
        return self.seconds

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self.seconds += seconds
