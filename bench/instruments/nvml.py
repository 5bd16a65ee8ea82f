# SPDX-License-Identifier: Apache-2.0
"""Find the visible GPU, and count its memory through the driver for engines without an allocator of their own."""

from __future__ import annotations

import contextlib
import os
from types import ModuleType

from bench.instruments import Reading
from bench.instruments.memory import HighestRead, device_memory, process_bytes


def visible_gpu(nvml: ModuleType, position: int = 0) -> object:
    """The driver's handle of the first GPU that CUDA_VISIBLE_DEVICES leaves, or of a later one; None where it hides it.

    Numbers are the driver's own, as nvidia-smi prints them, which CUDA's need not be (it begins with the fastest card):
    so whoever computes is given the UUID of what this finds. Of a card that is cut into instances (MIG) it is the first
    instance, for CUDA computes on one alone. Raises NVMLError.
    """
    shown = os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")
    first = shown[position].strip() if position < len(shown) else ""
    if first in {"", "-1"}:
        return None
    if first.startswith("MIG-"):
        return nvml.nvmlDeviceGetHandleByUUID(first)
    card = nvml.nvmlDeviceGetHandleByIndex(int(first)) if first.isdigit() else _by_uuid(nvml, first)
    with contextlib.suppress(nvml.NVMLError, AttributeError):  # no such cards, or an older driver
        if nvml.nvmlDeviceGetMigMode(card)[0]:
            for index in range(nvml.nvmlDeviceGetMaxMigDeviceCount(card)):
                with contextlib.suppress(nvml.NVMLError):
                    return nvml.nvmlDeviceGetMigDeviceHandleByIndex(card, index)
    return card


def _by_uuid(nvml: ModuleType, start: str) -> object:
    """The card of that UUID, or of the only one that begins so, as CUDA lets people write it."""
    try:
        return nvml.nvmlDeviceGetHandleByUUID(start)
    except nvml.NVMLError:
        for index in range(nvml.nvmlDeviceGetCount()):
            card = nvml.nvmlDeviceGetHandleByIndex(index)
            with contextlib.suppress(nvml.NVMLError):  # one that does not tell is not the one that was named
                uuid = nvml.nvmlDeviceGetUUID(card)
                if (uuid.decode() if isinstance(uuid, bytes) else str(uuid)).startswith(start):
                    return card
        raise


class NvmlMemory(HighestRead):
    """A process's memory on one NVIDIA GPU as the driver counts it.

    NVML cannot tell processes apart in some containers; then the figure is the device's use minus what it was when
    this was made, and `name` says so; where the driver tells no memory at all, it is the host's. The driver keeps no
    high-water mark: the peak is the highest figure read since the reset. That is the peak of an engine which reserves
    all it will use before it computes, as llama.cpp does, if it is read while the work's memory is still held.
    """

    def __init__(self, nvml: ModuleType | None = None) -> None:
        import pynvml

        self.nvml = nvml or pynvml
        self.nvml.nvmlInit()
        self.handle = visible_gpu(self.nvml)
        self.base = device_memory(self.nvml, self.handle).used
        self.name = "NVML process"

    def _bytes(self) -> int:
        own = process_bytes(self.nvml, self.handle)
        if own is not None:
            self.name = "NVML process"
            return own
        found = device_memory(self.nvml, self.handle)
        now = found.used - self.base
        if now > 0:  # memory is in use and the driver does not say by whom; it may, once this process has a context
            self.name = found.minus_baseline
        return max(0, now)

    def read(self) -> Reading:
        """The driver's figure now."""
        total = self._bytes()
        self.highest = max(self.highest, total)
        return Reading(total_bytes=total)

    def trim(self) -> None:
        """Nothing is held that this could give back."""

    def limit(self, total_bytes: int) -> None:
        """Raise MemoryError: the driver alone cannot hold a process to a number of bytes."""
        raise MemoryError("this engine has no memory fraction on a GPU, so no limit can be enforced on it")

    def capacity_bytes(self) -> int:
        """Free memory of the device plus what this process holds."""
        return device_memory(self.nvml, self.handle).free + self._bytes()
