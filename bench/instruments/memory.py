# SPDX-License-Identifier: Apache-2.0
"""Memory counters: the kernel's for a process tree, the driver's for a process on a GPU."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import psutil

from bench.instruments import Reading, container

KIB = 1024


class ProcessMemory:
    """Resident bytes of this process and its children, from the kernel.

    Linux: `smaps_rollup` for now, `VmHWM` (resettable by writing 5 to `clear_refs`, see proc(5)) for the peak.
    Elsewhere: psutil's resident set now, and the process's own high-water mark, which cannot be reset; then
    `resettable` is False and a peak lower than an earlier one cannot be seen.
    """

    remembers = True

    def __init__(self) -> None:
        self.process = psutil.Process()
        self.apart: set[int] = set()
        """Child processes that are instruments, so they are not part of what is measured."""
        self.linux = sys.platform == "linux"
        self.resettable = self.linux and self._try_reset()
        self.name = "VmHWM" if self.resettable else "VmHWM since start" if self.linux else "ru_maxrss"

    def _pids(self) -> list[int]:
        children = [child.pid for child in self.process.children(recursive=True)]
        return [self.process.pid, *(pid for pid in children if pid not in self.apart)]

    def _try_reset(self) -> bool:
        try:
            for pid in self._pids():
                with contextlib.suppress(ProcessLookupError):  # a child that ended, not yet reaped
                    Path(f"/proc/{pid}/clear_refs").write_text("5")
        except OSError:
            return False
        return True

    def read(self) -> Reading:
        """Resident, proportional, anonymous and file-backed bytes now, summed over the tree."""
        if not self.linux:
            return Reading(total_bytes=sum(psutil.Process(pid).memory_info().rss for pid in self._pids()))
        found = [_fields(Path(f"/proc/{pid}/smaps_rollup")) for pid in self._pids()]
        if not found[0]:  # a kernel or sandbox without it
            return self._by_status()
        rss, pss, anonymous = (sum(one.get(key, 0) for one in found) for key in ("Rss", "Pss", "Anonymous"))
        return Reading(
            total_bytes=rss, anonymous_bytes=anonymous, file_bytes=rss - anonymous, proportional_bytes=pss,
            counter="smaps_rollup",
        )  # fmt: skip

    def _by_status(self) -> Reading:
        """The same from `status`, which the kernel updates in batches and which does not divide shared pages."""
        found = [_fields(Path(f"/proc/{pid}/status")) for pid in self._pids()]
        rss, anonymous = (sum(one.get(key, 0) for one in found) for key in ("VmRSS", "RssAnon"))
        return Reading(total_bytes=rss, anonymous_bytes=anonymous, file_bytes=rss - anonymous, counter="status")

    def trim(self) -> None:
        """Collect garbage and let glibc return its free heap; elsewhere only the former."""
        gc.collect()
        if self.linux:
            with contextlib.suppress(AttributeError, OSError):
                ctypes.CDLL(None).malloc_trim(0)

    def reset_peak(self) -> None:
        """Start the high-water mark again where the kernel lets us."""
        if self.resettable:
            self._try_reset()

    def peak(self) -> Reading:
        """Highest resident bytes since the reset; children's marks are added, an upper bound if they differ in time."""
        if self.linux:
            marks = (_fields(Path(f"/proc/{pid}/status")).get("VmHWM", 0) for pid in self._pids())
            return Reading(total_bytes=sum(marks))
        import resource  # not on Windows

        unit = 1 if sys.platform == "darwin" else KIB
        return Reading(total_bytes=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit)

    def limit(self, total_bytes: int) -> None:
        """Nothing: the limit stands around the process already."""

    def capacity_bytes(self) -> int:
        """Free memory, or the rest of the container's limit if that is less, plus what this process holds."""
        return host_free_bytes() + int(self.process.memory_info().rss)


def host_free_bytes() -> int:
    """The host's free memory, or the rest of the container's limit if that is less."""
    free, left = psutil.virtual_memory().available, container.left_bytes()
    return free if left is None else min(free, left)


def _fields(path: Path) -> dict[str, int]:
    """`Name:  123 kB` lines of a /proc file, in bytes; none where there is no such file, or its process has ended."""
    fields: dict[str, int] = {}
    try:
        text = path.read_text()
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return fields
    for line in text.splitlines():
        name, _, rest = line.partition(":")
        value, _, unit = rest.strip().partition(" ")
        if unit == "kB":
            fields[name] = int(value) * KIB
    return fields


def _card(nvml: ModuleType, uuid: str) -> object | None:
    """The driver's handle for torch's UUID, which may be a card or an instance of one (MIG); None if it lists none."""
    names = [uuid] if uuid.startswith(("GPU-", "MIG-")) else [f"GPU-{uuid}", f"MIG-{uuid}"]
    for name in names:
        with contextlib.suppress(nvml.NVMLError):
            found: object = nvml.nvmlDeviceGetHandleByUUID(name)
            return found
    return None


def process_bytes(nvml: ModuleType, handle: object | None, pid: int | None = None) -> int | None:
    """Bytes that the driver counts for a process (this one) on a GPU, None if it does not say."""
    if handle is None:
        return None
    try:
        listed = nvml.nvmlDeviceGetComputeRunningProcesses(handle)
    except nvml.NVMLError:
        return None
    used = [process.usedGpuMemory for process in listed if process.pid == (os.getpid() if pid is None else pid)]
    return int(used[0]) if used and used[0] is not None else None


