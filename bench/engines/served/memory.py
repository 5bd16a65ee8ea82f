# SPDX-License-Identifier: Apache-2.0
"""Memory of the server that this process launched, and of everything it started: the counters of every other engine.

Before the server runs there is nothing, so its figures are those of the whole server: program, libraries, weights and
the room that it keeps for keys and values.
"""

from __future__ import annotations

import contextlib
import sys
from types import ModuleType

import psutil

from bench.engines.served import server
from bench.instruments import Reading
from bench.instruments.memory import HighestRead, ProcessMemory, device_memory, host_free_bytes, process_bytes
from bench.instruments.nvml import NvmlMemory

NOTHING = Reading(total_bytes=0)


def _pids() -> list[int]:
    return [process.pid for process in server.running.tree()] if server.running else []


class ServerMemory(ProcessMemory):
    """Resident bytes of the server's processes from the kernel (Linux)."""

    def __init__(self) -> None:
        super().__init__()
        own = ProcessMemory()  # there is no server yet that could be tried
        self.resettable, self.name = own.resettable, own.name

    def _pids(self) -> list[int]:
        found = _pids()
        if found:  # what samples beside this counter begins at the same process
            self.process = psutil.Process(found[0])
        return found

    def read(self) -> Reading:
        """Nothing where no server is."""
        return super().read() if _pids() else NOTHING

    def peak(self) -> Reading:
        """The same."""
        return super().peak() if _pids() else NOTHING

    def trim(self) -> None:
        """The server's memory is its own to give back."""

    def capacity_bytes(self) -> int:
        """Free memory, and what the server holds."""
        return host_free_bytes() + self.read().total_bytes


class ServerResident(HighestRead):
    """The same where the kernel is another: resident bytes as they are read."""

    name = "rss, highest read"

    def read(self) -> Reading:
        """Now."""
        total = 0
        for pid in _pids():
            with contextlib.suppress(psutil.Error):
                total += int(psutil.Process(pid).memory_info().rss)
        self.highest = max(self.highest, total)
        return Reading(total_bytes=total)

    def trim(self) -> None:
        """The server's memory is its own to give back."""

    def limit(self, total_bytes: int) -> None:
        """Nothing: the limit stands around the process already."""

    def capacity_bytes(self) -> int:
        """Free memory, and what the server holds."""
        return host_free_bytes() + self.read().total_bytes


class ServerGpuMemory(NvmlMemory):
    """What the driver counts for the server's processes on the visible GPU; the highest read is the peak."""

    def __init__(self, nvml: ModuleType | None = None) -> None:
        super().__init__(nvml)
        self.name = "NVML processes"

    def _bytes(self) -> int:
        own = [process_bytes(self.nvml, self.handle, pid) for pid in _pids()]
        known = [count for count in own if count is not None]
        if known:
            self.name = "NVML processes"
            return sum(known)
        found = device_memory(self.nvml, self.handle)
        now = found.used - self.base
        if now > 0:  # in use, and the driver does not say by whom
            self.name = found.minus_baseline
        return max(0, now)


def counter(device: str) -> ServerMemory | ServerResident | ServerGpuMemory:
    """The one for a kind of device."""
    if device == "cuda":
        return ServerGpuMemory()
    return ServerMemory() if sys.platform == "linux" else ServerResident()
