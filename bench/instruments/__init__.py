# SPDX-License-Identifier: Apache-2.0
"""Instruments measure; they never print and know nothing of models."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

__all__ = [
    "clock",
    "container",
    "distributions",
    "disturbance",
    "energy",
    "machine",
    "memory",
    "neighbours",
    "nvml",
    "roof",
    "sampler",
    "several_cards",
]


class Clock(Protocol):
    """Seconds from an arbitrary start, read when the device has finished what it was given."""

    name: str

    def now(self) -> float:
        """Seconds."""


@dataclass(frozen=True, kw_only=True)
class Reading:
    """Bytes in use at one moment, or at their highest. None where the counter does not tell."""

    total_bytes: int
    """The figure that `MemoryCounter.name` names."""
    anonymous_bytes: int | None = None
    """CPU: private memory that no file backs."""
    file_bytes: int | None = None
    """CPU: mapped from files, such as weights and libraries."""
    proportional_bytes: int | None = None
    """CPU: resident, shared pages divided among their users (PSS)."""
    allocated_bytes: int | None = None
    """GPU: live tensors of the framework's allocator."""
    reserved_bytes: int | None = None
    """GPU: what that allocator holds, live or not."""
    counter: str = field(default="", compare=False)
    """Which counter gave the total where it is not the one that `MemoryCounter.name` names."""


class MemoryCounter(Protocol):
    """Memory of the process (CPU) or of the process on its device (GPU)."""

    name: str
    """Which counter gives `total_bytes`."""

    @property
    def remembers(self) -> bool:
        """Whether earlier work shows in later peaks: a heap keeps pieces of what was freed, a mark stays set."""

    def read(self) -> Reading:
        """What is in use now."""

    def trim(self) -> None:
        """Give memory that is freed but still held back to the system, where there is a way."""

    def reset_peak(self) -> None:
        """Start the high-water mark again."""

    def peak(self) -> Reading:
        """The highest `total_bytes` since the last reset (other fields where the counter keeps them)."""

    def capacity_bytes(self) -> int:
        """What the device could still give at this moment plus what is in use here."""

    def limit(self, total_bytes: int) -> None:
        """Refuse this process more than that from now on. Only a GPU's counter can: a CPU's limit is set outside."""


@dataclass(frozen=True)
class Instruments:
    """What measures one device."""

    clock: Clock
    memory: MemoryCounter