@dataclass(frozen=True)
class DeviceMemory:
    """What everybody together holds of a GPU's memory, and what is free."""

    used: int
    free: int
    whose: str
    """`device`, or `host` where the driver tells no memory: a GPU without one of its own shares the host's."""

    @property
    def minus_baseline(self) -> str:
        """The name of a counter that subtracts what was used before."""
        return "NVML device minus baseline" if self.whose == "device" else "host minus baseline"


def device_memory(nvml: ModuleType, handle: object | None) -> DeviceMemory:
    """A GPU's memory as its driver tells it, else the host's."""
    if handle is not None:
        with contextlib.suppress(nvml.NVMLError):
            told = nvml.nvmlDeviceGetMemoryInfo(handle)
            return DeviceMemory(int(told.used), int(told.free), "device")
    host = psutil.virtual_memory()
    return DeviceMemory(int(host.total - host.available), host_free_bytes(), "host")


class CudaMemory:
    """A process's memory on one NVIDIA GPU: the driver's figure, with the allocator's beside it.

    NVML cannot tell processes apart in some containers; then the figure is the device's use minus what it was
    when this was made, and `name` says so. A GPU that shares the host's memory may have none that NVML knows: then it
    is the host's, with the same words. The driver keeps no high-water mark, but the caching allocator never
    gives back what it reserved, so the peak is the larger of the driver's figure now and the allocator's
    highest reservation plus what the driver holds beyond it (the CUDA context).
    """

    remembers = False

    def __init__(self, torch_cuda: ModuleType, nvml: ModuleType, index: int = 0) -> None:
        self.cuda, self.nvml = torch_cuda, nvml
        nvml.nvmlInit()
        self.handle = _card(nvml, str(torch_cuda.get_device_properties(index).uuid))
        before = device_memory(nvml, self.handle)
        self.base, self.index, self.name = before.used, index, before.minus_baseline
        torch_cuda.init()
        torch_cuda.synchronize(index)  # makes the context, without which the driver does not list this process
        if process_bytes(nvml, self.handle) is not None:
            self.name = "NVML process"

    def _driver_bytes(self) -> int:
        own = process_bytes(self.nvml, self.handle) if self.name == "NVML process" else None
        if own is None:
            own = max(0, device_memory(self.nvml, self.handle).used - self.base)
        return own

    def read(self) -> Reading:
        """The driver's figure now, allocated and reserved beside it."""
        self.cuda.synchronize(self.index)
        return Reading(
            total_bytes=self._driver_bytes(),
            allocated_bytes=int(self.cuda.memory_allocated(self.index)),
            reserved_bytes=int(self.cuda.memory_reserved(self.index)),
        )

    def trim(self) -> None:
        """Give unused blocks back to the driver."""
        gc.collect()
        self.cuda.empty_cache()

    def reset_peak(self) -> None:
        """Start the allocator's marks again, unused blocks given back first."""
        self.trim()
        self.cuda.reset_peak_memory_stats(self.index)

    def peak(self) -> Reading:
        """The highest since the reset."""
        now = self.read()
        reserved = int(self.cuda.max_memory_reserved(self.index))
        beyond = max(0, now.total_bytes - (now.reserved_bytes or 0))
        return Reading(
            counter=f"{self.name}, max_memory_reserved",
            total_bytes=max(now.total_bytes, reserved + beyond),
            allocated_bytes=int(self.cuda.max_memory_allocated(self.index)),
            reserved_bytes=reserved,
        )

    def limit(self, total_bytes: int) -> None:
        """Let the caching allocator have what the driver has not taken already for this process (the context)."""
        total = int(self.cuda.get_device_properties(self.index).total_memory)
        context = self.read().total_bytes - int(self.cuda.memory_reserved(self.index))
        self.cuda.set_per_process_memory_fraction(max(0.0, min(1.0, (total_bytes - context) / total)), self.index)

    def capacity_bytes(self) -> int:
        """Free memory of the device plus what this process holds."""
        return device_memory(self.nvml, self.handle).free + self._driver_bytes()


class HighestRead:
    """A counter without a high-water mark of its own: the peak is the highest figure read since the reset."""

    remembers = False
    highest = 0

    def read(self) -> Reading:
        """Bytes now, `highest` kept."""
        raise NotImplementedError

    def trim(self) -> None:
        """Give back what can be given back."""
        raise NotImplementedError

    def reset_peak(self) -> None:
        """Start again from now, cached blocks given back first: a pool then grows again to what is needed."""
        self.trim()
        self.highest = 0
        self.read()

    def peak(self) -> Reading:
        """The highest figure read since the reset, now included."""
        self.read()
        return Reading(total_bytes=self.highest)


class MpsMemory(HighestRead):
    """Apple's GPU, which shares the host's memory: the driver's allocation for this process.

    The pool only grows between resets, so its size is its peak.
    """

    name = "torch.mps.driver_allocated_memory"

    def __init__(self, torch_mps: ModuleType) -> None:
        self.mps = torch_mps

    def read(self) -> Reading:
        """Driver and tensor bytes now."""
        self.mps.synchronize()
        total = int(self.mps.driver_allocated_memory())
        self.highest = max(self.highest, total)
        return Reading(total_bytes=total, allocated_bytes=int(self.mps.current_allocated_memory()))

    def trim(self) -> None:
        """Give cached blocks back."""
        gc.collect()
        self.mps.empty_cache()

    def limit(self, total_bytes: int) -> None:
        """Never asked: a limit on MPS is refused before anything starts."""

    def capacity_bytes(self) -> int:
        """What Metal recommends as the largest working set."""
        return int(self.mps.recommended_max_memory())
