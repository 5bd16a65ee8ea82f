# SPDX-License-Identifier: Apache-2.0
"""Energy from counters through the `zeus` package: NVIDIA's total-energy counter, RAPL, Apple's.

Differences of counters, never power samples. A window that proves nothing has a reason instead of a number: shorter
than counters are updated, no energy counted, a counter that ran backwards (RAPL wraps around, seen at once in windows
of seconds), or one that could not be read. The device must have finished its work when a window begins and ends: that
is the caller's to see to, with its clock, because zeus waits through torch, which not every engine has.
"""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from bench.instruments.machine import spread

if TYPE_CHECKING:
    from zeus.device.cpu.common import CPUs
    from zeus.device.gpu.common import GPUs
    from zeus.monitor import ZeusMonitor
    from zeus.monitor.energy import Measurement

T = TypeVar("T")
LEAST_WINDOW_S = 0.5
"""NVML updates its energy counter every 20 to 100 ms: shorter windows are off by more than a tenth."""
INSTALL = "zeus is not installed: pip install -e '.[energy]'"
NO_COUNTER = "no counter on this device"
VIRTUAL = "a virtual device uses none"


@dataclass(frozen=True, kw_only=True)
class Window:
    """Energy of one stretch of work."""

    seconds: float
    joules: float | None
    reason: str = ""
    """Why there is no figure, empty if there is one."""


class Meter:
    """Counters of one device, read at the ends of a window."""

    def __init__(self, monitor: ZeusMonitor, device: str) -> None:
        self.monitor, self.device = monitor, device
        self.name = f"zeus {'NVML' if device == 'cuda' else 'SoC' if device == 'mps' else 'RAPL'}"

    def window(self, work: Callable[[], object]) -> Window:
        """Do the work between two readings of the counters. If the first reading fails, the work is not done."""
        _, reason = _asked(lambda: self.monitor.begin_window("bench", sync_execution=False))
        if reason:
            return Window(seconds=0.0, joules=None, reason=reason)
        try:
            work()
        except BaseException:
            with contextlib.suppress(Exception):
                self.monitor.end_window("bench", sync_execution=False, cancel=True)
            raise
        found, reason = _asked(lambda: self.monitor.end_window("bench", sync_execution=False))
        if found is None:
            return Window(seconds=0.0, joules=None, reason=reason)
        return judged(float(found.time), self._joules(found))

    def _joules(self, found: Measurement) -> float | None:
        """Joules of the device, on a CPU including its memory if RAPL counts that separately."""
        if self.device == "cuda":
            return float(sum(found.gpu_energy.values())) if found.gpu_energy else None
        if self.device == "mps":
            soc = found.soc_energy
            parts = [getattr(soc, name, None) for name in ("cpu_total_mj", "gpu_mj", "dram_mj")]
            known = [part for part in parts if part is not None]
            return sum(known) / 1000 if known else None
        if not found.cpu_energy:
            return None
        return float(sum(found.cpu_energy.values()) + sum((found.dram_energy or {}).values()))


def judged(seconds: float, joules: float | None) -> Window:
    """A window with its joules, or with the reason why the figure proves nothing."""
    reason = ""
    if joules is None:
        reason = NO_COUNTER
    elif seconds < LEAST_WINDOW_S:
        reason = f"the window of {seconds:.2f} s is shorter than counters can tell"
    elif joules < 0:
        reason = "the counter ran backwards"
    elif joules == 0:
        reason = "the counter did not move"
    return Window(seconds=seconds, joules=None if reason else joules, reason=reason)


def open_meter(device: str, clock: str) -> Meter | str:
    """The counters of a device kind, or why there are none. Imports zeus, which takes about a second."""
    if clock == "virtual":
        return VIRTUAL
    try:
        from zeus.device import get_gpus
        from zeus.monitor import ZeusMonitor
    except ImportError as error:
        missing = (error.name or "zeus").split(".")[0]
        return INSTALL if missing == "zeus" else f"zeus lacks {missing}: pip install -e '.[energy]'"

    def opened() -> ZeusMonitor:
        indices = [_counting_gpu(get_gpus())] if device == "cuda" else []
        monitor = ZeusMonitor(gpu_indices=indices, cpu_indices=None if device == "cpu" else [])
        if device == "cpu":
            monitor.cpu_indices = _packages(monitor.cpus)
        return monitor

    monitor, reason = _asked(opened)
    if monitor is None:
        return reason
    there = {"cuda": monitor.gpu_indices, "cpu": monitor.cpu_indices, "mps": monitor.soc_is_present}[device]
    if not there:
        return NO_COUNTER + (" (RAPL is absent, or only root may read it)" if device == "cpu" else "")
    return Meter(monitor, device)


class _CountsNone(Exception):
    """This device has no energy counter; the message says why."""


def _asked(call: Callable[[], T]) -> tuple[T | None, str]:
    """What the counter answers, or why it does not: a counter that cannot be read must not cost the cell."""
    try:
        return call(), ""
    except Exception as error:  # noqa: BLE001 - drivers and permissions fail in many ways
        return None, _lacking(error)


def _lacking(error: Exception) -> str:
    if isinstance(error, _CountsNone):
        return f"{NO_COUNTER}: {error}"
    return f"{NO_COUNTER}: {type(error).__name__}: {error}".split("\n")[0][:160]


def _counting_gpu(gpus: GPUs) -> int:
    """Which of zeus's GPUs torch calls the first: NVML counts along the bus, CUDA the fastest first.

    Raises _CountsNone where it has no energy counter: zeus would sample its power instead.
    """
    if spread() > 1:
        raise _CountsNone("the model is spread over several cards, each with a counter of its own")
    index, torch = 0, sys.modules.get("torch")
    if torch is not None:
        import pynvml

        wanted = str(torch.cuda.get_device_properties(0).uuid).removeprefix("GPU-")
        listed = [str(pynvml.nvmlDeviceGetUUID(gpu.handle)).removeprefix("GPU-") for gpu in gpus.gpus]
        if wanted not in listed:
            raise _CountsNone("NVML does not list it")
        index = listed.index(wanted)
    if not gpus.supports_get_total_energy_consumption(index):
        raise _CountsNone("GPUs before Volta count no energy")
    return index


class _NoWraps:
    """Stands for zeus's process that counts wraparounds, one for each zone.

    They would start within the idle window and poll for ever after, be part of the process tree whose memory later
    suites read, and count a wraparound up to a second late, in the wrong window. A wraparound within our windows of
    seconds shows as a counter that ran backwards.
    """

    def get_num_wraparounds(self) -> int:
        """None is counted."""
        return 0


def _packages(cpus: CPUs) -> list[int]:
    """Indices of the CPU packages. Laptops have a zone `psys` beside them: the whole machine, packages included."""
    found = []
    for index, cpu in enumerate(cpus.cpus):
        zone = getattr(cpu, "rapl_file", None)  # zeus's daemon reads for us and does not tell a zone's name
        if zone is None or zone.name.startswith("package"):
            found.append(index)
        for file in filter(None, (zone, getattr(cpu, "dram", None))):
            file._wraparound_tracker = _NoWraps()  # noqa: SLF001 - zeus 0.16.0 has no option for it
    return found


def idle(meter: Meter, seconds: float) -> Window:
    """Energy that the idle device takes."""
    return meter.window(lambda: time.sleep(seconds))
