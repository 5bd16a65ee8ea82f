# SPDX-License-Identifier: Apache-2.0
"""The fake backend's memory, which is arithmetic, and its clock where noise is asked for."""

from __future__ import annotations

import os
import random

from bench.instruments import Reading
from bench.instruments.clock import VirtualClock

BASELINE_BYTES = 100_000_000


class ArithmeticMemory:
    """Memory as the engine says it is, with a resettable high-water mark."""

    name = "arithmetic"

    def __init__(self) -> None:
        self.bytes = self.highest = BASELINE_BYTES

    @property
    def remembers(self) -> bool:
        """Only where a fault makes it."""
        return os.environ.get("BENCH_FAKE_FAULT", "").startswith("leak")

    def use(self, change: int) -> None:
        """Take (or give back) bytes."""
        self.bytes += change
        self.highest = max(self.highest, self.bytes)

    def read(self) -> Reading:
        """Bytes now."""
        return Reading(total_bytes=self.bytes)

    def trim(self) -> None:
        """Nothing is held that is not used."""

    def reset_peak(self) -> None:
        """Start the mark again."""
        self.highest = self.bytes

    def peak(self) -> Reading:
        """Highest since the reset."""
        return Reading(total_bytes=self.highest)

    def limit(self, total_bytes: int) -> None:
        """Arithmetic needs none."""

    def capacity_bytes(self) -> int:
        """Far more than it ever uses."""
        return 10**12


class NoisyClock(VirtualClock):
    """Every duration longer or shorter, drawn evenly, by up to a known share."""

    def __init__(self, share: float, seed: int) -> None:
        super().__init__()
        self.random, self.share = random.Random(seed), share

    def advance(self, seconds: float) -> None:
        """Let about that much time pass."""
        super().advance(seconds * (1 + self.share * self.random.uniform(-1, 1)))
