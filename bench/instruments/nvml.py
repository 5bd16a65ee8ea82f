# SPDX-License-Identifier: Apache-2.0
"""GPU memory by the driver alone, for engines that bring no allocator to ask."""

from __future__ import annotations

import os
from typing import Any

from bench.instruments import Reading
from bench.instruments.memory import HighestRead


class NvmlMemory(HighestRead):
    """A process's memory on one NVIDIA GPU as the driver counts it.

    NVML cannot tell processes apart in some containers; then the figure is the device's use minus what it was when
    this was made, and `name` says so. The driver keeps no high-water mark: the peak is the highest figure read since
    the reset. That is the peak of an engine which reserves all it will use before it computes, as llama.cpp does, if
    it is read while the work's memory is still held.
    """

    def __init__(self, nvml: Any = None, index: int = 0) -> None:
        import pynvml

        self.nvml = nvml or pynvml
        self.nvml.nvmlInit()
        self.handle = self.nvml.nvmlDeviceGetHandleByIndex(index)
        self.base = int(self.nvml.nvmlDeviceGetMemoryInfo(self.handle).used)
        self.name = "NVML process"

    def _bytes(self) -> int:
        if self.name == "NVML process":
            try:
                listed = self.nvml.nvmlDeviceGetComputeRunningProcesses(self.handle)
            except self.nvml.NVMLError:
                listed = []
            used = [p.usedGpuMemory for p in listed if p.pid == os.getpid()]
            if used and used[0] is not None:
                return int(used[0])
            now = int(self.nvml.nvmlDeviceGetMemoryInfo(self.handle).used) - self.base
            if now > 0:  # memory is in use and the driver does not say by whom
                self.name = "NVML device minus baseline"
            return max(0, now)
        return max(0, int(self.nvml.nvmlDeviceGetMemoryInfo(self.handle).used) - self.base)

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
        return int(self.nvml.nvmlDeviceGetMemoryInfo(self.handle).free) + self._bytes()
